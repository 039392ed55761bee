"""The command line: the verbs that a person would guess. No logic, only words in and words out.

Exit codes: 0 done (a kept champion too); 1 rolled back or aborted; 2 mend the input; 3 mend this
machine; 4 run again later; 5 somebody else is at it; 6 the record does not hold.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from coalmine.errors import CoalmineError, InputError

if TYPE_CHECKING:  # every command imports only what it needs: the command line starts in a blink
    from coalmine.operations.deliver import Delivered
    from coalmine.operations.workspace import Workspace
    from coalmine.rollout.ports import Ask

app = typer.Typer(
    name="coalmine",
    help="Retrain models on a schedule, record every release in Git, put it in front of users step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
new = typer.Typer(help="Write a commented starter that runs as it is.", no_args_is_help=True)
app.add_typer(new, name="new")
image = typer.Typer(help="The image that a cluster serves with.", no_args_is_help=True)
app.add_typer(image, name="image")

ROLLED_BACK = 1


class Data(StrEnum):
    NONE = "none"
    NEXT = "next"
    ALL = "all"


class TaskName(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


ModelName = Annotated[str, typer.Argument(help="A model: a folder of models/.")]
EnvironmentName = Annotated[str, typer.Option("--environment", "-e", help="An environment of coalmine.yaml.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


# --- a repository of one's own ---------------------------------------------------------


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="An empty or new folder.")]) -> None:
    """Write a repository of your own, with two example models, its Git remote and its DVC remote."""
    from coalmine.scaffold.repository import init as write_repository

    write_repository(directory)
    _say(f"{directory} is ready. Try:")
    _say(
        f"  cd {directory}\n  coalmine ingest german-credit\n"
        "  coalmine retrain credit-risk\n  coalmine deliver credit-risk"
    )


@new.command("model")
def new_model(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    dataset: Annotated[str, typer.Option(help="The dataset it learns from: a folder of data/.")],
    task: Annotated[TaskName, typer.Option(help="What kind of answer it gives.")] = TaskName.BINARY,
    target: Annotated[
        str | None, typer.Option(help="The column it predicts; default: the dataset's last.")
    ] = None,
) -> None:
    """A new model: models/NAME/ with model.yaml and its DVC pipeline."""
    from coalmine.scaffold.repository import new_model as write_model
    from coalmine.spec import Task

    for path in write_model(_workspace().top, name, dataset, Task(task.value), target):
        _say(f"wrote {path}")


@new.command("dataset")
def new_dataset(
    name: Annotated[str, typer.Argument(help="Lower-case words joined by dashes.")],
    files: Annotated[
        str, typer.Option(help="CSV or Parquet: a path or URL, with {partition} where there are several.")
    ],
) -> None:
    """A new dataset: data/NAME/ with its schema, read off the file."""
    from coalmine.scaffold.repository import new_dataset as write_dataset

    for path in write_dataset(_workspace().top, name, files):
        _say(f"wrote {path}")


# --- the steps of a release ------------------------------------------------------------


@app.command()
def ingest(
    dataset: Annotated[str, typer.Argument(help="A dataset: a folder of data/.")],
    partitions: Annotated[
        list[str] | None, typer.Argument(help="Default: all that the source offers.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Take partitions again whose rows have changed.")] = False,
) -> None:
    """Take new partitions in, checked against the dataset's schema, and version them."""
    from coalmine.operations.ingest import NewData
    from coalmine.operations.ingest import ingest as take_in

    workspace = _workspace()
    take_in(workspace, dataset, partitions or NewData.ALL, _say, replace=replace)


