from __future__ import annotations

import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coalmine.audit.journal import FileJournal, begin
from coalmine.audit.report import Commits, render, write_report
from coalmine.audit.story import read_story
from coalmine.errors import NotFound
from coalmine.manifest import LookupTable
from coalmine.rollout.events import Event, EventKind
from tests.audit.fake_rollouts import FakeRollout, make_manifest, write_rollout

BAD = FakeRollout(version="2.0.0", stable_version="1.1.0", failure_rates=(0.12, 0.001), who="Sam")
RUNNING = FakeRollout(ends=False)


def page_of(folder: Path) -> str:
    return render(read_story(folder), make_manifest(), Commits())


def words(page: str) -> str:
    """What a person reads, without the markup."""
    body = page.partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, _: object) -> None:
        if tag not in ("meta", "line", "rect", "polyline", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("meta", "line", "rect", "polyline", "polygon"):
            assert self.open.pop() == tag


@pytest.mark.parametrize(
    ("fake", "told"),
    [
        (
            FakeRollout(),
            ["Over: promoted at 02:01:", "Everybody is on 1.1.0. Why: every gate passed, and the bake."],
        ),
        (BAD, ["Over: rolled back at 02:00:", "Everybody is on 1.1.0 again; 2.0.0 was turned away. Why: "]),
        (RUNNING, ["Still running", "Stage 2 of 3: 25 % of the users are on the candidate."]),
        (FakeRollout(recorded=False), ["Decided, being recorded", "its promotion is being recorded"]),
        (FakeRollout(failure_rates=(0.12, 0.001), recorded=False), ["1.1.0 is being turned away"]),
        (FakeRollout(stable_version=None), ["Everybody is on 1.1.0.", "No user's request was measured"]),
    ],
    ids=["promoted", "rolled back", "running", "promoting", "rolling back", "first release"],
)
def test_the_head_says_what_happened_and_whether_it_is_over(
    tmp_path: Path, fake: FakeRollout, told: list[str]
) -> None:
    page = page_of(write_rollout(tmp_path, fake))
    for sentence in told:
        assert sentence in words(page)


def test_the_head_says_how_many_requests_were_hurt(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, BAD)
    story = read_story(folder)
    read = words(page_of(folder))
    failed, sent = story.candidate.failures, story.candidate.requests
    assert failed > 0
    assert f"{failed} " in read.partition("with users")[0]
    assert "requests failed on the candidate" in read
    assert f"{sent:,} " in read
    expected = sent * story.stable.failures / story.stable.requests
    assert f"at stable's rate it would be about {expected:.1f}" in read


@pytest.mark.parametrize("fake", [FakeRollout(), BAD, RUNNING], ids=["promoted", "rolled back", "running"])
def test_a_page_needs_nothing_from_outside_and_is_well_formed(tmp_path: Path, fake: FakeRollout) -> None:
    page = page_of(write_rollout(tmp_path, fake))
    assert not re.search(r"https?:|<script|<link|<img|src=|url\(|@import", page)
    balance = _Balance()
    balance.feed(page)
    assert balance.open == []
    for drawing in re.findall(r"<svg.*?</svg>", page):
        ElementTree.fromstring(drawing)


def test_each_stages_promote_evidence_is_drawn_against_its_own_bound(tmp_path: Path) -> None:
    page = page_of(write_rollout(tmp_path, FakeRollout()))
    gates = re.findall(r"<figcaption>Gate .*?</figure>", page)
    assert len(gates) == 2
    for gate in gates:
        assert gate.count('class="line promote"') == 3
        bounds = re.findall(r'class="line promote bound" points="[\d.]+,([\d.]+) ', gate)
        assert bounds[0] == bounds[1]
        assert float(bounds[2]) < float(bounds[0])  # the last stage's stands higher
        assert gate.count('class="line roll-back bound"') == 1


def test_a_gate_that_could_not_measure_leaves_a_gap_and_no_broken_chart(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, RUNNING)
    lines = (folder / "ticks.jsonl").read_text().splitlines()
    tick = json.loads(lines[-1])
    poll = tick["poll"]
    poll["gates"][0]["log_e_roll_back"] = poll["gates"][0]["log_e_promote"] = math.nan
    poll["gates"][1]["log_e_roll_back"] = math.inf
    (folder / "ticks.jsonl").write_text("\n".join([*lines[:-1], json.dumps(tick)]) + "\n")
    page = page_of(folder)
    assert not re.search(r'points="[^"]*(nan|inf)', page)


def test_a_rollout_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    folder = begin(tmp_path, FakeRollout().about)
    assert "It has not started yet." in words(page_of(folder))
    started = Event(0, 1.0, EventKind.STARTED, "Started.", 0)
    FileJournal(folder).append_event(started.to_json())
    assert "No user is on the candidate yet." in words(page_of(folder))


def test_what_others_wrote_is_shown_as_text(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, FakeRollout(who="<script>alert(1)</script>"))
    page = page_of(folder)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_names_the_release_and_who_asked(tmp_path: Path) -> None:
    read = words(page_of(write_rollout(tmp_path, BAD)))
    manifest = make_manifest()
    for fact in (
        manifest.digest,
        manifest.code,
        manifest.dataset.md5,
        "2013-01 to 2013-03 (80,789 rows)",
        "0.653 (0.641 to 0.664)",
        "the challenger gains 0.024",
        "Sam (schedule; proof: claimed)",
    ):
        assert fact in read


def test_the_page_names_the_lookups_that_were_released_with_the_model(tmp_path: Path) -> None:
    table = LookupTable(
        dataset="weather", md5="ef" * 16, key=("origin", "hour"), columns=(), missing="null", files=()
    )
    manifest = make_manifest().model_copy(update={"lookups": (table,)})
    page = render(read_story(write_rollout(tmp_path, FakeRollout())), manifest, Commits())
    assert f"Lookup by origin, hour weather {'ef' * 16}" in words(page)


def test_the_same_journal_gives_the_same_page_beside_it(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, FakeRollout())
    page = write_report(folder, make_manifest())
    assert page == folder / "report.html"
    first = page.read_bytes()
    assert write_report(folder, make_manifest()).read_bytes() == first


def test_a_folder_without_a_rollout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no rollout"):
        write_report(tmp_path, make_manifest())
