from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coalmine.audit.closing import pack_ticks, to_record, unpack_polls, unpack_ticks
from coalmine.audit.ledger import read_ledger
from coalmine.audit.questions.at import serving as served
from coalmine.audit.questions.scope import Scope
from coalmine.audit.record import closing_commit
from coalmine.audit.rollout_record import Ending, dump_record, parse_record, record_folder
from coalmine.audit.story import read_story
from coalmine.errors import Conflict, IntegrityError, RemoteUnavailable
from coalmine.journals.journal import read_polls
from coalmine.slots import Slot, dump_slots
from tests.audit.conftest import BAD, ENVIRONMENT, FIRST, GOOD, MODEL, SLOTS, World
from tests.journals.fake_rollouts import write_rollout


def test_a_promotion_swaps_the_roles_and_says_why_in_one_commit_on_the_remote(serving: World) -> None:
    before = serving.git("rev-list", "--count", "HEAD")
    serving.promote(GOOD)
    assert int(serving.git("rev-list", "--count", "HEAD")) == int(before) + 3  # release, candidate, promotion
    assert serving.git("rev-parse", "HEAD") == serving.git("rev-parse", "main", top=serving.remote)
    slots = serving.slots()
    assert (slots.stable, slots.candidate) == (Slot.GREEN, None)
    assert slots.releases[Slot.BLUE].version == "1.0.0"
    commit = serving.repository.commit("HEAD")
    assert commit.subject == "Promote flight-delay 1.1.0 in local"
    assert commit.trailers == {
        "Model": "flight-delay",
        "Version": "1.1.0",
        "Environment": "local",
        "Dataset": "flights 0123456789abcdef0123456789abcdef.dir",
        "Digest": serving.releases["1.1.0"].model_digest,
        "Release": serving.releases["1.1.0"].commit,
        "Decision": "promoted",
        "Rollout": GOOD.about.id,
        "Triggered-By": "nightly schedule (schedule, claimed)",
        "Assignment": "flight-delay#local#2",
    }
    body = serving.git("log", "-1", "--format=%b")
    assert body.startswith("Every gate passed, and the bake.\n")
    assert "requests failed on the candidate" in body


def test_a_promotion_assigns_the_releases_commit_in_order(serving: World) -> None:
    serving.promote(GOOD)
    for number, version in ((1, "1.0.0"), (2, "1.1.0")):
        tagged = serving.git("rev-parse", f"flight-delay#local#{number}^{{commit}}", top=serving.remote)
        assert tagged == serving.releases[version].commit


def test_a_rejection_keeps_stable_and_takes_the_candidate_out_of_its_slot(serving: World) -> None:
    serving.promote(GOOD)
    tags = serving.git("tag")
    serving.reject(BAD, "9 of 80 requests failed\non the candidate")
    slots = serving.slots()
    assert slots.stable_release is not None
    assert (slots.stable_release.version, slots.candidate, list(slots.releases)) == (
        "1.1.0",
        None,
        [Slot.GREEN],
    )
    assert serving.repository.commit("HEAD").trailers["Decision"] == "rejected"
    assert serving.git("log", "-1", "--format=%b").startswith("9 of 80 requests failed on the candidate.\n")
    assert set(serving.git("tag").split()) - set(tags.split()) == {"flight-delay@v2.0.0"}


def test_the_record_is_one_commit_however_often_it_is_called(serving: World) -> None:
    folder = serving.promote(GOOD)
    head, tags = serving.git("rev-parse", "HEAD"), serving.git("tag")
    serving.record(folder).promote()
    serving.record(folder).promote()
    assert (serving.git("rev-parse", "HEAD"), serving.git("tag")) == (head, tags)


