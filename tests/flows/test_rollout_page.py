"""What the Prefect UI shows of a rollout while it runs."""

from __future__ import annotations

from pathlib import Path

from coalmine.audit.story import tell
from coalmine.journals.about import About
from coalmine.journals.polls import PollRecord
from coalmine.manifest import Trigger
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.evidence import ArmCounts
from coalmine.rollout.gates import GateReading
from flows.rollout_page import markdown

ABOUT = About(
    id="20130401T020000-v1.1.0",
    environment="local",
    model="delay",
    candidate="1.1.0",
    stable="1.0.0",
    stages=(5, 50),
    triggered_by=Trigger(kind="schedule", who="nightly"),
)
STARTED = Event(0, 0.0, EventKind.STARTED, "Started.", 0)
STAGE = Event(1, 2.0, EventKind.STAGE_STARTED, "Stage 1 of 2: 5 % of the users.", 5)
BACK = Event(2, 9.0, EventKind.ROLLING_BACK, "Rolling back: it fails.", 0)
BACK_AND_RECORDED = Event(3, 10.0, EventKind.ROLLED_BACK, "Rolled back.", 0)
POLL = PollRecord(
    sequence=0,
    at_s=5.0,
    stage=0,
    weight_percent=5,
    candidate=ArmCounts(1234, 56, ()),
    stable=ArmCounts(20000, 7, ()),
    bounds_s=(),
    gates=(GateReading("errors", 3.0, -9.0, 0.045, 0.0, "4.5 % fail"),),
)


def test_a_running_rollout_shows_weight_counts_and_what_the_gates_say(tmp_path: Path) -> None:
    text = markdown(tell(ABOUT, [STARTED, STAGE], [POLL]), tmp_path / "report.html")
    assert "delay 1.1.0 in local: running" in text
    assert "Stage 1 of 2: 5 % of the users are on the candidate." in text
    assert "| Stage 1 of 2 | 5 % | 3 | 56 of 1,234 | 7 of 20,000 |" in text
    assert "- errors: 4.5 % fail" in text
    assert "| 00:00:02 | 5 % | Stage 1 of 2: 5 % of the users. |" in text


def test_a_rollout_that_ended_says_why_and_where_its_report_is(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html>")
    text = markdown(tell(ABOUT, [STARTED, STAGE, BACK, BACK_AND_RECORDED], [POLL]), report)
    assert "delay 1.1.0 in local: rolled back" in text
    assert "it fails" in text
    assert report.as_uri() in text


def test_a_first_release_has_no_stable_beside_it(tmp_path: Path) -> None:
    text = markdown(tell(ABOUT.model_copy(update={"stable": None}), [STARTED], []), tmp_path / "report.html")
    assert "No user is on the candidate yet." in text
    assert "report" not in text
