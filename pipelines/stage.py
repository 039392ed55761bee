"""How a DVC stage of a model runs: `python -m pipelines.<stage> models/<model>`, from the top of
the repository. Errors that people can mend come without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from coalmine.errors import CoalmineError


def run(stage: Callable[[Path, str], None]) -> None:
    """`stage` takes the top of the repository and the model's name."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m pipelines.{stage.__name__} models/<model>")
    try:
        stage(Path.cwd(), Path(sys.argv[1]).name)
    except CoalmineError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