@app.command()
def retrain(
    model: ModelName,
    data: Annotated[
        Data, typer.Option(help="What to ingest first: nothing, the next partition, or all new ones.")
    ] = Data.NONE,
    partition: Annotated[
        list[str] | None, typer.Option(help="Ingest this partition first; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a challenger, compare it with the champion, and record the release, or why the champion stays."""
    from coalmine.operations.ingest import NewData
    from coalmine.operations.retrain import retrain as run
    from coalmine.operations.who import person

    workspace = _workspace()
    wanted = partition or NewData(data.value)
    recorded = run(workspace, model, person(workspace), _quiet_if(as_json), data=wanted)
    if as_json:
        _print_json(recorded)
    elif recorded.version is None:
        _say(f"The champion stays: {recorded.champion or 'there is none yet'}.")
    elif recorded.changed:
        _say(f"Released {model} {recorded.version}. Put it in front of the users: coalmine deliver {model}")


@app.command()
def deliver(
    model: ModelName,
    environment: EnvironmentName = "local",
    version: Annotated[str | None, typer.Option(help="Default: the newest release.")] = None,
    retry: Annotated[bool, typer.Option(help="Roll out again what was turned away here before.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a release in front of the users, step by step. Ctrl-C brings them back to stable."""
    from coalmine.operations.deliver import deliver as run
    from coalmine.operations.who import person

    workspace = _workspace()
    trigger = person(workspace)
    with _watching(workspace, model, environment, quiet=as_json):
        ended = run(workspace, model, environment, trigger, _quiet_if(as_json), version=version, retry=retry)
    _end(ended, as_json)


@app.command()
def rollback(
    model: ModelName,
    environment: EnvironmentName = "local",
    to: Annotated[str | None, typer.Option(help="A version; default: the one in the other slot.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the users back to an older release: the route first, then the record."""
    from coalmine.operations.rollback import roll_back
    from coalmine.operations.who import person

    workspace = _workspace()
    done = roll_back(workspace, model, environment, person(workspace), _quiet_if(as_json), to=to)
    if as_json:
        _print_json(done)


@app.command()
def fetch(
    into: Annotated[Path, typer.Option(help="The folder that holds the release then; empty or new.")],
    model: Annotated[
        str | None, typer.Argument(help="A model of this repository; without it, by --digest.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Of MODEL; default: the newest release.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="Without Git: the release's manifest.yaml.")] = None,
    digest: Annotated[str | None, typer.Option(help="Without Git: the manifest's sha256.")] = None,
    remote: Annotated[str | None, typer.Option(help="Without Git: the DVC remote's address.")] = None,
    code: Annotated[Path | None, typer.Option(help="Without Git: a folder with pipelines/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring a release by digest into a folder that a model server starts from."""
    from coalmine.operations.fetch import fetch_digest, fetch_version

    if model and not (manifest or digest or remote or code):
        fetched = fetch_version(_workspace(), model, version, into)
    elif manifest and digest and remote and code and not (model or version):
        fetched = fetch_digest(manifest, digest, remote, code, into)
    else:
        raise InputError(
            "Name a MODEL of this repository, or, where there is no Git, all of --manifest, --digest, "
            "--remote and --code"
        )
    if as_json:
        _print_json(fetched)
    else:
        size = f"{fetched.bytes / 1e6:.1f} MB"
        _say(f"{fetched.model} {fetched.version} ({fetched.digest[:12]}, {size}) is in {fetched.folder}.")


@image.command("build")
def build_image(
    tag: Annotated[
        str | None, typer.Option(help="HOST/TEAM/NAME, to which the commit is added; default: the folder's.")
    ] = None,
    push: Annotated[bool, typer.Option(help="Publish it, and record its digest in Git.")] = False,
    options: Annotated[
        list[str] | None, typer.Argument(help="After two dashes: options of the tool's build command.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the model server's image of this commit with docker, podman or buildah, and publish it."""
    from coalmine.operations.image import build_image as build

    built = build(_workspace(), _quiet_if(as_json), tag=tag, push=push, options=options or ())
    if as_json:
        _print_json(built)
    else:
        _say(f"{built.reference}\n{built.digest}")


# --- a rollout under way ---------------------------------------------------------------


@app.command()
def pause(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Take no further step; the gates keep watching and may still roll back."""
    from coalmine.rollout.ports import Ask

    _steer(model, environment, Ask.PAUSE)


@app.command()
def resume(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Go on after a pause."""
    from coalmine.rollout.ports import Ask

    _steer(model, environment, Ask.RESUME)


@app.command()
def abort(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Bring the users back to stable."""
    from coalmine.rollout.ports import Ask

    _steer(model, environment, Ask.ABORT)


@app.command()
def promote(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Skip the stages that are left, and the bake."""
    from coalmine.rollout.ports import Ask

    _steer(model, environment, Ask.PROMOTE)


@app.command()
def runner(
    environment: EnvironmentName = "local",
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus metrics and /healthz on this port of loopback.")
    ] = None,
) -> None:
    """Drive every rollout of the environment until SIGTERM, which leaves them to be gone on with."""
    from coalmine.operations.runner import serve
    from coalmine.operations.who import person

    workspace = _workspace()
    serve(workspace, environment, person(workspace), _say, metrics_port=metrics_port)


# --- looking ---------------------------------------------------------------------------


@app.command()
def status(environment: EnvironmentName = "local", as_json: AsJson = False) -> None:
    """What serves now, who gets what, and what a rollout is doing."""
    from coalmine.operations.status import status as look

    found = look(_workspace(), environment)
    if as_json:
        _print_json(found)
        return
    for each in found:
        _say(
            f"{each.model}: {each.stable or 'serves nobody'}"
            + (f" (stable in {environment})" if each.stable else "")
        )
        if each.weights:
            _say(
                "  users: "
                + ", ".join(f"{weight} % on {version}" for version, weight in each.weights.items())
            )
        if each.servers:
            _say("  servers: " + ", ".join(f"{name} {health}" for name, health in each.servers.items()))
        if each.ready_to_go_back_to:
            _say(f"  to go back: coalmine rollback {each.model} (to {each.ready_to_go_back_to})")
        if each.trouble:
            _say(f"  {each.trouble}")
        if each.rollout is not None:
            told = each.rollout.newest.sentence if each.rollout.newest else "starting"
            _say(f"  rollout of {each.rollout.candidate}: {told}")
            if not each.rollout.runner_alive:
                _say(
                    f"  its runner is gone: coalmine deliver {each.model} goes on, "
                    f"coalmine abort {each.model} brings the users back"
                )


@app.command()
def audit(
    model: Annotated[str | None, typer.Argument(help="Default: every model.")] = None,
    environment: EnvironmentName = "local",
    at: Annotated[datetime | None, typer.Option(help="What served at this time (UTC).")] = None,
    as_json: AsJson = False,
) -> None:
    """What served when, why, by whom, with which dataset. Answered from Git alone."""
    from rich.console import Console

    from coalmine.operations.audit import audit as ask
    from coalmine.operations.audit import print_audit

    found = ask(_workspace(), environment, model, at)
    if as_json:
        _print_json(found)
    else:
        print_audit(found, Console())


@app.command()
def report(model: ModelName, environment: EnvironmentName = "local") -> None:
    """Write the page of the newest rollout, and say where it is."""
    from coalmine.operations.report import newest_report

    _say(str(newest_report(_workspace(), model, environment)))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What is missing here, and how to mend it."""
    from coalmine.operations.doctor import Health, examine

    findings = examine(Path.cwd())
    if as_json:
        _print_json(findings)
    else:
        for finding in findings:
            _say(f"{finding.health.value:8} {finding.what}: {finding.detail}")
    if any(finding.health is Health.MISSING for finding in findings):
        raise typer.Exit(2)


# --- this machine's services -----------------------------------------------------------


@app.command()
def up(environment: EnvironmentName = "local") -> None:
    """Start what serves and schedules here: Envoy, model servers, the Prefect server and a worker."""
    from coalmine.operations.platform import up as start

    platform = start(_workspace(), environment, _say)
    _say(f"Users: {platform.users}\nPrefect: {platform.prefect}")


@app.command()
def down(environment: EnvironmentName = "local") -> None:
    """Stop all that `up` or `deliver` started."""
    from coalmine.operations.platform import down as stop

    stop(_workspace(), environment)
    _say("Everything is stopped. `coalmine up` starts it again as it was.")


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end.")] = False,
    directory: Annotated[Path | None, typer.Option(help="Default: .coalmine/demo here.")] = None,
) -> None:
    """The main job, told live: retrain, record, release, and bring a bad release back."""
    from coalmine.demo.story import tell_story

    tell_story(directory or Path(".coalmine/demo"), keep=keep)


# --- words -----------------------------------------------------------------------------


def _workspace() -> Workspace:
    from coalmine.operations.workspace import Workspace

    return Workspace.open(Path.cwd())


def _steer(model: str, environment: str, ask: Ask) -> None:
    from coalmine.operations.steer import steer
    from coalmine.operations.who import person

    workspace = _workspace()
    ended = steer(workspace, model, environment, ask, person(workspace), _say)
    if ended is not None:
        _end(ended, as_json=False)


def _end(ended: Delivered, as_json: bool) -> NoReturn:
    if as_json:
        _print_json(ended)
    elif ended.report is not None:
        _say(f"Report: {ended.report}")
    raise typer.Exit(0 if ended.promoted else ROLLED_BACK)


@contextmanager
def _watching(workspace: Workspace, model: str, environment: str, *, quiet: bool) -> Iterator[None]:
    """The rollout, live; to stderr when stdout is for a program."""
    from rich.console import Console

    from coalmine.terminal import watching

    with watching(workspace.top, environment, model, Console(stderr=quiet)):
        yield


def _say(sentence: str) -> None:
    typer.echo(sentence)


def _quiet_if(as_json: bool) -> Any:
    """Progress goes to stderr when stdout is for a program."""
    return (lambda sentence: typer.echo(sentence, err=True)) if as_json else _say


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(_plain(value), indent=2, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return (
        dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
    )


def main() -> None:
    """The program `coalmine`: one clear error instead of a trace."""
    signal.signal(signal.SIGTERM, _end_in_order)
    try:
        app()
    except CoalmineError as error:
        typer.echo(f"coalmine: {error}", err=True)
        sys.exit(error.exit_code)


def _end_in_order(number: int, _frame: object) -> NoReturn:
    """SIGTERM ends as Ctrl-C does: a delivery brings its users back first."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
