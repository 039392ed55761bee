"""The way of releases on a cluster, with 200 users a second at the gateway, through Flux, which looks every
10 s, and through each router whose data plane runs here.

1.0.0 and 1.1.0 are good; 1.2.0 refuses a fifth of the users.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import POD
from tests.cluster.shop import ENVIRONMENT, Shop, opened
from tests.scenarios.lending import LOANS
from tests.scenarios.users import Users, asking
from tests.scenarios.workplace import MODEL

PER_S = 200
ROLLED_BACK = 1
GATES = """
  gates:
    - {gate: errors, margin: 0.1}
"""
CHOSEN_USERS = f"""rollout:
  strategy: ab
  users: {{header: x-group, value: beta}}
  bake_s: 4
  poll_s: 2
  no_data_budget_s: 60{GATES}"""
ALL_AT_ONCE = f"""rollout:
  strategy: blue-green
  bake_s: 6
  poll_s: 2
  no_data_budget_s: 60{GATES}    - {{gate: approval}}
"""
COPIES_FIRST = f"""rollout:
  shadow: {{percent: 100}}
  stages: [50]
  bake_s: 4
  poll_s: 2
  no_data_budget_s: 60{GATES}"""
SLOW = f"""rollout:
  stages: [20]
  bake_s: 600
  poll_s: 2
  no_data_budget_s: 60{GATES}"""


@pytest.fixture(params=["gateway_api", "istio"])
def shop(request: pytest.FixtureRequest, released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Shop]:
    """1.0.0 serves."""
    with opened(released, tmp_path, cluster, request.param) as shop:
        shop.deliver("1.0.0")
        assert shop.slots == {"stable": "1.0.0", "candidate": None}
        yield shop


def test_a_good_release_is_promoted_and_a_bad_one_brought_back(shop: Shop) -> None:
    with users_of(shop) as users:
        users.await_requests(200)
        before = pods(shop)
        shop.deliver("1.1.0")
        told(shop, users)
        assert shop.slots == {"stable": "1.1.0", "candidate": None}
        # Those that stay are the very pods that were tested; the release before waits in its slot.
        assert before.items() <= pods(shop).items()
        tested = pods(shop)
        shop.deliver("1.2.0", status=ROLLED_BACK)
        told(shop, users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert {uid for uid, version in tested.items() if version == "1.1.0"} <= pods(shop).keys()
    assert {version for version, _ in users.failures} == {"1.2.0"}
    assert sum(users.failures.values()) < 600


@pytest.mark.slow
def test_a_newer_release_supersedes_the_rollout_of_an_older_one(shop: Shop) -> None:
    shop.plan(SLOW)
    with users_of(shop) as users:
        older = shop.work.start("deliver", MODEL, "--environment", ENVIRONMENT, "--version", "1.1.0")
        while ("1.1.0", 200) not in users.answers:
            assert older.poll() is None
            time.sleep(0.2)
        shop.deliver("1.2.0", status=ROLLED_BACK)
        assert "superseded" in shop.work.ended(older).out
        told(shop, users)
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert {version for version, _ in users.failures} == {"1.2.0"}


@pytest.mark.slow
def test_chosen_users_get_the_candidate_and_the_others_do_not(shop: Shop) -> None:
    shop.plan(CHOSEN_USERS)
    with users_of(shop) as others, users_of(shop, {"x-group": "beta"}) as chosen:
        delivery = shop.work.start("deliver", MODEL, "--environment", ENVIRONMENT, "--version", "1.1.0")
        while ("1.1.0", 200) not in chosen.answers:
            assert delivery.poll() is None
            time.sleep(0.2)
        stayed = others.answers["1.1.0", 200]
        assert shop.work.ended(delivery).status == 0
        told(shop, others)
    assert stayed == 0
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert not others.failures
    assert not chosen.failures


@pytest.mark.slow
def test_testers_reach_the_candidate_before_everybody_gets_it_at_once(shop: Shop) -> None:
    shop.plan(ALL_AT_ONCE)
    with users_of(shop) as users:
        delivery = shop.work.start("deliver", MODEL, "--environment", ENVIRONMENT, "--version", "1.1.0")
        while "needs_approval" not in kinds_of_events(shop):
            assert delivery.poll() is None
            time.sleep(0.3)
        assert version_seen_by_a_tester(shop, "green") == "1.1.0"
        assert ("1.1.0", 200) not in users.answers
        shop.run("approve")
        assert shop.work.ended(delivery).status == 0
        told(shop, users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert not users.failures


@pytest.mark.slow
def test_a_bad_release_is_seen_in_copies_and_costs_no_user_anything(shop: Shop) -> None:
    shop.plan(COPIES_FIRST)
    with users_of(shop) as users:
        shop.deliver("1.2.0", status=ROLLED_BACK)
        told(shop, users)
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert not users.failures
    assert {version for version, _ in users.answers} == {"1.0.0"}


# --- what the stories look at ------------------------------------------------------------


def users_of(shop: Shop, headers: dict[str, str] | None = None) -> AbstractContextManager[Users]:
    return asking(shop.url, shop.work.top / LOANS, PER_S, {"host": shop.host, **(headers or {})})


def version_seen_by_a_tester(shop: Shop, slot: str) -> str:
    """What answers to whoever names the slot."""
    url = f"http://{shop.address}/v2/models/{MODEL}"
    asked = urllib.request.Request(url, headers={"host": shop.host, "x-coalmine-slot": slot})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return str(json.load(answer)["versions"][0])


def pods(shop: Shop) -> dict[str, str]:
    """The uid of each pod to the version that it serves."""
    labels = {"app.kubernetes.io/name": MODEL}
    found: list[dict[str, Any]] = shop.cluster.list(POD, labels)
    return {
        each["metadata"]["uid"]: each["metadata"]["labels"]["app.kubernetes.io/version"]
        for each in found
        if "deletionTimestamp" not in each["metadata"]
    }


def events_of(shop: Shop) -> list[dict[str, Any]]:
    """The story of the newest rollout, so far."""
    rollouts = shop.work.top / ".coalmine/rollouts" / ENVIRONMENT / MODEL
    newest = max(rollouts.glob("*/events.jsonl"), key=lambda path: path.parent.name)
    return [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]


def kinds_of_events(shop: Shop) -> set[str]:
    return {event["kind"] for event in events_of(shop)}


def told(shop: Shop, users: Users) -> None:
    """The story of the newest rollout, and what users saw so far, for whoever runs this with -s."""
    events = events_of(shop)
    for event in events:
        after_s = event["at_s"] - events[0]["at_s"]
        print(f"{after_s:7.1f} s {event['weight_percent']:3} %  {event['kind']}: {event['sentence']}")
    print(dict(users.answers))
