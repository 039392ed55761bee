"""The ten questions of docs/audit.md, each asked by its one command in a plain clone, with no server there.

The answers are held against what happened: 1.0.0 served, and 1.2.0 was turned away before everybody had it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.scenarios.workplace import DATASET, MODEL, Ran, Workplace

PAGE = Path(__file__).parents[2] / "docs/audit.md"
KIM = "Kim <kim@example.org>"
GOOD, BAD = "1.0.0", "1.2.0"


@dataclass(frozen=True)
class Happened:
    """record: the rollout.yaml of the rejection. code: the commit that the bad release was built from."""

    record: Mapping[str, Any]
    code: str

    @property
    def at_most(self) -> Mapping[str, Any]:
        """The event with which most users got the bad release."""
        most: Mapping[str, Any] = max(self.record["events"], key=lambda event: event["weight_percent"])
        return most


def listed() -> dict[str, list[str]]:
    """Question to the words of its command."""
    section = PAGE.read_text(encoding="utf-8").split("## Ten questions")[1].split("\n## ")[0]
    return {
        question: shlex.split(command)[1:]
        for question, command in re.findall(r"^\| ([^|`]+\?) \| `(coalmine [^`]+)` \|", section, re.MULTILINE)
    }


def ask_all(work: Workplace, folder: Path, rollout: str) -> None:
    work.git("clone", "--quiet", str(work.top / ".coalmine/remotes/git.git"), str(folder))
    clone = Workplace(folder)
    # Bytes are in the DVC remote, which is beside the first clone here: the other nine need none.
    clone.dvc("remote", "modify", "--local", "store", "url", str(work.top / ".coalmine/remotes/dvc"))
    manifest = clone.read_yaml(f"models/{MODEL}/manifest.yaml")
    happened = Happened(clone.read_yaml(f"models/{MODEL}/rollouts/{rollout}/rollout.yaml"), manifest["code"])
    released_at = {
        version: clone.git("log", "-1", "--format=%cI", f"{MODEL}@v{version}^{{commit}}")
        for version in (GOOD, "1.1.0", BAD)
    }
    stands_for = {
        "ENVIRONMENT": "local",
        "MODEL": MODEL,
        "VERSION": BAD,
        "EARLIER..VERSION": f"{GOOD}..{BAD}",
        "TIME": happened.at_most["at"],
        "DATASET/PARTITION": f"{DATASET}/{manifest['dataset']['train'][0]}",
        "PERSON": "Kim",
        "SINCE": released_at[GOOD],
        "UNTIL": released_at[BAD],
        "COMMIT": happened.code,
    }
    asked = listed()
    assert list(asked) == list(CHECKS)
    for question, words in asked.items():
        ran = clone.run(*(stands_for.get(word, word) for word in words), "--json")
        CHECKS[question](ran, happened)
    shown = clone.run("audit", MODEL, "--version", BAD).out
    left = re.search(r"Seen last by users +(\S+ \S+) UTC, by (\d+) % of them", shown)
    assert left is not None
    assert int(left[2]) == happened.at_most["weight_percent"]
    _, after = _around_the_end(happened)
    assert datetime.fromisoformat(f"{left[1]}+00:00") == datetime.fromisoformat(after["at"]).replace(
        microsecond=0
    )
    assert re.search(r"Estimator +class: \S*HistGradientBoosting", shown.split("What differs from 1.1.0")[1])


def _around_the_end(happened: Happened) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The last event with users on the bad release, and the next, with nobody."""
    events = happened.record["events"]
    last = max(number for number, event in enumerate(events) if event["weight_percent"] > 0)
    return events[last], events[last + 1]


def _served(ran: Ran, happened: Happened) -> None:
    (served,) = ran.json["found"]
    beside = {"version": BAD, "weight_percent": happened.at_most["weight_percent"]}
    assert served["version"] == GOOD
    # Git keeps whole seconds: a rollout that was recorded within this one counts as ended.
    assert served["beside"] in (None, {"rollout": happened.record["id"], **beside})


def _released(ran: Ran, _: Happened) -> None:
    who = ran.json["found"]["who"]
    assert (who["kind"], who["who"], who["proof"]) == ("person", KIM, "claimed")


def _rejected(ran: Ran, happened: Happened) -> None:
    (course,) = ran.json["found"]["courses"]
    assert course["record"]["outcome"] == "rejected"
    (failed,) = [gate for gate in course["gates"] if gate["verdict"] == "fail"]
    assert failed["gate"] == "errors"
    assert failed["said"].rstrip(".") == happened.record["reason"]
    assert re.search(r"\d+ of [\d,]+ requests failed on the candidate", failed["said"])
    assert ran.json["found"]["served"] == []


def _made_of(ran: Ran, _: Happened) -> None:
    assert {use["version"] for use in ran.json["found"]} == {GOOD, "1.1.0", BAD}
    assert {use["role"] for use in ran.json["found"]} <= {"train", "test", "train and test"}


def _did(ran: Ran, _: Happened) -> None:
    """After the first release, until the last: both ends are told apart from what lies beyond them."""
    done = [(deed["action"], deed["version"]) for deed in ran.json["found"]]
    assert done == [("release", "1.1.0"), ("release", BAD)]


def _seen(ran: Ran, happened: Happened) -> None:
    (course,) = ran.json["found"]["courses"]
    weights = [event["weight_percent"] for event in course["record"]["events"]]
    assert max(weights) == happened.at_most["weight_percent"] < 100
    assert weights[-1] == 0
    assert 0 < course["record"]["exposure"]["failures"] < course["record"]["exposure"]["requests"]


def _code(ran: Ran, _: Happened) -> None:
    assert [built["version"] for built in ran.json["found"]["built"]] == [BAD]


def _holds(ran: Ran, _: Happened) -> None:
    assert ran.json["findings"] == []
    assert (ran.json["releases"], ran.json["rollouts"]) == (3, 2)


def _built_again(ran: Ran, happened: Happened) -> None:
    assert ran.json["equal"] is True
    assert ran.json["code"] == happened.code


def _changed(ran: Ran, _: Happened) -> None:
    before, now = ran.json["found"]["before"], ran.json["found"]["manifest"]
    assert (before["version"], now["version"]) == (GOOD, BAD)
    assert "HistGradientBoosting" in before["estimator"]["class"]
    assert "LogisticRegression" in now["estimator"]["class"]
    assert before["dataset"]["md5"] == now["dataset"]["md5"]


CHECKS: dict[str, Callable[[Ran, Happened], None]] = {
    "What served users at that time?": _served,
    "Who released this version, and what proves it?": _released,
    "Why was it turned away, by which gate, on which numbers?": _rejected,
    "Which releases were made with this partition?": _made_of,
    "What did this person do between two times?": _did,
    "When did users last see it, and what share of them?": _seen,
    "Which releases were built from this code?": _code,
    "Does the record hold?": _holds,
    "Can it be built again?": _built_again,
    "What changed between two releases?": _changed,
}
