"""Files of a repository, written so that a command that is cut short can be run again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from coalmine.durable import replace_text
from coalmine.settings import STATE


def write(top: Path, files: Mapping[Path, str]) -> None:
    """`files`, by their paths from `top`; each of them whole or not at all."""
    for path, text in files.items():
        replace_text(top / path, text)


def add_folder(repository: Path, folder: Path, files: Mapping[str, str]) -> list[Path]:
    """The new `folder` with `files` in it, all of them or none; what was written, from the top."""
    new = repository / STATE / "new" / folder
    shutil.rmtree(new, ignore_errors=True)
    write(new, {Path(name): text for name, text in files.items()})
    (repository / folder).parent.mkdir(parents=True, exist_ok=True)
    new.rename(repository / folder)
    return [folder / name for name in files]
