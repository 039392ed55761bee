"""A rollout as a person follows it in a terminal: a live panel, or plain lines where there is none.

Read from the rollout's journal, so it shows the same whoever drives the rollout.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coalmine.audit.situation import next_steps, standing
from coalmine.audit.story import Course, Story, Tally, read_story
from coalmine.errors import Unavailable
from coalmine.journals import journal
from coalmine.journals.rollouts import Rollouts
from coalmine.rollout.gates import GateReading, Verdict
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E
from coalmine.statistics.intervals import confidence_sequence

LOOK_EVERY_S = 0.5
EVENTS_SHOWN = 6
BAR, BARS = 24, 6  # characters

_COLOURS = {
    Course.RUNNING: "cyan",
    Course.ENDING: "yellow",
    Course.PROMOTED: "green",
    Course.ROLLED_BACK: "red",
}


_WORDS = {
    Verdict.PASS: ("passed", "green"),
    Verdict.FAIL: ("failed", "red"),
    Verdict.INCONCLUSIVE: ("undecided", "yellow"),
    Verdict.ERROR: ("could not measure", "yellow"),
}


@contextmanager
def watching(rollouts: Rollouts, model: str, console: Console) -> Iterator[None]:
    """Show the rollouts of `model` that begin, or go on, while the block runs."""
    seen = _Seen(rollouts, model)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            with _every(LOOK_EVERY_S, lambda: _show(live, seen)):
                yield
            _show(live, seen)
    else:
        with _every(LOOK_EVERY_S, lambda: _print_new(console, seen)):
            yield
        _print_new(console, seen)


def rollout_panel(story: Story) -> RenderableType:
    """Where the rollout stands: weight, what it waits for, requests and failures, evidence, newest events."""
    about = story.about
    title = f"{about.model} {about.candidate} → {about.environment}"
    parts = [_weight(story), *_waits(story), "", _arms(story), "", _evidence(story), "", *_events(story)]
    return Panel(
        Group(*parts, "", *_next(story)),
        title=f"[bold]{title}[/]  [{_COLOURS[story.course]}]{story.course.value}[/]",
        border_style=_COLOURS[story.course],
        title_align="left",
    )


class _Seen:
    """The newest rollout's story, once one has begun; and how much of it was printed."""

    def __init__(self, rollouts: Rollouts, model: str) -> None:
        self._rollouts, self._model = rollouts, model
        # A rollout that ended before is old news; one that is unfinished goes on.
        self._old = {folder for folder in self._folders() if not journal.is_running(folder)}
        self.printed: dict[str, int] = {}

    def stories(self) -> list[Story]:
        return [read_story(folder) for folder in self._folders() if folder not in self._old]

    def _folders(self) -> list[Path]:
        with suppress(Unavailable):  # what is here is shown meanwhile
            self._rollouts.refresh(self._model)
        return self._rollouts.folders(self._model)


def _show(live: Live, seen: _Seen) -> None:
    stories = [story for story in seen.stories() if story.events]
    if stories:
        live.update(rollout_panel(stories[-1]))


def _print_new(console: Console, seen: _Seen) -> None:
    for story in seen.stories():
        told = seen.printed.get(story.about.id, 0)
        for event in story.events[told:]:
            at = datetime.fromtimestamp(event.at_s, UTC)
            line = f"{at:%H:%M:%S}  {event.weight_percent:>3} %  {event.sentence}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        seen.printed[story.about.id] = len(story.events)


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, name="rollout view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# --- the parts of the panel ------------------------------------------------------------


def _weight(story: Story) -> Text:
    planned = story.plan.stages if story.plan is not None else ()
    stages = [str(stage) for stage in planned] or [f"{weight} %" for weight in story.about.stages]
    bar = round(BAR * story.weight_percent / 100)
    text = Text.assemble(
        ("█" * bar, _COLOURS[story.course]),
        ("░" * (BAR - bar), "dim"),
        f" {story.weight_percent:>3} % of the users   ",
    )
    here = len(story.stages)  # of those that have begun, the last
    for number, stage in enumerate([*stages, "bake"]):
        text.append(" → " if number else "", "dim")
        text.append(stage, "bold" if number == here - 1 and not story.course.is_over else "dim")
    return text


def _waits(story: Story) -> list[Text]:
    stands = standing(story.events)
    if not stands.sentence:
        return []
    return [Text(f"{stands.situation}: {stands.sentence}", "yellow")]


def _next(story: Story) -> list[Text]:
    """What to type in another terminal; nothing while all is well, but how to keep it where it is."""
    steps = next_steps(story.about, standing(story.events).situation)
    width = max(len(step.command) for step in steps)
    return [
        Text.assemble((f"{step.command:<{width}}  ", "bold"), (step.effect, "dim"), overflow="ellipsis")
        for step in steps
    ]


def _arms(story: Story) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("")
    for heading in ("requests", "failed", "rate", "95 % whenever one looks"):
        table.add_column(heading, justify="right", header_style="dim")
    about = story.about
    table.add_row(f"candidate {about.candidate}", *_counts(story.candidate))
    if about.stable is not None:
        table.add_row(f"stable {about.stable}", *_counts(story.stable))
    return table


def _counts(tally: Tally) -> tuple[str, str, str, str]:
    failures = f"[red]{tally.failures:,}[/]" if tally.failures else "0"
    if tally.failure_rate is None:
        return f"{tally.requests:,}", failures, "", ""
    low, high = confidence_sequence(min(tally.failures, tally.requests), tally.requests)
    return f"{tally.requests:,}", failures, f"{tally.failure_rate:.2%}", f"{low:.2%} to {high:.2%}"


def _evidence(story: Story) -> RenderableType:
    if not story.polls:
        return Text("No evidence yet.", "dim")
    newest = story.polls[-1]
    needed = LAST_PROMOTE_E if newest.stage is None or _is_last(story, newest.stage) else PROMOTE_E
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for reading in newest.gates:
        name = Text(reading.gate)
        if reading.dry_run:
            name.append(" (dry run)", "dim")
        table.add_row(name, _bars(reading, needed), Text(reading.sentence))
    return table


def _is_last(story: Story, stage: int) -> bool:
    return stage == len(story.about.stages) - 1 if story.plan is None else story.plan.is_last(stage)


def _bars(reading: GateReading, needed: float) -> Text:
    """How far the evidence is on its way to both bounds; a check's last word."""
    if not reading.asked:
        return Text("not asked here", "dim")
    if not reading.by_evidence:
        return Text(*_WORDS[reading.verdict or Verdict.INCONCLUSIVE])
    promote = round(BARS * _part(reading.log_e_promote, needed))
    roll_back = round(BARS * _part(reading.log_e_roll_back, ROLL_BACK_E))
    return Text.assemble(
        ("for ", "dim"), ("▮" * promote, "green"), ("▯" * (BARS - promote), "dim"),
        ("  against ", "dim"), ("▮" * roll_back, "red"), ("▯" * (BARS - roll_back), "dim"),
    )  # fmt: skip


def _part(log_e: float, of_e: float) -> float:
    """How far the evidence has come on its way to the bound, 0 to 1."""
    return 0.0 if math.isnan(log_e) else min(max(log_e / math.log(of_e), 0.0), 1.0)


def _events(story: Story) -> list[Text]:
    newest = story.events[-EVENTS_SHOWN:]
    return [
        Text.assemble((f"{datetime.fromtimestamp(event.at_s, UTC):%H:%M:%S}  ", "dim"), event.sentence)
        for event in newest
    ]
