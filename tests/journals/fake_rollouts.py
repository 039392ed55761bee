"""Rollout folders as a runner leaves them, without running one.

The counts are drawn from a fixed seed around chosen failure rates; the log e-values come from
two fixed bets on those counts, so that a chart and a table have plausible things to show.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

from coalmine.journals.about import About, rollout_id
from coalmine.journals.journal import FileJournal, begin, keep_plan
from coalmine.manifest import (
    Comparison,
    DatasetVersion,
    Estimate,
    Example,
    Manifest,
    Outcome,
    ReleaseDecision,
    ReleaseFile,
    Tensor,
    Trigger,
)
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.plan import Plan
from coalmine.rollout_spec import Rollout
from coalmine.spec import Task

STARTED_AT_S = 1_365_040_800.0  # 2013-04-04 02:00:00 UTC
STAGES = (5, 25, 50)
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
WITHIN = (0.0, 0.31, 0.86, 0.968, 0.993, 0.9985, 1.0, 1.0)  # share answered within each bound


@dataclass(frozen=True)
class FakeRollout:
    """failure_rates: candidate's and stable's. ends: False leaves it in the middle of stage 2."""

    version: str = "1.1.0"
    stable_version: str | None = "1.0.0"
    environment: str = "local"
    model: str = "flight-delay"
    who: str = "nightly schedule"
    failure_rates: tuple[float, float] = (0.001, 0.001)
    requests_per_s: int = 120
    ends: bool = True
    recorded: bool = True
    started_at_s: float = STARTED_AT_S
    seed: int = 7

    @property
    def about(self) -> About:
        return About(
            id=rollout_id(self.version, self.started_at_s),
            environment=self.environment,
            model=self.model,
            candidate=self.version,
            stable=self.stable_version,
            stages=STAGES,
            triggered_by=Trigger(kind="schedule", who=self.who, proof="claimed", run="brave-otter"),
        )


class _Teller:
    def __init__(self, fake: FakeRollout, journal: FileJournal) -> None:
        self.fake = fake
        self.journal = journal
        self.random = random.Random(fake.seed)
        self.now_s = fake.started_at_s
        self.sequence = 0
        self.polls = 0
        self.weight = 0
        self.roll_back = {"errors": 0.0, "latency": 0.0}
        self.promote = {"errors": 0.0, "latency": 0.0}
        self.seen = {"candidate": [0, 0], "stable": [0, 0]}

    def event(self, kind: EventKind, sentence: str, weight: int | None = None) -> None:
        self.weight = self.weight if weight is None else weight
        event = Event(self.sequence, self.now_s, kind, sentence, self.weight)
        self.journal.append_event(event.to_json())
        self.sequence += 1

    def state(self, phase: str) -> None:
        self.journal.save({"state": {"phase": phase, "weight_percent": self.weight}, "outbox": {}})

    def poll(self, stage: int | str) -> None:
        self.now_s += 2.0
        arms = {}
        for arm, rate, share in (
            ("candidate", self.fake.failure_rates[0], self.weight / 100),
            ("stable", self.fake.failure_rates[1], 1 - self.weight / 100),
        ):
            requests = sum(self.random.random() < share for _ in range(2 * self.fake.requests_per_s))
            failures = sum(self.random.random() < rate for _ in range(requests))
            within = [min(requests, round(requests * share_within)) for share_within in WITHIN]
            arms[arm] = {"requests": requests, "failures": failures, "within": within}
            self.seen[arm][0] += requests
            self.seen[arm][1] += failures
        self._bet(arms["candidate"])
        self.polls += 1
        poll = {
            "sequence": self.polls - 1,
            "at_s": self.now_s,
            "stage": stage,
            "weight_percent": self.weight,
            **arms,
            "bounds_s": list(BOUNDS_S),
            "gates": [self._gate("errors"), self._gate("latency")],
        }
        self.journal.append_tick(
            {"sequence": self.polls - 1, "at_s": self.now_s, "what": "seen", "poll": poll}
        )

    def _bet(self, counts: dict[str, object]) -> None:
        n, x = int(str(counts["requests"])), int(str(counts["failures"]))
        edge, worse, better = 0.004, 0.03, 0.001
        if self.weight < 100:
            self.roll_back["errors"] += x * math.log(worse / edge) + (n - x) * math.log(
                (1 - worse) / (1 - edge)
            )
            self.promote["errors"] += x * math.log(better / 0.03) + (n - x) * math.log((1 - better) / 0.97)
            self.promote["latency"] += 0.012 * n
        self.roll_back["errors"] = max(self.roll_back["errors"], -4.0)

    def _gate(self, name: str) -> dict[str, object]:
        (n_c, x_c), (n_s, x_s) = self.seen["candidate"], self.seen["stable"]
        sentence = f"{x_c:,} of {n_c:,} requests failed on the candidate, {x_s:,} of {n_s:,} on stable."
        if name == "latency":
            sentence = f"3.2 % of {n_c:,} candidate requests took over 50 ms, 3.2 % of {n_s:,} on stable."
        return {
            "gate": name,
            "log_e_roll_back": self.roll_back[name],
            "log_e_promote": self.promote[name],
            "candidate": x_c / n_c if n_c else None,
            "stable": x_s / n_s if n_s else None,
            "sentence": sentence,
        }

    def enter(self, stage: int) -> None:
        self.promote = {"errors": 0.0, "latency": 0.0}
        weight = STAGES[stage]
        sentence = f"Stage {stage + 1} of {len(STAGES)}: {weight} % of the users (margins: errors 0.25 %)."
        self.event(EventKind.STAGE_STARTED, sentence, weight)
        self.state("progressing")

    def is_bad(self) -> bool:
        return self.roll_back["errors"] > math.log(200)

    def is_good(self, stage: int) -> bool:
        bound = math.log(100) if stage == len(STAGES) - 1 else math.log(20)
        return min(self.promote.values()) >= bound


def write_rollout(repository: Path, fake: FakeRollout) -> Path:
    folder = begin(repository, fake.about)
    keep_plan(folder, Plan.of(Rollout(stages=STAGES, bake_s=20)))
    teller = _Teller(fake, FileJournal(folder))
    teller.event(EventKind.STARTED, "Started: 5 % → 25 % → 50 %, then a bake of 20 s at 100 %.")
    teller.state("installing")
    if fake.stable_version is None:
        _end(teller, "promot", "the first release: the candidate is ready")
        return folder
    teller.now_s += 3.0
    teller.event(EventKind.CANDIDATE_READY, "The candidate is ready.")
    for stage in range(len(STAGES)):
        teller.enter(stage)
        while not teller.is_good(stage):
            teller.poll(stage)
            if teller.is_bad():
                _end(teller, "roll", str(teller._gate("errors")["sentence"]).rstrip("."))
                return folder
        if not fake.ends and stage == 1:
            return folder
    teller.event(
        EventKind.BAKE_STARTED, "Bake: everybody for 20 s; stable stays ready to take them back.", 100
    )
    for _ in range(10):
        teller.poll("bake")
    _end(teller, "promot", "every gate passed, and the bake")
    return folder


def _end(teller: _Teller, how: str, reason: object) -> None:
    if how == "promot":
        teller.event(EventKind.PROMOTING, f"Promoting: {reason}.", 100)
        teller.state("promoting")
        last, phase, sentence = EventKind.PROMOTED, "promoted", "Promoted."
    else:
        teller.event(EventKind.ROLLING_BACK, f"Rolling back: {reason}.", 0)
        teller.state("rolling_back")
        last, phase, sentence = EventKind.ROLLED_BACK, "rolled_back", f"Rolled back: {reason}"
    if teller.fake.recorded:
        teller.now_s += 1.0
        teller.event(last, sentence)
        teller.state(phase)


def make_manifest(version: str = "1.1.0", parent: str | None = "1.0.0") -> Manifest:
    gain = Estimate(value=0.024, low=0.006, high=0.041)
    return Manifest(
        model="flight-delay",
        version=version,
        parent=parent,
        task=Task.BINARY,
        files=(
            ReleaseFile(
                path="models/flight-delay/model.skops", sha256="ab" * 32, md5="cd" * 16, size_bytes=812_345
            ),
        ),
        inputs=(
            Tensor(name="distance", datatype="FP64"),
            Tensor(name="pressure", datatype="FP64", nullable=True),
        ),
        outputs=(Tensor(name="probability", datatype="FP64"),),
        classes=(0, 1),
        example=Example(inputs={"distance": 762.0, "pressure": None}, outputs={"probability": 0.31}),
        trusted_types=(),
        dataset=DatasetVersion(
            name="flights",
            md5="0123456789abcdef0123456789abcdef.dir",
            train=("2013-01", "2013-02", "2013-03"),
            test=("2013-04",),
            train_rows=80_789,
            test_rows=27_630,
        ),
        code="9f8e7d6c5b4a39281706f5e4d3c2b1a098765432",
        estimator={"class": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 100}},
        decision=ReleaseDecision(
            outcome=Outcome.RELEASE,
            reasons=(
                "roc_auc: the challenger gains 0.024 on the champion (95 % interval 0.006 to 0.041), "
                "more than the required 0.",
                "Every slice by origin is within its bound.",
            ),
            champion=parent,
            metrics={"roc_auc": Estimate(value=0.653, low=0.641, high=0.664)},
            champion_metrics={"roc_auc": Estimate(value=0.629, low=0.617, high=0.642)},
            comparisons=(
                Comparison(
                    metric="roc_auc",
                    slice=None,
                    rows=27_630,
                    challenger=0.653,
                    champion=0.629,
                    gain=gain,
                    required_gain=0.0,
                    passed=True,
                ),
                Comparison(
                    metric="roc_auc",
                    slice="origin=JFK",
                    rows=9_100,
                    challenger=0.661,
                    champion=0.640,
                    gain=Estimate(value=0.021, low=-0.004, high=0.045),
                    required_gain=-0.02,
                    passed=True,
                ),
            ),
        ),
        environment={"python": "3.11.7", "scikit-learn": "1.9.0"},
        created="2013-05-01T02:00:00Z",
        trigger=Trigger(kind="schedule", who="nightly schedule", proof="claimed", run="brave-otter"),
    )
