"""The ten questions of docs/audit.md, each asked by its one command in a plain clone, with no server there.

The answers are held against what happened in the demo: what its people did, and what its users saw.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from coalmine.demo.story import BAD, ENVIRONMENT, MODEL, PEOPLE
from coalmine.demo.traffic import NOBODY, Scores
from tests.scenarios.workplace import Ran, Workplace

PAGE = Path(__file__).parents[2] / "docs/audit.md"
FIRST = "1.0.0"
PARTITION = "flights/2013-01"  # of the first release, and of the one after it where there is one
NOTED_WITHIN_S = 3.0  # how far the users' clock and the rollout's story may be apart


@dataclass(frozen=True)
class Happened:
    """users: what they saw of each version. code: the commit in which Sam changed the model."""

    users: Scores
    code: str

    @property
    def good(self) -> Collection[str]:
        """The versions that served everybody once."""
        return self.users.by_version.keys() - {BAD, NOBODY}

    @property
    def stable(self) -> str:
        """Whom the users came back to."""
        return max(self.good, key=self.users.last_by_version_s.__getitem__)

    @property
    def last_on_bad_s(self) -> float:
        return self.users.last_by_version_s[BAD]


def listed() -> dict[str, list[str]]:
    """Question to the words of its command."""
    section = PAGE.read_text(encoding="utf-8").split("## Ten questions")[1].split("\n## ")[0]
    return {
        question: shlex.split(command)[1:]
        for question, command in re.findall(r"^\| ([^|`]+\?) \| `(coalmine [^`]+)` \|", section, re.MULTILINE)
    }


def ask_all(demo: Workplace, folder: Path, users: Scores) -> None:
    """In a clone of the demo's remote, into `folder`."""
    demo.git("clone", "--quiet", str(demo.top / ".coalmine/remotes/git.git"), str(folder))
    clone = Workplace(folder)
    # Bytes are in the DVC remote, which is beside the first clone here: the other nine need none.
    clone.dvc("remote", "modify", "--local", "store", "url", str(demo.top / ".coalmine/remotes/dvc"))
    happened = Happened(users, clone.git("log", "--format=%H", "--grep=on complete rows"))
    # Git keeps whole seconds: the last request on the bad release may be of the second that recorded its end.
    first_on_bad = _time(users.first_by_version_s[BAD])
    stands_for = {
        "ENVIRONMENT": ENVIRONMENT,
        "MODEL": MODEL,
        "VERSION": BAD,
        "EARLIER..VERSION": f"{FIRST}..{BAD}",
        "TIME": first_on_bad,
        "DATASET/PARTITION": PARTITION,
        "PERSON": "Sam",
        "SINCE": _time(users.started_s),
        "UNTIL": first_on_bad,
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
    left_s = datetime.fromisoformat(f"{left[1]}+00:00").timestamp()
    assert abs(left_s - happened.last_on_bad_s) < NOTED_WITHIN_S
    assert re.search(r"Estimator +class: sklearn\.pipeline", shown.split("What differs from")[1])


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _served(ran: Ran, happened: Happened) -> None:
    (served,) = ran.json["found"]
    assert served["version"] == happened.stable
    assert served["beside"]["version"] == BAD
    assert 0 < served["beside"]["weight_percent"] < 100


def _released(ran: Ran, _: Happened) -> None:
    who = ran.json["found"]["who"]
    assert (who["kind"], who["who"], who["proof"]) == ("person", PEOPLE["Sam"], "claimed")


def _rejected(ran: Ran, happened: Happened) -> None:
    (course,) = ran.json["found"]["courses"]
    assert course["record"]["outcome"] == "rejected"
    failed = {gate["gate"]: gate["said"] for gate in course["gates"] if gate["verdict"] == "fail"}
    numbers = re.search(r"(\d+) of [\d,]+ requests failed on the candidate", failed["errors"])
    assert numbers is not None
    assert 0 < int(numbers[1]) <= happened.users.failures
    assert ran.json["found"]["served"] == []


def _made_of(ran: Ran, happened: Happened) -> None:
    assert {use["version"] for use in ran.json["found"]} == set(happened.good)
    assert {use["role"] for use in ran.json["found"]} == {"train"}


def _did(ran: Ran, _: Happened) -> None:
    """Until users met it: the end of the rollout is told apart from what lies before it."""
    done = [(deed["action"], deed["version"]) for deed in ran.json["found"]]
    assert done == [("release", BAD), ("candidate", BAD)]


def _seen(ran: Ran, happened: Happened) -> None:
    (course,) = ran.json["found"]["courses"]
    weights = [event["weight_percent"] for event in course["record"]["events"]]
    assert 0 < max(weights) < 100
    assert weights[-1] == 0
    exposure, served = course["record"]["exposure"], happened.users.by_version[BAD]
    # The last of them may be answered after the record was written.
    assert 0.8 * served.requests <= exposure["requests"] <= served.requests
    assert 0 < exposure["failures"] <= served.failures


def _code(ran: Ran, _: Happened) -> None:
    assert [built["version"] for built in ran.json["found"]["built"]] == [BAD]


def _holds(ran: Ran, happened: Happened) -> None:
    assert ran.json["findings"] == []
    assert ran.json["releases"] == ran.json["rollouts"] == len(happened.good) + 1


def _built_again(ran: Ran, happened: Happened) -> None:
    assert ran.json["equal"] is True
    assert ran.json["code"] == happened.code


def _changed(ran: Ran, _: Happened) -> None:
    before, now = ran.json["found"]["before"], ran.json["found"]["manifest"]
    assert (before["version"], now["version"]) == (FIRST, BAD)
    assert "sklearn.ensemble.HistGradientBoostingClassifier" in str(before["estimator"])
    assert "sklearn.ensemble.GradientBoostingClassifier" in str(now["estimator"])
    assert before["dataset"]["md5"] != now["dataset"]["md5"]


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
