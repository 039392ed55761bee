"""A cluster whose objects are mirrored by watches: it says what the API server would, and asks it little."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coalmine.cluster import mirror
from coalmine.cluster.client import ClusterUnavailable, Stale
from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, HTTP_ROUTE, LEASE, POD
from coalmine.cluster.watched import WatchedCluster
from coalmine.journals.shared_lines import SharedLines
from coalmine.reconcilers.deployed import Deployed
from coalmine.rollout.ports import SlotHealth, TrafficSplit
from coalmine.routers.cluster_route import ClusterRouter
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.slots import Slot
from coalmine.telemetry.pods import ModelPods
from tests.reconcilers.test_pods import deployment
from tests.routers.test_cluster_route import accept, http_route
from tests.simulators.http_api import HttpApi, http_api

Json = dict[str, Any]
SHORT_S = 1.0


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "WATCHED_FOR_S", SHORT_S)
    monkeypatch.setattr(mirror, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def api() -> Iterator[HttpApi]:
    with http_api() as api:
        yield api


@pytest.fixture
def watched(api: HttpApi) -> Iterator[WatchedCluster]:
    watched = WatchedCluster(api.cluster())
    yield watched
    watched.stop()


def config_map(name: str, said: str = "", labels: dict[str, str] | None = None) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels or {}},
        "data": {"said": said},
    }


def said(body: Json | None) -> str | None:
    return None if body is None else body["data"]["said"]


def mirrored(api: HttpApi, watched: WatchedCluster) -> None:
    """Return when config maps are read from memory."""

    def asked_nothing() -> bool:
        before = len(api.looks())
        watched.get(CONFIG_MAP, "a")
        return len(api.looks()) == before

    eventually(asked_nothing, within_s=2.0)  # a doubt lasts longer, where no watch ends it


def await_said(watched: WatchedCluster, words: str) -> None:
    eventually(lambda: said(watched.get(CONFIG_MAP, "a")) == words)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


# --- what it is for -------------------------------------------------------------------------


def test_to_look_at_a_rollout_again_asks_nothing(api: HttpApi, watched: WatchedCluster) -> None:
    other = api.elsewhere()
    route = http_route("m", 100, 0)
    other.create(HTTP_ROUTE, {**route, "metadata": {**route["metadata"], "generation": 1}})
    accept(api.state.objects["HTTPRoute", "m-route"])
    for slot in Slot:
        running = deployment(available=1)
        named = {**running["metadata"], "name": f"m-{slot}"}
        other.create(DEPLOYMENT, {**running, "kind": "Deployment", "metadata": named})
    router, deployed = ClusterRouter(watched, "m", GATEWAY_API), Deployed(watched, "m")
    asks, pods = SharedLines(watched, "m-asks", "m", "r"), ModelPods(watched, "m")

    def look() -> None:
        assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
        assert all(deployed.status(slot).health is SlotHealth.READY for slot in Slot)
        assert asks.read() == []
        assert pods.ready() == []

    look()
    kinds = (HTTP_ROUTE, DEPLOYMENT, CONFIG_MAP, POD)
    eventually(lambda: all(f"WATCH {kind.plural}" in api.asked for kind in kinds))
    look()
    asked = len(api.looks())
    for _ in range(50):
        look()
    assert len(api.looks()) == asked


# --- it says what the API server would --------------------------------------------------------


def test_the_first_reading_waits_for_no_watch(api: HttpApi, watched: WatchedCluster) -> None:
    api.refused = True
    api.elsewhere().create(CONFIG_MAP, config_map("a", "there"))
    assert said(watched.get(CONFIG_MAP, "a")) == "there"
    assert [said(each) for each in watched.list(CONFIG_MAP)] == ["there"]
    assert watched.get(CONFIG_MAP, "b") is None


def test_what_others_write_is_seen_soon_and_nothing_is_asked(api: HttpApi, watched: WatchedCluster) -> None:
    other = api.elsewhere()
    mirrored(api, watched)
    asked = len(api.looks())
    other.create(CONFIG_MAP, config_map("a", "new"))
    eventually(lambda: said(watched.get(CONFIG_MAP, "a")) == "new")
    other.merge(CONFIG_MAP, "a", {"data": {"said": "changed"}})
    eventually(lambda: said(watched.get(CONFIG_MAP, "a")) == "changed")
    other.delete(CONFIG_MAP, "a")
    eventually(lambda: watched.get(CONFIG_MAP, "a") is None)
    assert len(api.looks()) == asked


def test_an_object_is_as_a_single_reading_gives_it(api: HttpApi, watched: WatchedCluster) -> None:
    api.elsewhere().create(CONFIG_MAP, config_map("a", "whole"))
    mirrored(api, watched)
    assert watched.get(CONFIG_MAP, "a") == api.cluster().get(CONFIG_MAP, "a")


def test_whoever_changes_what_it_read_changes_nothing_for_the_next(
    api: HttpApi, watched: WatchedCluster
) -> None:
    api.elsewhere().create(CONFIG_MAP, config_map("a", "as it is"))
    mirrored(api, watched)
    for reader in (lambda: watched.get(CONFIG_MAP, "a"), lambda: watched.list(CONFIG_MAP)[0]):
        found = reader()
        assert found is not None
        found["data"]["said"] = "scribbled"
        assert said(reader()) == "as it is"


def test_a_list_is_by_labels(api: HttpApi, watched: WatchedCluster) -> None:
    other = api.elsewhere()
    for name, labels in (("a", {"app": "x", "of": "1"}), ("b", {"app": "x"}), ("c", {})):
        other.create(CONFIG_MAP, config_map(name, labels=labels))
    mirrored(api, watched)

    def named(labels: dict[str, str] | None) -> list[str]:
        return sorted(each["metadata"]["name"] for each in watched.list(CONFIG_MAP, labels))

    assert named({"app": "x"}) == ["a", "b"]
    assert named({"app": "x", "of": "1"}) == ["a"]
    assert named(None) == ["a", "b", "c"]


def test_leases_are_always_asked_for(api: HttpApi, watched: WatchedCluster) -> None:
    for _ in range(5):
        watched.get(LEASE, "a")
        watched.list(LEASE)
    assert len([each for each in api.asked if "leases" in each]) == 10


# --- what this process writes ---------------------------------------------------------------


def test_whoever_writes_reads_it_at_once_though_the_watch_lags(api: HttpApi, watched: WatchedCluster) -> None:
    watched.create(CONFIG_MAP, config_map("a", "first"))
    mirrored(api, watched)
    api.silent = True
    assert said(watched.get(CONFIG_MAP, "a")) == "first"
    body = watched.get(CONFIG_MAP, "a")
    assert body is not None
    body["data"]["said"] = "second"
    watched.replace(CONFIG_MAP, body)
    assert said(watched.get(CONFIG_MAP, "a")) == "second"
    watched.merge(CONFIG_MAP, "a", {"data": {"said": "third"}})
    assert said(watched.get(CONFIG_MAP, "a")) == "third"
    watched.create(CONFIG_MAP, config_map("b", "new"))
    assert said(watched.get(CONFIG_MAP, "b")) == "new"
    assert sorted(str(said(each)) for each in watched.list(CONFIG_MAP)) == ["new", "third"]
    watched.delete(CONFIG_MAP, "a")
    assert watched.get(CONFIG_MAP, "a") is None
    assert [said(each) for each in watched.list(CONFIG_MAP)] == ["new"]


def test_a_write_that_came_too_late_reads_anew_though_the_watch_lags(
    api: HttpApi, watched: WatchedCluster
) -> None:
    watched.create(CONFIG_MAP, config_map("a", "first"))
    mirrored(api, watched)
    api.silent = True
    mine = watched.get(CONFIG_MAP, "a")
    assert mine is not None
    api.elsewhere().merge(CONFIG_MAP, "a", {"data": {"said": "theirs"}})
    api.elsewhere().create(CONFIG_MAP, config_map("b", "theirs"))
    with pytest.raises(Stale):
        watched.replace(CONFIG_MAP, mine)
    assert said(watched.get(CONFIG_MAP, "a")) == "theirs"
    with pytest.raises(Stale):
        watched.create(CONFIG_MAP, config_map("b", "mine"))
    assert said(watched.get(CONFIG_MAP, "b")) == "theirs"


def test_once_the_watch_has_caught_up_a_write_costs_no_more_readings(
    api: HttpApi, watched: WatchedCluster
) -> None:
    watched.create(CONFIG_MAP, config_map("a", "first"))
    mirrored(api, watched)
    watched.merge(CONFIG_MAP, "a", {"data": {"said": "second"}})
    mirrored(api, watched)
    assert said(watched.get(CONFIG_MAP, "a")) == "second"


def test_many_writers_and_readers_never_read_less_than_they_wrote(
    api: HttpApi, watched: WatchedCluster
) -> None:
    watched.create(CONFIG_MAP, config_map("a", "0"))
    mirrored(api, watched)
    wrong: list[str] = []

    def count_up(number: int) -> None:
        name, chance = f"of-{number}", random.Random(number)
        watched.create(CONFIG_MAP, config_map(name, "0"))
        for counted in range(1, 40):
            if chance.random() < 0.2:
                watched.delete(CONFIG_MAP, name)
                if watched.get(CONFIG_MAP, name) is not None:
                    wrong.append(f"{name} is there after its deletion")
                watched.create(CONFIG_MAP, config_map(name))
            watched.merge(CONFIG_MAP, name, {"data": {"said": str(counted)}})
            if (found := said(watched.get(CONFIG_MAP, name))) != str(counted):
                wrong.append(f"{name} has {found}, not {counted}")

    threads = [threading.Thread(target=count_up, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what may become of a watch -------------------------------------------------------------


def test_a_watch_that_ends_by_itself_is_asked_for_anew_and_loses_nothing(
    api: HttpApi, watched: WatchedCluster
) -> None:
    other = api.elsewhere()
    other.create(CONFIG_MAP, config_map("a", "0"))
    mirrored(api, watched)
    for number in range(1, 25):
        other.merge(CONFIG_MAP, "a", {"data": {"said": str(number)}})
        await_said(watched, str(number))
        time.sleep(SHORT_S / 8)
    assert api.asked.count("WATCH configmaps") > 2
    assert api.asked.count("LIST configmaps") == 1
    # Told from where the one before ended, and nothing twice.
    assert api.watched_since == sorted(set(api.watched_since))


def test_what_the_api_server_has_forgotten_is_listed_anew(api: HttpApi, watched: WatchedCluster) -> None:
    other = api.elsewhere()
    for name in ("a", "b"):
        other.create(CONFIG_MAP, config_map(name, "old"))
    mirrored(api, watched)
    other.delete(CONFIG_MAP, "b")
    other.merge(CONFIG_MAP, "a", {"data": {"said": "new"}})
    api.forgotten = api.state.writes
    eventually(lambda: api.asked.count("LIST configmaps") > 1)
    mirrored(api, watched)
    assert said(watched.get(CONFIG_MAP, "a")) == "new"
    assert watched.get(CONFIG_MAP, "b") is None


def test_where_watches_are_refused_each_reading_asks(api: HttpApi, watched: WatchedCluster) -> None:
    api.refused = True
    other = api.elsewhere()
    other.create(CONFIG_MAP, config_map("a", "0"))
    assert said(watched.get(CONFIG_MAP, "a")) == "0"
    eventually(lambda: api.asked.count("WATCH configmaps") > 1)
    time.sleep(mirror.REOPENED_WITHIN_S)
    other.merge(CONFIG_MAP, "a", {"data": {"said": "1"}})
    assert said(watched.get(CONFIG_MAP, "a")) == "1"
    api.refused = False
    eventually(lambda: api.asked.count("WATCH configmaps") > 2)
    mirrored(api, watched)


def test_an_api_server_that_is_away_is_said_to_be_and_read_anew_when_it_is_back(
    api: HttpApi, watched: WatchedCluster
) -> None:
    api.elsewhere().create(CONFIG_MAP, config_map("a", "before"))
    mirrored(api, watched)
    api.away.set()

    def is_said() -> bool:
        try:
            watched.get(CONFIG_MAP, "a")
        except ClusterUnavailable:
            return True
        return False

    eventually(is_said)
    api.elsewhere().merge(CONFIG_MAP, "a", {"data": {"said": "after"}})
    api.away.clear()
    mirrored(api, watched)
    assert said(watched.get(CONFIG_MAP, "a")) == "after"


def test_a_watch_that_hangs_is_believed_for_so_long_and_no_longer(
    api: HttpApi, watched: WatchedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "REOPENED_WITHIN_S", 0.2)
    api.elsewhere().create(CONFIG_MAP, config_map("a", "before"))
    mirrored(api, watched)
    with api.state.lock:  # a watch that is open is told nothing more, and does not end
        eventually(lambda: watched._mirrors[CONFIG_MAP].get("a") is mirror.UNKNOWN)


def test_a_kind_is_watched_from_its_first_reading_on(api: HttpApi, watched: WatchedCluster) -> None:
    mirrored(api, watched)
    assert not any("deployments" in each for each in api.asked)
    watched.get(DEPLOYMENT, "a")
    eventually(lambda: "WATCH deployments" in api.asked)


def test_whoever_stops_watching_leaves_no_thread(api: HttpApi) -> None:
    watched = WatchedCluster(api.cluster())
    mirrored(api, watched)
    watched.stop()
    assert not [each for each in threading.enumerate() if each.name.startswith("watch ")]
