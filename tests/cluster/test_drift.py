"""Hands on a cluster that serves: found in one look, told once, and mended or said to be a person's.

Everything is real: pods, gateway, Flux, Prometheus; and what looks has the runner's rights alone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from coalmine.drift import alerts
from coalmine.drift.findings import Kind
from coalmine.manifest import Trigger
from coalmine.operations.cluster_environment import ClusterEnvironment
from coalmine.operations.watch import Watch
from coalmine.operations.workspace import Workspace
from tests.cluster.accounts import reached_as
from tests.cluster.hands import HANDS, flux_looks_only_when_asked
from tests.cluster.shop import ENVIRONMENT, LONG_BAKE, Shop
from tests.local.harness import eventually
from tests.scenarios.watched import Inbox, kinds, listening, told_to
from tests.scenarios.workplace import MODEL

KIM = Trigger(kind="person", who="Kim <kim@example.org>", proof="claimed")
QUIET_WITHIN_S = 90.0  # pods that start anew


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with listening() as inbox:
        yield inbox


@pytest.fixture
def promoted(shop: Shop) -> Shop:
    """1.1.0 serves, after 1.0.0; 1.2.0 waits for its delivery."""
    with shop.delivering("1.1.0") as delivery:
        shop.await_told("Stage 1 of")
        shop.run("promote")
        assert shop.work.ended(delivery).status == 0
    return shop


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_each_hand_is_seen_in_one_look_told_once_and_mended_or_said_to_be_a_persons(
    promoted: Shop, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = promoted
    told_to(shop.work, inbox)
    monkeypatch.setattr(sys, "path", [*sys.path])  # opening a workspace makes its modules importable
    monkeypatch.setattr(ClusterEnvironment, "cluster", reached_as(shop.cluster, "coalmine-runner"))
    # Nobody waits here for what an honest change might show.
    monkeypatch.setattr(alerts, "HEALS_AFTER_S", 0.0)
    monkeypatch.setattr(Kind, "settles_s", 0.0)
    workspace = Workspace.open(shop.work.top)
    looking = Watch(workspace, ENVIRONMENT, (), KIM, lambda _: None)
    healing = Watch(workspace, ENVIRONMENT, (), KIM, lambda _: None, heals=True)
    flux_looks_only_when_asked(shop)
    eventually(lambda: kinds(healing.look()) == [], "nothing diverges", QUIET_WITHIN_S)
    for name, hand in HANDS.items():
        inbox.bodies.clear()
        left = hand.do(shop)
        began_s = time.monotonic()
        seen = set(kinds(looking.look()))
        look_s = time.monotonic() - began_s
        assert hand.kind in seen, (name, seen)
        assert seen <= {hand.kind, *hand.with_it}, (name, seen)
        healed = [each for each in healing.look().healed if each.finding.kind is hand.kind and each.is_done]
        if hand.undo is not None:
            assert healed == [], name
            hand.undo(shop, left)
        eventually(lambda: kinds(healing.look()) == [], name, QUIET_WITHIN_S)
        appeared = [kind for news, _ in inbox.told for kind in news]
        ended = [kind for _, news in inbox.told for kind in news]
        assert (appeared.count(hand.kind), ended.count(hand.kind)) == (1, 1), (name, inbox.told)
        with capsys.disabled():
            mended = "by a person" if hand.undo is not None else "healed"
            print(f"\n{shop.router}: {name}: found in {look_s:.1f} s, {mended}", end="")
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert shop.pushed_stable() == "1.1.0"
    assert shop.work.git("status", "--short") == ""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_rollout_without_a_runner_and_a_rollback_that_waits_are_found_and_ended(shop: Shop) -> None:
    shop.plan(LONG_BAKE)
    with shop.users() as users:
        users.await_requests(200)
        with shop.delivering("1.1.0") as delivery:
            shop.await_told("Bake")
            # Flux may be at work on what was pushed last, as long as it takes.
            assert set(found(shop)) <= {Kind.FLUX_STALE.value}
            os.killpg(delivery.pid, signal.SIGKILL)
            delivery.communicate()
        eventually(lambda: found(shop) == ["runner gone"], "the runner's lease is over", 60)
        shop.work.run("watch", "-e", ENVIRONMENT, "--once", "--heal")
        assert shop.slots == {"stable": "1.1.0", "candidate": None}
        point = "after coalmine.operations.going_back:_move"
        shop.work.run_killed(point, "rollback", MODEL, "--environment", ENVIRONMENT)
        assert found(shop) == ["rollback waits"]
        shop.work.run("watch", "-e", ENVIRONMENT, "--once", "--heal")
    assert users.failures == {}
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert shop.pushed_stable() == "1.0.0"
    assert found(shop) == []


def found(shop: Shop) -> list[str]:
    process = shop.work.start("watch", "-e", ENVIRONMENT, "--once", "--json")
    ran = shop.work.ended(process)
    return [each["kind"] for each in ran.json["findings"]]