def test_an_unreachable_remote_is_made_good_by_the_next_call_with_the_same_commit(world: World) -> None:
    folder = world.start(FIRST)
    away = world.remote.rename(world.remote.with_name("away.git"))
    with pytest.raises(RemoteUnavailable):
        world.record(folder).promote()
    head = world.git("rev-parse", "HEAD")
    away.rename(world.remote)
    world.record(folder).promote()
    assert world.git("rev-parse", "main", top=world.remote) == world.git("rev-parse", "HEAD") == head
    assert "flight-delay#local#1" in world.git("tag", top=world.remote).split()
    assert "flight-delay#local#2" not in world.git("tag").split()


def test_a_call_killed_before_its_commit_is_redone_from_what_git_holds(world: World) -> None:
    folder = world.start(FIRST)
    (world.top / SLOTS).write_text(dump_slots(world.slots().with_promotion()))
    world.record(folder).promote()
    stable = world.slots().stable_release
    assert stable is not None
    assert stable.version == "1.0.0"


def test_a_late_second_call_commits_nobodys_later_work(world: World) -> None:
    folder = world.promote(FIRST)
    (world.top / SLOTS).write_text("# somebody is editing\n")
    head = world.git("rev-parse", "HEAD")
    world.record(folder).promote()
    assert world.git("rev-parse", "HEAD") == head
    assert (world.top / SLOTS).read_text() == "# somebody is editing\n"


def test_slots_that_hold_another_candidate_by_now_are_left_alone(world: World) -> None:
    folder = world.start(FIRST)
    world.put_slots(world.slots().with_rejection(), "By hand", {})
    head = world.git("rev-parse", "HEAD")
    with pytest.raises(Conflict, match=r"holds no candidate, not 1\.0\.0"):
        world.record(folder).promote()
    assert world.git("rev-parse", "HEAD") == head


def test_who_takes_the_candidate_back_in_git_has_the_rollout_recorded_as_rejected(serving: World) -> None:
    """By `git revert` in another clone, while the older release waits in that slot."""
    serving.promote(GOOD)
    before = serving.slots()
    folder = serving.start(BAD)
    elsewhere = serving.top.with_name("elsewhere")
    serving.git("clone", "-q", str(serving.remote), str(elsewhere))
    serving.git("revert", "--no-edit", "HEAD", top=elsewhere)
    serving.git("push", "-q", "origin", "main", top=elsewhere)
    serving.at(BAD.started_at_s + 90)
    serving.record(folder).reject("the candidate died: it was taken away")
    assert serving.slots() == before
    commit = serving.repository.commit("HEAD")
    assert (commit.trailers["Decision"], commit.trailers["Version"]) == ("rejected", "2.0.0")
    assert commit.trailers["Digest"] == serving.releases["2.0.0"].model_digest
    assert serving.git("rev-parse", "main", top=serving.remote) == commit.sha
    ledger = read_ledger(serving.repository)
    last = ledger.deeds[-1]
    assert (last.version, last.action, last.rollout) == ("2.0.0", "rejected", BAD.about.id)
    during = datetime.fromtimestamp(BAD.started_at_s + 60, UTC)
    (line,) = served(ledger, Scope(MODEL, ENVIRONMENT), during)
    beside = line.beside
    assert beside is not None
    assert beside.version == "2.0.0"


def test_what_was_taken_back_in_git_is_not_promoted(serving: World) -> None:
    serving.promote(GOOD)
    folder = serving.start(BAD)
    serving.git("revert", "--no-edit", "HEAD")
    with pytest.raises(Conflict, match=r"holds no candidate, not 2\.0\.0"):
        serving.record(folder).promote()


def test_the_starting_commit_of_a_rollout_does_not_count_as_its_end(world: World) -> None:
    world.start(FIRST)
    assert closing_commit(world.repository, FIRST.about) is None


@pytest.mark.parametrize("other", [{"Model": "credit-risk"}, {"Environment": "production"}], ids=str)
def test_the_end_of_another_rollout_of_that_second_and_version_is_not_this_ones(
    serving: World, other: dict[str, str]
) -> None:
    folder = serving.start(GOOD)
    about = GOOD.about
    own = {"Model": MODEL, "Version": GOOD.version, "Environment": ENVIRONMENT, "Rollout": about.id}
    serving.publish("Elsewhere", {Path("elsewhere"): "x"}, {**own, **other, "Decision": "promoted"})
    assert closing_commit(serving.repository, about) is None
    serving.record(folder).promote()
    stable = serving.slots().stable_release
    assert stable is not None
    assert stable.version == GOOD.version
    assert closing_commit(serving.repository, about) == serving.repository.commit("HEAD")


