"""The command line: the verbs that a person would guess. No logic, only words in and words out.

Exit codes: 0 done (a kept champion too); 1 rolled back or aborted, or not as Git says; 2 mend the input;
3 mend this machine; 4 run again later; 5 somebody else is at it; 6 the record does not hold.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer

from coalmine.cli import auditing, looking, releases, repository, retention, rollouts, services, watching
from coalmine.cli.words import ROLLED_BACK
from coalmine.errors import CoalmineError

__all__ = ["ROLLED_BACK", "app", "main"]

app = typer.Typer(
    name="coalmine",
    help="Retrain models on a schedule, record every release in Git, put it in front of users step by step.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
new = typer.Typer(help="Write a commented starter that runs as it is.", no_args_is_help=True)
image = typer.Typer(help="The images that a cluster serves and trains with.", no_args_is_help=True)
app.add_typer(new, name="new")
app.add_typer(image, name="image")

new.command("model")(repository.new_model)
new.command("dataset")(repository.new_dataset)
new.command("environment")(repository.new_environment)
new.command("training")(repository.new_training)
image.command("build")(releases.build_image)
for command in (
    repository.init,
    releases.ingest,
    looking.due,
    releases.retrain,
    looking.plan,
    looking.eligible,
    releases.deliver,
    releases.rollback,
    releases.fetch,
    repository.clone,
    releases.pull,
    releases.reproduce,
    rollouts.pause,
    rollouts.resume,
    rollouts.abort,
    rollouts.promote,
    rollouts.approve,
    rollouts.runner,
    looking.status,
    watching.watch,
    auditing.audit,
    looking.report,
    looking.replay,
    looking.verify,
    retention.gc,
    looking.doctor,
    services.up,
    services.down,
    services.demo,
):
    app.command()(command)


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
