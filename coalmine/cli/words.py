"""What the commands share: their usual arguments, and words in and out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from coalmine.errors import InputError

if TYPE_CHECKING:  # every command imports only what it needs: the command line starts in a blink
    from coalmine.operations.deliver import Delivered
    from coalmine.operations.workspace import Workspace
    from coalmine.rollout.ports import Ask

ROLLED_BACK = 1


ModelName = Annotated[str, typer.Argument(help="A model: a folder of models/.")]
EnvironmentName = Annotated[str, typer.Option("--environment", "-e", help="An environment of coalmine.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def open_workspace() -> Workspace:
    from coalmine.operations.workspace import Workspace

    return Workspace.open(Path.cwd())


def host_and_port(option: str, text: str) -> tuple[str, int]:
    """
    Raises:
        InputError: `text` of `option` is not `host:port`.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise InputError(f"{option} {text} is no address: give one such as 127.0.0.1:9090")
    return host, int(port)


def steer(model: str, environment: str, ask: Ask) -> None:
    from coalmine.operations.steer import steer
    from coalmine.operations.who import person

    workspace = open_workspace()
    ended = steer(workspace, model, environment, ask, person(workspace), say)
    if ended is not None:
        end(ended, as_json=False)


def end(ended: Delivered, as_json: bool) -> NoReturn:
    if as_json:
        print_json(ended)
    elif ended.report is not None:
        say(f"Report: {ended.report}")
    raise typer.Exit(0 if ended.promoted else ROLLED_BACK)


@contextmanager
def watching(workspace: Workspace, model: str, environment: str, *, quiet: bool) -> Iterator[None]:
    """The rollout, live; to stderr when stdout is for a program."""
    from rich.console import Console

    from coalmine.operations.environments import open_environment
    from coalmine.terminal import watching

    rollouts = open_environment(workspace, environment).rollouts
    with watching(rollouts, model, Console(stderr=quiet)):
        yield


def say(sentence: str) -> None:
    typer.echo(sentence)


def quiet_if(as_json: bool) -> Any:
    """Progress goes to stderr when stdout is for a program."""
    return (lambda sentence: typer.echo(sentence, err=True)) if as_json else say


def print_json(value: Any) -> None:
    typer.echo(json.dumps(_plain(value), indent=2, default=str))


def _plain(value: Any) -> Any:
    """As JSON can hold it: no infinity is a number there."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if hasattr(value, "model_dump"):  # pydantic's, which not every command imports
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
