from __future__ import annotations

import html
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coalmine.audit.report import Commits, render, write_report
from coalmine.audit.story import read_story
from coalmine.errors import NotFound
from coalmine.journals.journal import FileJournal, begin
from coalmine.manifest import LookupTable
from coalmine.rollout.events import Event, EventKind
from coalmine.slots import Slot
from coalmine.statistics.intervals import confidence_sequence
from tests.audit.simulated_rollouts import CHOSEN_USERS, EVERYTHING, SHORT, simulate
from tests.journals.fake_rollouts import FakeRollout, make_manifest, write_rollout
from tests.simulators.world import ArmBehaviour, World

BAD = FakeRollout(version="2.0.0", stable_version="1.1.0", failure_rates=(0.12, 0.001), who="Sam")
RUNNING = FakeRollout(ends=False)


KNOWN = Commits(code="a" * 40, release="b" * 40, ending="c" * 40, remote="git@github.com:acme/models.git")


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


def test_what_nobody_counted_is_said_once(tmp_path: Path) -> None:
    world = World()
    world.telemetry.unread = {Slot.GREEN}
    folder = simulate(tmp_path, SHORT, world)
    write_report(folder, make_manifest())
    assert words((folder / "report.html").read_text()).count("green does not answer") == 1


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
    page = render(read_story(write_rollout(tmp_path, fake)), make_manifest(), KNOWN)
    fetched = re.sub(r'<a href="https://[^"]*">', "", page)  # what a person may follow is not fetched
    assert not re.search(r"https?:|<script|<link|<img|src=|url\(|@import", fetched)
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


# --- every kind of stage and gate ------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(requests_per_s=150)
    for slot in Slot:
        world.behaviour[slot] = ArmBehaviour(failing=0.003)
    return simulate(tmp_path_factory.mktemp("everything"), EVERYTHING, world)


def test_copies_in_a_shadow_stage_are_no_users_requests(everything: Path) -> None:
    story = read_story(everything)
    shadow, *others = story.stages
    assert shadow.label == "Stage 1 of 3, shadow"
    assert shadow.candidate.requests > 0
    assert not shadow.seen_by_users
    assert story.candidate.requests == sum(stage.candidate.requests for stage in others)
    assert story.exposed_s == sum(stage.seconds for stage in others)
    assert "Stage 1 of 3, shadow (copies) 0 %" in words(page_of(everything))


def test_each_gate_says_what_follows_from_it_when_it_was_last_asked(everything: Path) -> None:
    read = words(page_of(everything))
    for told in (
        "Gate “predictions”, a dry run: it decides nothing",
        "Gate “agreement” worse not worse",
        "passed 0 of ",  # asked in the shadow stage alone
        "passed it says pass",
        "Approvals Waiting for a person: approval is asked before bake.",
        "Asked while it ran",
    ):
        assert told in read


def test_a_check_is_drawn_against_its_bound(everything: Path) -> None:
    memory = re.search(r"<figcaption>Gate “memory”.*?</figure>", page_of(everything))
    assert memory is not None
    assert ">600</span>" in memory.group()
    assert 'class="line roll-back bound"' in memory.group()


def test_the_scores_of_both_arms_are_drawn_beside_each_other(everything: Path) -> None:
    page = page_of(everything)
    assert page.count('<rect class="bar candidate"') == page.count('<rect class="bar stable"') == 20


def test_rates_come_with_intervals_that_hold_whenever_one_looks(everything: Path) -> None:
    page, story = page_of(everything), read_story(everything)
    assert page.count('class="ribbon candidate"') == page.count('class="ribbon stable"') == 1
    low, high = confidence_sequence(story.candidate.failures, story.candidate.requests)
    told = re.search(r"candidate ([\d.]+) % \(([\d.]+) % to ([\d.]+) %\)", words(page).replace("\xa0", " "))
    assert told is not None
    rate, least, most = (float(number) / 100 for number in told.groups())
    assert rate == pytest.approx(story.candidate.failures / story.candidate.requests, rel=0.05)
    assert (least, most) == (pytest.approx(float(low), rel=0.06), pytest.approx(float(high), rel=0.06))


def test_evidence_never_runs_backwards_in_time(everything: Path) -> None:
    for points in re.findall(r'<polyline class="line[^"]*" points="([^"]*)"', page_of(everything)):
        times = [float(point.partition(",")[0]) for point in points.split()]
        assert times == sorted(times)


def test_the_page_says_where_the_guarantee_is_approximate(everything: Path, tmp_path: Path) -> None:
    read = words(page_of(everything))
    assert "Approximate in the bake" in read
    assert "no earlier rollout shows how they come" in read
    assert "Dry run: predictions." in read
    chosen = words(page_of(simulate(tmp_path, CHOSEN_USERS, World(requests_per_s=100))))
    assert "Approximate: a header or cookie decides who got the candidate." in chosen
    assert re.search(r"Stage 1 of 1, chosen users [\d.]+.% measured", chosen)


def test_a_rollout_from_before_plans_were_kept_still_has_its_page(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, FakeRollout())
    lines = (folder / "ticks.jsonl").read_text().splitlines()
    polls = [json.dumps(json.loads(line)["poll"]) for line in lines if "poll" in json.loads(line)]
    (folder / "ticks.jsonl").unlink()
    (folder / "polls.jsonl").write_text("\n".join(polls) + "\n")
    read = words(page_of(folder))
    assert "Over: promoted" in read
    assert "Stage 3 of 3 50 %" in read


# --- commits and what to type ----------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "begins"),
    [
        ("git@github.com:acme/models.git", "https://github.com/acme/models/commit/"),
        ("ssh://git@git.acme.org/ml/models.git", "https://git.acme.org/ml/models/commit/"),
        ("https://user:secret@gitlab.com/acme/ml/models", "https://gitlab.com/acme/ml/models/commit/"),
        ("/srv/git/models.git", None),
        ("", None),
    ],
)
def test_commits_are_linked_where_the_remote_has_pages(remote: str, begins: str | None) -> None:
    assert Commits(remote=remote).pages == begins


def test_without_pages_a_commit_is_shown_by_git(tmp_path: Path) -> None:
    story = read_story(write_rollout(tmp_path, FakeRollout()))
    page = render(story, make_manifest(), Commits(ending="c" * 40, remote="/srv/git"))
    assert "<code>git show cccccccccccc</code>" in page
    assert "<a href" not in page


def test_the_page_says_what_to_type_next(tmp_path: Path) -> None:
    assert "coalmine abort flight-delay" in words(page_of(write_rollout(tmp_path / "a", RUNNING)))
    assert "coalmine replay " in words(page_of(write_rollout(tmp_path / "b", BAD)))