# --- what stays of the rollout ---------------------------------------------------------


def test_the_record_adds_up_to_the_polls(serving: World) -> None:
    folder = serving.promote(GOOD)
    path = serving.top / record_folder(MODEL, GOOD.about.id)
    record = parse_record((path / "rollout.yaml").read_text(), "rollout.yaml")
    polls = unpack_polls((path / "ticks.jsonl.gz").read_bytes(), "ticks.jsonl.gz")
    assert [poll.sequence for poll in polls] == list(range(len(read_story(folder).polls)))
    for key in ("requests", "failures"):
        measured = sum(getattr(poll.candidate, key) for poll in polls)
        assert getattr(record.exposure, key) == measured
        assert sum(getattr(stage.candidate, key) for stage in record.stages) == measured
        assert sum(getattr(stage.stable, key) for stage in record.stages) == sum(
            getattr(poll.stable, key) for poll in polls
        )


def test_the_record_says_what_an_auditor_asks(serving: World) -> None:
    serving.promote(GOOD)
    serving.reject(BAD, "too many failures")
    path = serving.top / record_folder(MODEL, BAD.about.id) / "rollout.yaml"
    record = parse_record(path.read_text(), "rollout.yaml")
    assert (record.model, record.environment, record.candidate, record.stable) == (
        MODEL,
        ENVIRONMENT,
        "2.0.0",
        "1.1.0",
    )
    assert (record.outcome, record.reason) == (Ending.REJECTED, "too many failures")
    assert (record.triggered_by.who, record.triggered_by.proof) == ("Sam", "claimed")
    assert record.started == datetime.fromisoformat("2013-04-04T04:00:00Z") < record.ended
    assert record.stages[0].weight_percent == 5
    assert "failed on the candidate" in record.stages[0].gates["errors"]
    assert record.events[0].what.startswith("Started")


def test_the_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = to_record(read_story(write_rollout(tmp_path, GOOD)), Ending.PROMOTED, "a → b\nand: more")
    assert parse_record(dump_record(record), "here") == record


def test_an_edited_record_is_refused_by_name() -> None:
    with pytest.raises(IntegrityError, match=r"models/x/rollout\.yaml"):
        parse_record("id: 1", "models/x/rollout.yaml")


def test_the_polls_of_an_older_record_are_read_as_well(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, GOOD)
    polls = [json.loads(line)["poll"] for line in (folder / "ticks.jsonl").read_text().splitlines()]
    older = gzip.compress("".join(json.dumps(poll) + "\n" for poll in polls).encode())
    assert unpack_polls(older, "polls.jsonl.gz") == read_polls(folder)


@pytest.mark.parametrize(
    "packed",
    [b"no gzip", gzip.compress(b"no json\n"), gzip.compress(b"{}\n\n{}\n"), gzip.compress(b'{"a":"\xff"}\n')],
    ids=["no gzip", "no json", "an empty line", "no UTF-8"],
)
def test_a_damaged_record_of_ticks_is_named(packed: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"x/ticks\.jsonl\.gz"):
        unpack_ticks(packed, "x/ticks.jsonl.gz")


def test_the_packed_ticks_do_not_depend_on_when_or_in_which_order_they_were_written(tmp_path: Path) -> None:
    folder = write_rollout(tmp_path, GOOD)
    packed = pack_ticks(folder)
    lines = (folder / "ticks.jsonl").read_text().splitlines()
    (folder / "ticks.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    assert pack_ticks(folder) == packed
    assert packed[4:8] == b"\0\0\0\0"  # gzip's time stamp
