"""What a model's pods counted, as Prometheus has it: pods that come, go, start anew, or cannot be trusted.

The servers' own expositions, scraped one by one; the real Prometheus stands in test_prometheus_contract.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Arm, Counted, Reading, between
from coalmine.serving.audience import Audience
from coalmine.serving.telemetry import Telemetry as ServerTelemetry
from coalmine.slots import Slot
from coalmine.spec import Task
from coalmine.telemetry.lives import answers_by_life
from coalmine.telemetry.pods import ReadyPod
from coalmine.telemetry.prometheus import Instant
from coalmine.telemetry.prometheus_counts import PrometheusTelemetry
from coalmine.telemetry.proxies import ISTIO, Proxies
from coalmine.telemetry.server_series import query, seen

T0 = 1_764_000_000.0
Labels = dict[str, str]


@dataclass
class Pod:
    """A pod's model server, and what Prometheus has of it since it was last scraped."""

    slot: str
    name: str
    started_s: float = T0 - 1000
    is_ready: bool = True
    ready_s: float = T0 - 900
    scraped_s: float | None = None
    series: list[tuple[Labels, float]] = field(default_factory=list)
    binned: bytes = b""

    def __post_init__(self) -> None:
        self.start(self.started_s)

    def start(self, started_s: float) -> None:
        who = {"model_name": "m", "model_version": "1.0.0", "slot": self.slot}
        self.started_s = started_s
        self.server = ServerTelemetry(
            who, "d1gest", Task.BINARY, started_s, lambda: 0, None, lambda: self.binned
        )

    def ask(self, count: int, code: int = 200, audience: Audience = Audience.USERS) -> None:
        for _ in range(count):
            self.server.answered(audience, code, 0.004 if code == 200 else 0.4)
            if code == 200:
                self.server.predicted(audience, {"probability": [0.5]})


@dataclass
class Cluster:
    """Its pods, its clock, and the series of other jobs that Prometheus has."""

    pods: list[Pod]
    now_s: float = T0
    others: list[tuple[Labels, float]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def pod(self, name: str) -> Pod:
        return next(pod for pod in self.pods if pod.name == name)

    def scrape(self, *names: str) -> None:
        """Those pods; without a name all."""
        for pod in self.pods:
            if not names or pod.name in names:
                families = text_string_to_metric_families(pod.server.exposition().decode())
                samples = [each for family in families for each in family.samples]
                target = {"namespace": "shop", "pod": pod.name, "job": "models"}
                pod.series = [({"__name__": s.name, **s.labels, **target}, s.value) for s in samples]
                pod.scraped_s = self.now_s

    def later(self, seconds: float, *names: str) -> None:
        """Scraped after so long: those pods, without a name all."""
        self.now_s += seconds
        self.scrape(*names)

    def find(self, query: str) -> Sequence[Instant]:
        self.asked.append(query)
        found = [({"coalmine": "now"}, self.now_s), *self.others]
        for pod in self.pods:
            if pod.scraped_s is not None:
                found += [each for each in pod.series if each[0].get("audience") != "testers"]
                found.append(({"coalmine": "scraped", "pod": pod.name}, pod.scraped_s))
        return [Instant(labels, value, self.now_s) for labels, value in found]

    def ready(self) -> list[ReadyPod]:
        return [
            ReadyPod(pod.name, Slot(pod.slot), self.now_s - pod.ready_s) for pod in self.pods if pod.is_ready
        ]

    def telemetry(self, proxies: Proxies | None = None) -> PrometheusTelemetry:
        return PrometheusTelemetry("m", "shop", self.find, self.ready, proxies, answered=True)


@pytest.fixture
def cluster() -> Cluster:
    """A slot each for two pods, `b` and `g`, which have been asked and scraped."""
    cluster = Cluster([Pod("blue", "b"), Pod("green", "g")])
    cluster.pod("b").ask(50)
    cluster.pod("g").ask(7)
    cluster.scrape()
    return cluster


def requests(reading: Reading) -> dict[Arm, int]:
    return {arm: counters.requests for arm, counters in reading.arms.items()}


def both(candidate: int, stable: int) -> dict[Arm, int]:
    return {Arm.CANDIDATE: candidate, Arm.STABLE: stable}


def test_counts_are_the_servers_own(cluster: Cluster) -> None:
    cluster.pod("g").ask(2, code=422)
    cluster.pod("g").ask(1, code=302)
    cluster.later(1)
    candidate = cluster.telemetry().read(Slot.GREEN).arms[Arm.CANDIDATE]
    assert (candidate.requests, candidate.failures) == (10, 2)
    within = dict(candidate.durations)
    assert (within[0.003], within[0.005], within[10.0]) == (0, 7, 10)
    assert not any(map(math.isinf, within))


def test_a_reading_is_one_query_of_this_model_in_this_namespace(cluster: Cluster) -> None:
    cluster.telemetry().read(Slot.GREEN)
    (query,) = cluster.asked
    assert query.count('model_name="m",namespace="shop"') == 2


def test_testers_are_nobodys_and_copies_are_counted_apart(cluster: Cluster) -> None:
    cluster.pod("g").ask(30, audience=Audience.TESTERS)
    cluster.pod("g").ask(20, audience=Audience.COPIES)
    cluster.pod("g").ask(5, code=500, audience=Audience.COPIES)
    cluster.later(1)
    reading = cluster.telemetry().read(Slot.GREEN)
    assert requests(reading) == both(7, 50)
    assert reading.mirrored is not None
    copied = reading.mirrored[Arm.CANDIDATE]
    assert (copied.requests, copied.failures, dict(copied.durations)[0.005]) == (32, 5, 27)
    assert reading.mirrored[Arm.STABLE] == reading.arms[Arm.STABLE]


def test_what_each_life_has_binned_is_read_where_it_is_asked_for(cluster: Cluster) -> None:
    for name, rows in (("b", 7), ("g", 5)):
        who = f'model_name="m",model_version="1.0.0",slot="{cluster.pod(name).slot}"'
        series = f'coalmine_binned_total{{{who},of="feature",name="temp",bin='
        text = "".join(f'{series}"{place}"}} {count}\n' for place, count in enumerate((rows, 0, 2)))
        cluster.pod(name).binned = text.encode()
    cluster.later(1)
    lives = answers_by_life(seen(cluster.find("")), Slot.BLUE)
    (life,) = lives.values()
    assert life.binned == {"feature temp": (7, 0, 2)}
    assert "coalmine_binned_total" in query("m", "shop", answered=True, binned=True)
    assert "coalmine_binned_total" not in query("m", "shop", answered=True)  # a rollout's looks


# --- pods come and go ------------------------------------------------------------------


def test_pods_of_one_slot_are_counted_together_and_one_that_goes_takes_nothing_back(cluster: Cluster) -> None:
    cluster.pods.append(Pod("blue", "b2"))
    cluster.pod("b2").ask(10)
    cluster.later(1)
    telemetry = cluster.telemetry()
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 60)
    cluster.pods.remove(cluster.pod("b2"))
    cluster.pod("b").ask(1)
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 61)


