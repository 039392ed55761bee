"""What a model's pods counted, as Prometheus has it: pods that come, go, start anew, or cannot be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Counted, between
from coalmine.slots import Slot
from coalmine.telemetry.prometheus import Instant
from coalmine.telemetry.prometheus_counts import PrometheusTelemetry


@dataclass
class Pod:
    """What one model server has counted since `started_s`."""

    slot: str
    name: str
    started_s: float = 1000.0
    good: int = 0
    failed: int = 0
    copies: int = 0
    testers: int = 0
    age_s: float = 1.0

    def series(self) -> list[tuple[dict[str, str], float]]:
        of_pod = {"model_name": "m", "namespace": "shop", "slot": self.slot, "pod": self.name}
        found: list[tuple[dict[str, str], float]] = []
        for audience, ok, bad in (
            ("users", self.good, self.failed),
            ("copies", self.copies, 0),
            ("testers", self.testers, 0),
        ):
            asked = {**of_pod, "audience": audience}
            found += [
                ({**asked, "__name__": "coalmine_requests_total", "code": "200"}, ok),
                ({**asked, "__name__": "coalmine_requests_total", "code": "422"}, bad),
            ]
            for bound, within in (("0.01", ok), ("1.0", ok + bad), ("+Inf", ok + bad)):
                name = "coalmine_request_duration_seconds_bucket"
                found.append(({**asked, "__name__": name, "le": bound}, within))
        found += [
            ({**of_pod, "__name__": "coalmine_score_bucket", "le": "0.5"}, self.good),
            ({**of_pod, "__name__": "coalmine_score_bucket", "le": "+Inf"}, self.good),
            ({**of_pod, "__name__": "coalmine_loss_count"}, 2),
            ({**of_pod, "__name__": "coalmine_loss_sum"}, 0.5),
            ({**of_pod, "__name__": "coalmine_started_seconds"}, self.started_s),
        ]
        return found


@dataclass
class Cluster:
    """What Prometheus has of it."""

    pods: list[Pod]
    now_s: float = 2000.0
    edited: list[tuple[dict[str, str], float]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def find(self, query: str) -> Sequence[Instant]:
        self.asked.append(query)
        if query.startswith("time()"):
            return [Instant({}, pod.age_s, self.now_s) for pod in self.pods]
        found = [each for pod in self.pods for each in pod.series()] + self.edited
        return [Instant(labels, value, self.now_s) for labels, value in found]


def telemetry(cluster: Cluster) -> PrometheusTelemetry:
    return PrometheusTelemetry("m", "shop", cluster.find)


def two_slots() -> Cluster:
    return Cluster([Pod("blue", "a", good=500), Pod("green", "b", good=70, failed=3)])


def test_counts_begin_with_the_first_reading_and_go_on() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    before = read.read(Slot.GREEN)
    assert before.arms[Arm.CANDIDATE].requests == before.arms[Arm.STABLE].requests == 0
    cluster.pods[0].good += 40
    cluster.pods[1].good += 5
    cluster.pods[1].failed += 2
    poll = between(before, read.read(Slot.GREEN), 0.1, Counted.AS_CAME)
    assert (poll.stable.requests, poll.stable.failures) == (40, 0)
    assert (poll.candidate.requests, poll.candidate.failures) == (7, 2)
    assert poll.candidate.within == (5, 7)


def test_the_candidate_is_the_slot_that_is_asked_about() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    read.read(Slot.BLUE)
    cluster.pods[0].good += 9
    assert read.read(Slot.BLUE).arms[Arm.CANDIDATE].requests == 9
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 9


def test_a_reading_is_two_queries_of_this_model_in_this_namespace() -> None:
    cluster = two_slots()
    telemetry(cluster).read(Slot.GREEN)
    assert len(cluster.asked) == 2
    assert all('model_name="m",namespace="shop"' in query for query in cluster.asked)


def test_testers_are_nobodys_and_copies_are_counted_apart() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    read.read(Slot.GREEN)
    cluster.pods[1].testers += 50
    cluster.pods[1].copies += 20
    cluster.pods[0].good += 20
    reading = read.read(Slot.GREEN)
    assert reading.arms[Arm.CANDIDATE].requests == 0
    assert reading.mirrored is not None
    assert {arm: each.requests for arm, each in reading.mirrored.items()} == {
        Arm.CANDIDATE: 20,
        Arm.STABLE: 20,
    }


def test_pods_of_one_slot_are_counted_together_and_one_that_goes_takes_nothing_back() -> None:
    cluster = two_slots()
    cluster.pods.append(Pod("blue", "c", good=10))
    read = telemetry(cluster)
    read.read(Slot.GREEN)
    cluster.pods[0].good += 3
    cluster.pods[2].good += 4
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 7
    del cluster.pods[2]
    cluster.pods[0].good += 1
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 8


def test_a_server_that_starts_anew_counts_from_zero_and_keeps_what_it_had() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    read.read(Slot.GREEN)
    cluster.pods[0].good += 5
    read.read(Slot.GREEN)
    cluster.pods[0] = Pod("blue", "a", started_s=2100.0, good=2)
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 7


def test_a_pod_that_is_new_is_counted_whole_and_one_that_was_only_unscraped_from_then_on() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    read.read(Slot.GREEN)
    cluster.pods.append(Pod("blue", "new", started_s=2001.0, good=6))
    cluster.pods.append(Pod("blue", "old", started_s=1500.0, good=900))
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 6
    cluster.pods[-1].good += 1
    assert read.read(Slot.GREEN).arms[Arm.STABLE].requests == 7


def test_a_candidate_without_pods_has_counted_nothing_by_the_bounds_of_stable() -> None:
    cluster = Cluster([Pod("blue", "a", good=500)])
    reading = telemetry(cluster).read(Slot.GREEN)
    assert reading.arms[Arm.CANDIDATE].requests == 0
    assert [bound for bound, _ in reading.arms[Arm.CANDIDATE].durations] == [0.01, 1.0]
    assert set(reading.answers) == {Arm.STABLE}


def test_the_oldest_sample_says_how_late_the_reading_is() -> None:
    cluster = two_slots()
    cluster.pods[1].age_s = 14.0
    assert telemetry(cluster).read(Slot.GREEN).late_s == 14.0


def test_what_never_reached_a_pod_is_said_to_be_uncounted() -> None:
    assert "never reached a pod" in telemetry(two_slots()).read(Slot.GREEN).missing[0]


def test_another_telemetry_is_another_epoch() -> None:
    cluster = two_slots()
    read = telemetry(cluster)
    assert read.read(Slot.GREEN).epoch == read.read(Slot.GREEN).epoch
    assert read.read(Slot.GREEN).epoch != telemetry(cluster).read(Slot.GREEN).epoch


USERS = {"__name__": "coalmine_requests_total", "slot": "blue", "audience": "users", "code": "200"}


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        pytest.param(Cluster([]), "no counts of m at all", id="nothing is scraped"),
        pytest.param(Cluster([Pod("green", "b")]), "no counts of m in slot blue", id="stable is not scraped"),
        pytest.param(Cluster([Pod("blue", "a", age_s=300)]), "300 s ago", id="stale"),
        pytest.param(Cluster([Pod("blue", "a", age_s=math.nan)]), "does not say when", id="no age"),
        pytest.param(
            Cluster([Pod("blue", "a")], edited=[({**USERS, "pod": "a"}, 7)]), "several series", id="twice"
        ),
        pytest.param(
            Cluster([Pod("blue", "a")], edited=[({**USERS, "pod": "x"}, math.nan)]), "no count", id="NaN"
        ),
        pytest.param(
            Cluster([], edited=[({"__name__": "coalmine_requests_total", "slot": "blue", "code": "200"}, 1)]),
            "no label 'audience'",
            id="an older server",
        ),
        pytest.param(
            Cluster([], edited=[({**USERS, "slot": "red"}, 1)]), "no label `slot` that is one", id="no slot"
        ),
    ],
)
def test_what_cannot_be_trusted_is_no_measurement(cluster: Cluster, said: str) -> None:
    with pytest.raises(TelemetryUnavailable, match=said):
        telemetry(cluster).read(Slot.GREEN)
