"""A rollout as a person follows it in a terminal: a live panel, or plain lines where there is none.

Read from the rollout's journal, so it shows the same whoever drives the rollout.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from coalmine.audit import journal
from coalmine.audit.story import Course, Story, Tally, read_story
from coalmine.rollout.gates import GateReading
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E

LOOK_EVERY_S = 0.5
EVENTS_SHOWN = 6
BAR = 24  # characters

_COLOURS = {
    Course.RUNNING: "cyan",
    Course.ENDING: "yellow",
    Course.PROMOTED: "green",
    Course.ROLLED_BACK: "red",
}


@contextmanager
def watching(top: Path, environment: str, model: str, console: Console) -> Iterator[None]:
    """Show the rollouts of `model` that begin, or go on, while the block runs."""
    seen = _Seen(top, environment, model)
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
    """Where the rollout stands: weight, evidence, requests and failures, newest events."""
    about = story.about
    title = f"{about.model} {about.candidate} → {about.environment}"
    return Panel(
        Group(_weight(story), "", _arms(story), "", *_evidence(story), "", *_events(story)),
        title=f"[bold]{title}[/]  [{_COLOURS[story.course]}]{story.course.value}[/]",
        border_style=_COLOURS[story.course],
        title_align="left",
    )


class _Seen:
    """The newest rollout's story, once one has begun; and how much of it was printed."""

    def __init__(self, top: Path, environment: str, model: str) -> None:
        self._where = (top, environment, model)
        # A rollout that ended before is old news; one that is unfinished goes on.
        self._old = {folder for folder in journal.rollouts(*self._where) if not journal.is_running(folder)}
        self.printed: dict[str, int] = {}

    def stories(self) -> list[Story]:
        folders = [folder for folder in journal.rollouts(*self._where) if folder not in self._old]
        return [read_story(folder) for folder in folders]


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
    stages = " → ".join(f"{weight} %" for weight in (*story.about.stages, 100))
    bar = round(BAR * story.weight_percent / 100)
    text = Text.assemble(
        ("█" * bar, _COLOURS[story.course]),
        ("░" * (BAR - bar), "dim"),
        f" {story.weight_percent:>3} % of the users",
    )
    return text.append(f"   ({stages})", "dim")


def _arms(story: Story) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("")
    for heading in ("requests", "failed", "rate"):
        table.add_column(heading, justify="right", header_style="dim")
    about = story.about
    table.add_row(f"candidate {about.candidate}", *_counts(story.candidate))
    if about.stable is not None:
        table.add_row(f"stable {about.stable}", *_counts(story.stable))
    return table


def _counts(tally: Tally) -> tuple[str, str, str]:
    rate = "" if tally.failure_rate is None else f"{tally.failure_rate:.2%}"
    failures = f"[red]{tally.failures:,}[/]" if tally.failures else "0"
    return f"{tally.requests:,}", failures, rate


def _evidence(story: Story) -> list[RenderableType]:
    if not story.polls:
        return [Text("No evidence yet.", "dim")]
    last_stage = story.polls[-1].stage is None or story.polls[-1].stage == len(story.about.stages) - 1
    needed = LAST_PROMOTE_E if last_stage else PROMOTE_E
    return [_gate(reading, needed) for reading in story.polls[-1].gates]


def _gate(reading: GateReading, needed: float) -> Text:
    promote = _part(reading.log_e_promote, needed)
    roll_back = _part(reading.log_e_roll_back, ROLL_BACK_E)
    return Text.assemble(
        f"{reading.gate:<9}",
        ("for ", "dim"), ("▮" * round(10 * promote), "green"), ("▯" * (10 - round(10 * promote)), "dim"),
        ("  against ", "dim"),
        ("▮" * round(10 * roll_back), "red"), ("▯" * (10 - round(10 * roll_back)), "dim"),
        f"  {reading.sentence}",
    )  # fmt: skip


def _part(log_e: float, of_e: float) -> float:
    """How far the evidence has come on its way to the bound, 0 to 1."""
    return min(max(log_e / math.log(of_e), 0.0), 1.0)


def _events(story: Story) -> list[Text]:
    newest = story.events[-EVENTS_SHOWN:]
    return [
        Text.assemble((f"{datetime.fromtimestamp(event.at_s, UTC):%H:%M:%S}  ", "dim"), event.sentence)
        for event in newest
    ]