def test_a_server_that_starts_anew_counts_from_zero_and_keeps_what_it_had(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pod("g").start(T0 + 3)
    cluster.pod("g").ask(60)  # more than before: not known by counting less
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(67, 50)


@pytest.mark.parametrize(
    ("started_s", "counted"),
    [
        pytest.param(T0 + 2, 50 + 6 + 1, id="a new pod counts whole"),
        pytest.param(T0 - 500, 50 + 1, id="one whose scrapes had failed counts from then on"),
    ],
)
def test_what_a_pod_counted_before_it_was_found_is_somebodys_if_it_is_new(
    cluster: Cluster, started_s: float, counted: int
) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pods.append(Pod("blue", "b2", started_s=started_s, is_ready=False))
    cluster.pod("b2").ask(6)
    cluster.later(5)
    telemetry.read(Slot.GREEN)
    cluster.pod("b2").ask(1)
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(7, counted)


def test_a_slot_without_pods_has_counted_nothing_by_the_bounds_of_the_other() -> None:
    cluster = Cluster([Pod("blue", "b")])
    cluster.scrape()
    reading = cluster.telemetry().read(Slot.GREEN)
    candidate, stable = reading.arms[Arm.CANDIDATE], reading.arms[Arm.STABLE]
    assert candidate == replace(stable, requests=0)
    assert set(reading.answers) == {Arm.STABLE}
    assert any("slot green" in sentence for sentence in reading.missing)


def test_arms_count_by_the_bounds_that_all_their_pods_have(cluster: Cluster) -> None:
    cluster.pod("g").series = [each for each in cluster.pod("g").series if each[0].get("le") != "0.02"]
    arms = cluster.telemetry().read(Slot.GREEN).arms
    bounds = {tuple(bound for bound, _ in counters.durations) for counters in arms.values()}
    assert len(bounds) == 1
    assert 0.02 not in bounds.pop()


# --- scraped one after the other -------------------------------------------------------


def test_counts_are_told_once_every_pod_was_scraped_again(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    before = telemetry.read(Slot.GREEN)
    cluster.pod("b").ask(10)
    cluster.pod("g").ask(1)
    cluster.later(5, "g")
    held = telemetry.read(Slot.GREEN)
    assert requests(held) == both(7, 50)
    cluster.later(5, "b")
    poll = between(before, telemetry.read(Slot.GREEN), 0.1, Counted.AS_CAME)
    assert (poll.candidate.requests, poll.stable.requests) == (1, 10)


def test_a_pod_that_goes_is_not_waited_for(cluster: Cluster) -> None:
    cluster.pods.append(Pod("blue", "b2"))
    cluster.scrape()
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pods.remove(cluster.pod("b2"))
    cluster.pod("b").ask(1)
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 51)


def test_a_new_pod_that_takes_requests_is_waited_for(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pods.append(Pod("green", "g2", started_s=T0 + 1, ready_s=T0 + 2))
    cluster.pod("g2").ask(3)
    cluster.pod("b").ask(10)
    cluster.later(5, "b", "g")
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 50)
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(10, 60)


def test_an_older_scrape_of_a_second_prometheus_behind_the_address_is_left_out(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    earlier = [replace(pod, series=list(pod.series)) for pod in cluster.pods]
    cluster.pod("b").ask(10)
    cluster.later(5)
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 60)
    cluster.pods = earlier
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 60)


