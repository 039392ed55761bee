"""This machine's services, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coalmine.cli.words import EnvironmentName, host_and_port, open_workspace, say


def up(environment: EnvironmentName = "local") -> None:
    """Start what serves and schedules here: Envoy, model servers, the Prefect server and a worker."""
    from coalmine.operations.platform import up as start

    platform = start(open_workspace(), environment, say)
    say(f"Users: {platform.users}\nPrefect: {platform.prefect}")


def down(environment: EnvironmentName = "local") -> None:
    """Stop all that `up` or `deliver` started."""
    from coalmine.operations.platform import down as stop

    stop(open_workspace(), environment)
    say("Everything is stopped. `coalmine up` starts it again as it was.")


def demo(
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end.")] = False,
    directory: Annotated[Path | None, typer.Option(help="Default: .coalmine/demo here.")] = None,
    address: Annotated[str, typer.Option(help="Where the users come in.", metavar="HOST:PORT")] = (
        "127.0.0.1:8800"
    ),
) -> None:
    """The main job, told live: retrain, record, release, and bring a bad release back."""
    from coalmine.demo.story import tell_story

    tell_story(directory or Path(".coalmine/demo"), *host_and_port("--address", address), keep=keep)
