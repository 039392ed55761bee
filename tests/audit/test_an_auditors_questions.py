"""What an auditor asks, each answered by one command in a plain clone, and checked against what was done."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coalmine.cli import app
from coalmine.errors import CoalmineError
from tests.audit.conftest import BAD, MODEL, World, make_world
from tests.audit.told import OTHER, PRODUCTION, SECOND, tell
from tests.journals.fake_rollouts import make_manifest

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """What was done, and a plain clone of its remote."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = make_world(tmp_path_factory.mktemp("told"), monkeypatch)
        tell(world)
        clone = tmp_path_factory.mktemp("auditor") / "clone"
        world.git("clone", "-q", str(world.remote), str(clone))
    return world, clone


@pytest.fixture
def ask(done: tuple[World, Path], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What one command prints in the clone."""
    monkeypatch.chdir(done[1])
    monkeypatch.setenv("COLUMNS", "240")

    def asked(*words: str) -> str:
        result = CliRunner().invoke(app, ["audit", *words])
        if isinstance(result.exception, CoalmineError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return asked


@pytest.fixture
def found(ask: Ask) -> Callable[..., Any]:
    """What is found, as a program reads it."""
    return lambda *words: json.loads(ask(*words, "--json"))["found"]


def test_1_what_serves_now_and_who_put_it_there(ask: Ask) -> None:
    lines = list(csv.DictReader(io.StringIO(ask("--csv"))))
    assert [
        (line["Environment"], line["Model"], line["Version"], line["Until"], line["Who"], line["Proof"])
        for line in lines
    ] == [
        ("local", MODEL, "1.0.0", "still", "Ada <ada@example.com>", "claimed"),
        (PRODUCTION, OTHER, "5.0.0", "still", "nightly schedule", "claimed"),
        (PRODUCTION, MODEL, "1.0.0", "still", "Sam <sam@example.com>", "claimed"),
    ]


@pytest.mark.parametrize("time", ["2013-04-04T03:00", "2013-04-04T03:00Z", "2013-04-04T05:00+02:00"])
def test_2_what_served_on_that_night_at_three_in_any_zone(found: Callable[..., Any], time: str) -> None:
    (served,) = found(MODEL, "-e", "local", "--at", time)
    assert served["serving"]["version"] == "1.1.0"
    assert (served["serving"]["since"], served["serving"]["until"]) == (
        "2013-04-04 02:02:00+00:00",
        "2013-04-04 04:46:40+00:00",
    )


def test_3_who_approved_it_and_what_proves_that(ask: Ask) -> None:
    said = ask(MODEL, "-e", PRODUCTION, "--at", "2013-04-04T12:00")
    assert "Mia <mia@example.org> (person, unknown), risk, at 2013-04-04 08:57:10 UTC" in said
    assert "Kim (schedule, claimed): promoted, commit " in said


def test_4_on_what_evidence_it_was_let_in(found: Callable[..., Any]) -> None:
    (served,) = found(MODEL, "-e", PRODUCTION, "--at", "2013-04-04T12:00")
    gates = served["put_there"]["gates"]
    assert {(gate["stage"], gate["gate"]) for gate in gates} >= {
        ("Stage 1 of 3", "errors"),
        ("Bake", "latency"),
    }
    assert "requests failed on the candidate" in gates[0]["said"]
    metric = served["manifest"]["decision"]["metrics"]["roc_auc"]
    assert metric == {"value": 0.653, "low": 0.641, "high": 0.664}


def test_5_was_anything_changed_past_the_record(ask: Ask) -> None:
    lines = list(csv.DictReader(io.StringIO(ask(MODEL, "--history", "--csv"))))
    (by_hand,) = [line for line in lines if line["What"] == "unrecorded"]
    assert (by_hand["Who"], by_hand["Environment"], by_hand["Version"], by_hand["In words"]) == (
        "Sam <sam@example.com>",
        PRODUCTION,
        "1.0.0",
        "quick fix",
    )


def test_6_what_changed_in_that_hour(found: Callable[..., Any]) -> None:
    changed = found("--since", "2013-04-04T04:00", "--until", "2013-04-04T05:00")
    assert changed["replaced"] == [
        {"environment": "local", "model": MODEL, "before": "1.1.0", "after": "1.0.0"}
    ]
    assert [deed["action"] for deed in changed["deeds"]] == ["rejected", "rolled-back"]


def test_7_where_did_the_data_go_that_should_not_have_been_used(found: Callable[..., Any]) -> None:
    (use,) = found("--dataset", "weather@efefef")
    assert (use["model"], use["version"], use["role"]) == (MODEL, "1.1.0", "lookup")
    assert [served["environment"] for served in use["served"]] == ["local", PRODUCTION]
    assert all(served["until"] is not None for served in use["served"])


def test_8_what_did_this_person_do(ask: Ask) -> None:
    said = ask("--by", "Sam")
    assert [word in said for word in ("rejected", "unrecorded", "promoted", "Kim")] == [
        True,
        True,
        False,
        False,
    ]


def test_9_what_did_this_commit_do_and_which_releases_stand_on_it(ask: Ask, done: tuple[World, Path]) -> None:
    world, _ = done
    said = ask("--commit", world.releases["5.0.0"].commit)
    assert "Release credit-risk 5.0.0" in said
    assert "Ada <ada@example.com> (person, claimed)" in said
    code = world.git("rev-parse", f"{world.releases['5.0.0'].commit}^")
    built = ask("--commit", code[:12]).split("Releases built from its code")[1]
    assert f"5.0.0 2013-04-04 12:06:40 UTC {world.releases['5.0.0'].commit[:12]}" in " ".join(built.split())


def test_10_which_users_got_the_release_that_was_turned_away(found: Callable[..., Any]) -> None:
    (served,) = found(MODEL, "-e", "local", "--at", "2013-04-04T04:00:04")
    beside = served["serving"]["beside"]
    assert beside == {"rollout": BAD.about.id, "version": "2.0.0", "weight_percent": 5}
    exposure = served["beside"]["record"]["exposure"]
    assert 0 < exposure["failures"] < exposure["requests"]


def test_11_a_page_for_the_file_needs_nothing_else(
    ask: Ask, tmp_path: Path, done: tuple[World, Path]
) -> None:
    page = tmp_path / "answer.html"
    assert ask(MODEL, "-e", PRODUCTION, "--at", "2013-04-04T12:00", "--page", str(page)) == (
        f"Written to {page}\n"
    )
    text = page.read_text(encoding="utf-8")
    head = done[0].git("rev-parse", "main", top=done[0].remote)
    for words in (
        "What served of flight-delay in production at 2013-04-04 12:00:00 UTC?",
        head,
        str(done[0].remote),
        SECOND.about.id,
        make_manifest("1.1.0").code,
        "Mia &lt;mia@example.org&gt;",
        "What the record cannot know",
        "A rollout that has not ended is not in Git yet",
    ):
        assert words in text
    assert [
        word for word in ("<script", "http://", "https://", "src=", "url(", "@import") if word in text
    ] == []


def test_12_what_became_of_a_version_that_never_was_stable(found: Callable[..., Any], ask: Ask) -> None:
    bad = found(MODEL, "--version", "2.0.0")
    (course,) = bad["courses"]
    assert (course["record"]["outcome"], course["record"]["environment"]) == ("rejected", "local")
    assert bad["served"] == []
    said = " ".join(ask(MODEL, "--version", "2.0.0").split())
    assert "Ended rejected: too many failures" in said
    assert "Most of the users on it 5 %" in said
    assert re.search(r"Seen last by users 2013-04-04 04:00:\d\d UTC, by 5 % of them", said)
    assert found(MODEL, "-e", PRODUCTION, "--version", "2.0.0")["courses"] == []


def test_13_who_released_a_version_and_where_it_was_stable(found: Callable[..., Any]) -> None:
    loans = found(OTHER, "--version", "5.0.0")
    assert (loans["who"]["who"], loans["who"]["proof"]) == ("Ada <ada@example.com>", "claimed")
    assert loans["before"] is None
    assert [(each["environment"], each["until"]) for each in loans["served"]] == [(PRODUCTION, None)]
    (good,) = found(MODEL, "-e", "local", "--version", "1.1.0")["served"]
    assert good["until"] == "2013-04-04 04:46:40+00:00"


def test_14_what_differs_from_the_release_before(ask: Ask) -> None:
    said = ask(MODEL, "--version", "1.1.0").split("What differs from 1.0.0")[1].split("When it was stable")[0]
    assert [line.split()[:2] for line in said.splitlines()[2:] if line[:6].strip()] == [["Lookup", "weather"]]
    assert "nothing" in said
    assert "What differs from 2.0.0" in ask(MODEL, "--version", "2.0.0..1.0.0")


@pytest.mark.parametrize(
    ("partition", "role"), [("2013-01", "train"), ("2013-04", "test")], ids=["trained", "tested"]
)
def test_15_which_releases_were_made_with_a_partition(
    found: Callable[..., Any], partition: str, role: str
) -> None:
    uses = found("--dataset", f"flights/{partition}")
    assert {use["version"] for use in uses} == {"1.0.0", "1.1.0", "2.0.0"}
    assert {use["role"] for use in uses} == {role}


def test_16_what_somebody_did_between_two_times(found: Callable[..., Any]) -> None:
    everything = [deed["at"] for deed in found("--by", "Ada")]
    first, last = everything[0], everything[-1]
    assert [deed["at"] for deed in found("--by", "Ada", "--since", first)] == everything[1:]
    assert [deed["at"] for deed in found("--by", "Ada", "--until", first)] == [first]
    assert found("--by", "Ada", "--since", last, "--until", last) == []


def test_a_token_in_the_remotes_url_is_in_no_answer(
    done: tuple[World, Path], ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clone = done
    own = tmp_path / "own"
    world.git("clone", "-q", str(clone), str(own))
    world.git("remote", "set-url", "origin", "https://auditor:s3cret@git.example.com/record.git", top=own)
    monkeypatch.chdir(own)
    said = ask("--page", str(tmp_path / "page.html"), "--json") + (tmp_path / "page.html").read_text()
    assert said.count("https://git.example.com/record.git") == 2
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--at", "yesterday"), "yesterday is no time. Write it as ISO 8601: 2026-03-01"),
        (("churn",), "There is no model churn. There are: credit-risk, flight-delay"),
        (("-e", "staging"), "coalmine.yaml has no environment `staging`. There are: local, production"),
        (("--history",), "coalmine audit MODEL --history"),
        (("--since", "2014-01-01", "--until", "2013-01-01"), "swap them"),
        (("--at", "2014-01-01", "--by", "Sam"), "--at and --by are different questions"),
        (("--dataset", "planes"), "There are: flights, loans, weather"),
        (("--by", "Zoe"), "Nobody called Zoe"),
        (("--commit", "0123456"), "No commit 0123456"),
        (("--version", "1.0.0"), "coalmine audit MODEL --version 1.0.0"),
        (
            (MODEL, "--version", "9.0.0"),
            "has no release 9.0.0. The newest: 1.0.0, 1.1.0, 2.0.0.",
        ),
        (("--dataset", "flights/1999-01"), "No release is made of the partition 1999-01 of flights"),
        (("--by", "Ada", "--since", "2014-01-01", "--until", "2013-01-01"), "swap them"),
        (("--json", "--csv"), "--json and --csv"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_what_cannot_be_answered_is_said_in_one_sentence(ask: Ask, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(CoalmineError) as refused:
        ask(*words)
    assert says in str(refused.value)
    assert refused.value.exit_code == 2