def test_a_reading_is_of_the_newest_scrape_and_says_how_far_back_the_oldest_lies(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    first = telemetry.read(Slot.GREEN)
    assert first.late_s == 0
    assert abs(first.at_s - time.time()) < 5
    cluster.later(4, "g")
    cluster.now_s += 1
    assert telemetry.read(Slot.GREEN) == replace(first, missing=())
    cluster.later(1, "b")
    cluster.now_s += 8
    reading = telemetry.read(Slot.GREEN)
    assert reading.late_s == 2
    assert 8 <= time.time() - reading.at_s < 10


# --- what cannot be trusted ------------------------------------------------------------


def unready(cluster: Cluster) -> None:
    for pod in cluster.pods:
        pod.is_ready = False


def edit(
    name: str, change: Callable[[Labels, float], list[tuple[Labels, float]]]
) -> Callable[[Cluster], None]:
    """Of the series of pod `g` that are called so, `change` makes others."""

    def apply(cluster: Cluster) -> None:
        pod = cluster.pod("g")
        pod.series = [
            new
            for labels, value in pod.series
            for new in (change(labels, value) if labels["__name__"] == name else [(labels, value)])
        ]

    return apply


REQUESTS, STARTED = "coalmine_requests_total", "coalmine_started_seconds"


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        pytest.param(
            lambda cluster: setattr(cluster.pod("g"), "scraped_s", None),
            "no counts of pod g for 900 s",
            id="a pod that takes requests is not scraped",
        ),
        pytest.param(
            lambda cluster: setattr(cluster, "now_s", T0 + 121), "last scraped pod b 121 s ago", id="stale"
        ),
        pytest.param(
            edit(REQUESTS, lambda labels, value: [(labels, value), ({**labels, "job": "again"}, value)]),
            r"several series of coalmine_requests_total.*jobs again, models",
            id="scraped twice",
        ),
        pytest.param(
            edit(STARTED, lambda labels, value: [(labels, value), ({**labels, "job": "again"}, value)]),
            "several series",
            id="started twice",
        ),
        pytest.param(edit(REQUESTS, lambda labels, _: [(labels, math.nan)]), "no count", id="NaN"),
        pytest.param(edit(STARTED, lambda *_: []), "is not there once", id="a part"),
        pytest.param(edit(REQUESTS, lambda *_: []), "by code it counts 0 requests.*by duration 7", id="half"),
        pytest.param(
            edit(REQUESTS, lambda labels, value: [({**labels, "pod": ""}, value)]),
            "without the label `pod`",
            id="no pod",
        ),
        pytest.param(
            edit(REQUESTS, lambda labels, v: [({k: w for k, w in labels.items() if k != "audience"}, v)]),
            "no label 'audience'",
            id="an older server",
        ),
        pytest.param(
            edit(REQUESTS, lambda labels, value: [({**labels, "slot": "red"}, value)]),
            "`slot` is green, red",
            id="no slot",
        ),
    ],
)
def test_what_cannot_be_trusted_is_no_measurement(
    cluster: Cluster, happens: Callable[[Cluster], None], said: str
) -> None:
    happens(cluster)
    with pytest.raises(TelemetryUnavailable, match=said):
        cluster.telemetry().read(Slot.GREEN)


