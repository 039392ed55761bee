"""The steps of a release, from new data to its users."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coalmine.cli.words import (
    AsJson,
    EnvironmentName,
    ModelName,
    end,
    open_workspace,
    print_json,
    quiet_if,
    say,
    watching,
)
from coalmine.errors import InputError, IntegrityError


class Data(StrEnum):
    NONE = "none"
    NEXT = "next"
    ALL = "all"


class ImageName(StrEnum):
    MODEL_SERVER = "model-server"
    PIPELINES = "pipelines"


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

    workspace = open_workspace()
    take_in(workspace, dataset, partitions or NewData.ALL, say, replace=replace)


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

    workspace = open_workspace()
    wanted = partition or NewData(data.value)
    recorded = run(workspace, model, person(workspace), quiet_if(as_json), data=wanted)
    if as_json:
        print_json(recorded)
    elif recorded.version is None:
        say(f"The champion stays: {recorded.champion or 'there is none yet'}.")
    elif recorded.changed:
        say(f"Released {model} {recorded.version}. Put it in front of the users: coalmine deliver {model}")


def deliver(
    model: ModelName,
    environment: EnvironmentName = "local",
    version: Annotated[
        str | None, typer.Option(help="Default: the newest release that may go there.")
    ] = None,
    retry: Annotated[bool, typer.Option(help="Roll out again what was turned away here before.")] = False,
    despite: Annotated[
        str, typer.Option(help="Why it goes although the environment's rules refuse it, for the record.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Put a release in front of the users, step by step. Ctrl-C brings them back to stable."""
    from coalmine.operations.deliver import deliver as run
    from coalmine.operations.who import person

    workspace = open_workspace()
    trigger = person(workspace)
    with watching(workspace, model, environment, quiet=as_json):
        ended = run(
            workspace,
            model,
            environment,
            trigger,
            quiet_if(as_json),
            version=version,
            retry=retry,
            despite=despite,
        )
    end(ended, as_json)


def rollback(
    model: ModelName,
    environment: EnvironmentName = "local",
    to: Annotated[str | None, typer.Option(help="A version; default: the one before, at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take the users back to an older release: the route first, then the record."""
    from coalmine.operations.rollback import roll_back
    from coalmine.operations.who import person

    workspace = open_workspace()
    done = roll_back(workspace, model, environment, person(workspace), quiet_if(as_json), to=to)
    if as_json:
        print_json(done)
    else:
        record = f"commit {done.commit[:12]}" if done.commit else "made by the rollout's runner"
        moment = f"{done.since:%Y-%m-%d %H:%M:%S} UTC"
        say(f"{model}: {done.now} serves since {moment}, after {done.before}. Record: {record}.")


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
        fetched = fetch_version(open_workspace(), model, version, into)
    elif manifest and digest and remote and code and not (model or version):
        fetched = fetch_digest(manifest, digest, remote, code, into)
    else:
        raise InputError(
            "Name a MODEL of this repository, or, where there is no Git, all of --manifest, --digest, "
            "--remote and --code"
        )
    if as_json:
        print_json(fetched)
    else:
        size = f"{fetched.bytes / 1e6:.1f} MB"
        say(f"{fetched.model} {fetched.version} ({fetched.digest[:12]}, {size}) is in {fetched.folder}.")


def pull(model: ModelName, as_json: AsJson = False) -> None:
    """Bring what a model's stages need from the DVC remote into a fresh clone."""
    from coalmine.operations.pull import pull as bring

    pulled = bring(open_workspace(), model, quiet_if(as_json))
    if as_json:
        print_json(pulled)
    else:
        say(f"Everything that {model} is trained from at {pulled.commit} is here.")


def reproduce(
    model: ModelName,
    version: Annotated[str, typer.Argument(help="Of a release, such as 1.2.0.")],
    keep: Annotated[
        bool, typer.Option(help="Leave the folder where it is built, and say where it is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Build a release again from its record, and say whether it comes out equal, or what differs first."""
    from coalmine.operations.reproduce import reproduce as run

    done = run(open_workspace(), model, version, quiet_if(as_json), keep=keep)
    if as_json:
        print_json(done)
    else:
        for difference in done.differences:
            say(str(difference))
        outcome = f"equal, {done.files} files and all that its stages made" if done.equal else "differs"
        say(f"{model} {done.version}, built again from {done.code[:12]}: {outcome}.")
        if done.folder is not None:
            say(f"It is in {done.folder}.")
    if not done.equal:
        raise typer.Exit(IntegrityError.exit_code)


def build_image(
    image: Annotated[
        ImageName, typer.Option(help="What serves models, or what trains them and drives rollouts.")
    ] = ImageName.MODEL_SERVER,
    tag: Annotated[
        str | None, typer.Option(help="HOST/TEAM/NAME, to which the commit is added; default: the folder's.")
    ] = None,
    push: Annotated[bool, typer.Option(help="Publish it, and record its digest in Git.")] = False,
    options: Annotated[
        list[str] | None, typer.Argument(help="After two dashes: options of the tool's build command.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build an image of this commit with docker, podman or buildah, and publish it."""
    from coalmine.operations.image import build_image as build
    from coalmine.registry.images import KINDS

    (kind,) = (each for each in KINDS if each.name == image.value)
    built = build(open_workspace(), quiet_if(as_json), kind=kind, tag=tag, push=push, options=options or ())
    if as_json:
        print_json(built)
    else:
        say(f"{built.reference}\n{built.digest}")
