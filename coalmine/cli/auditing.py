"""`coalmine audit`: one question at a time, and its answer in the form that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coalmine.cli.words import AsJson, open_workspace, print_json, say
from coalmine.errors import InputError

if TYPE_CHECKING:
    from coalmine.audit.answer import Answer


def audit(
    model: Annotated[
        str | None, typer.Argument(help="Default: every model, a line for each. One model: in full.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="Default: every environment.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="What served then. ISO 8601, UTC without a zone.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="The model's life, oldest first.")] = False,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="What changed after this time.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="What changed until this time.")] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="How it was made, what became of it. A..B: against A."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME[@DIGEST|/PARTITION]", help="Which releases are made of it."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="All that whoever is called so did; with --since and --until."),
    ] = None,
    commit: Annotated[
        str | None, typer.Option(metavar="SHA", help="What it did, and which releases stand on it.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for a spreadsheet.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page to keep, which needs nothing else.")
    ] = None,
) -> None:
    """What served when, why, by whom, with which dataset. Answered from Git alone."""
    from coalmine.operations.audit import open_audit, parse_time

    asked = {
        "--at": at,
        "--history": history or None,
        "--since or --until": None if by else since or until,
        "--version": version,
        "--dataset": dataset,
        "--by": by,
        "--commit": commit,
    }
    given = [option for option, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} are different questions: ask one at a time")
    if as_json and as_csv:
        raise InputError("--json and --csv are different forms of an answer: take one")
    at_time, from_time, to_time = (None if text is None else parse_time(text) for text in (at, since, until))
    opened = open_audit(open_workspace(), model, environment)
    if history:
        answer = opened.history()
    elif by is not None:
        answer = opened.by(by, from_time, to_time)
    elif since is not None or until is not None:
        answer = opened.between(from_time, to_time)
    elif version is not None:
        answer = opened.version(version)
    elif dataset is not None:
        answer = opened.dataset(dataset)
    elif commit is not None:
        answer = opened.commit(commit)
    else:
        answer = opened.at(at_time)
    _give(answer, as_json=as_json, as_csv=as_csv, page=page)


def _give(answer: Answer, *, as_json: bool, as_csv: bool, page: Path | None) -> None:
    if page is not None:
        from coalmine.audit.answer_page import render
        from coalmine.durable import replace_text

        replace_text(page, render(answer))
    if as_json:
        print_json({name: value for name, value in vars(answer).items() if name != "parts"})
    elif as_csv:
        typer.echo(answer.to_csv(), nl=False)
    elif page is None:
        from rich.console import Console

        from coalmine.audit.answer_terminal import print_answer

        print_answer(answer, Console())
    else:
        say(f"Written to {page}")