def test_a_counter_that_falls_without_a_new_start_is_no_measurement(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pod("g").start(cluster.pod("g").started_s)
    cluster.later(5)
    with pytest.raises(TelemetryUnavailable, match=r"Pod g has counted 7 .* and now 0"):
        telemetry.read(Slot.GREEN)


def test_scrapes_that_no_longer_come_are_known_by_how_often_they_came(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    for _ in range(2):
        telemetry.read(Slot.GREEN)
        cluster.later(5)
    cluster.now_s += 14
    telemetry.read(Slot.GREEN)
    cluster.now_s += 2
    with pytest.raises(TelemetryUnavailable, match="more than 15 s is too long"):
        telemetry.read(Slot.GREEN)


def test_a_scrape_that_fails_holds_the_counts_and_one_that_fails_on_is_said(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pod("b").ask(10)
    for _ in range(12):
        cluster.later(10, "b")
        cluster.pod("g").scraped_s = None  # as Prometheus marks what it could not scrape
        assert requests(telemetry.read(Slot.GREEN)) == both(7, 50)
    cluster.later(10, "b")
    with pytest.raises(TelemetryUnavailable, match="no counts of pod g for 130 s"):
        telemetry.read(Slot.GREEN)


def test_a_pod_that_takes_no_requests_need_not_be_scraped(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    cluster.pod("b").ask(10)
    cluster.pod("g").is_ready = False
    cluster.pod("g").scraped_s = None
    cluster.later(5, "b")
    assert requests(telemetry.read(Slot.GREEN)) == both(7, 60)


# --- what servers answered, and what nobody counts -------------------------------------


def test_answers_are_added_up_over_pods_and_their_lives(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    first = telemetry.read(Slot.GREEN)
    cluster.pod("g").start(T0 + 1)
    cluster.pod("g").ask(4)
    cluster.pod("g").server.lost(0.25)
    cluster.later(5)
    reading = telemetry.read(Slot.GREEN)
    answers = reading.answers[Arm.CANDIDATE]
    assert answers.epoch == first.answers[Arm.CANDIDATE].epoch
    assert (answers.labels, answers.loss) == (1, 0.25)
    assert answers.scores[-1] == (math.inf, 11)
    assert dict(answers.scores)[0.45] == 0


def test_scores_are_asked_for_where_a_gate_needs_them_alone(cluster: Cluster) -> None:
    reading = PrometheusTelemetry("m", "shop", cluster.find, cluster.ready).read(Slot.GREEN)
    assert "coalmine_score" not in cluster.asked[0]
    assert reading.answers == {}
    assert all("no pod" not in sentence for sentence in reading.missing)


def test_that_nobody_counts_what_never_reached_a_pod_is_said_once(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    (said,) = telemetry.read(Slot.GREEN).missing
    assert "never reached a pod" in said
    assert telemetry.read(Slot.GREEN).missing == ()


def test_scrapes_that_lie_far_apart_are_said_once(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    telemetry.read(Slot.GREEN)
    said = []
    for _ in range(2):
        cluster.later(3, "g")
        cluster.later(6, "b")
        said += telemetry.read(Slot.GREEN).missing
    assert len(said) == 1
    assert "more than 5 s apart" in said[0]


def test_another_telemetry_is_another_epoch(cluster: Cluster) -> None:
    telemetry = cluster.telemetry()
    assert telemetry.read(Slot.GREEN).epoch == telemetry.read(Slot.GREEN).epoch
    assert telemetry.read(Slot.GREEN).epoch != cluster.telemetry().read(Slot.GREEN).epoch


def istio(slot: str, flags: str, value: float, pod: str = "gateway") -> tuple[Labels, float]:
    labels = {
        "__name__": "istio_requests_total",
        "pod": pod,
        "namespace": "istio-ingress",
        "destination_service_name": f"m-{slot}",
        "response_flags": flags,
    }
    return labels, value


def test_what_never_reached_a_pod_is_added_to_the_failures_that_servers_count(cluster: Cluster) -> None:
    telemetry = cluster.telemetry(ISTIO)
    cluster.others = [istio("green", "-", 7), istio("blue", "-", 50)]
    before = telemetry.read(Slot.GREEN)
    cluster.others.append(istio("green", "UF,URX", 3))
    cluster.pod("g").ask(1)
    cluster.later(5)
    after = telemetry.read(Slot.GREEN)
    poll = between(before, after, 0.5)
    assert (poll.candidate.requests, poll.candidate.failures) == (4, 3)
    assert (poll.stable.requests, poll.stable.failures) == (0, 0)
    assert poll.candidate.within[-1] == 4  # refused at once
    assert after.missing == before.missing == ()


def test_proxies_that_are_not_scraped_are_said_once_users_come(cluster: Cluster) -> None:
    telemetry = cluster.telemetry(ISTIO)
    (said,) = telemetry.read(Slot.GREEN).missing
    assert "nothing of Istio's proxies" in said
    assert telemetry.read(Slot.GREEN).missing == ()
