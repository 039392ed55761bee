"""The way of releases on a cluster, with 200 users a second at the gateway, through Flux, which looks every
10 s, and through each router whose data plane runs here.

1.0.0 and 1.1.0 are good; 1.2.0 refuses a fifth of the users.
"""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.cluster.shop import ROLLED_BACK, Shop
from tests.scenarios.workplace import MODEL

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


def test_a_good_release_is_promoted_and_a_bad_one_brought_back(shop: Shop) -> None:
    with shop.users() as users:
        users.await_requests(200)
        before = shop.pods()
        shop.deliver("1.1.0")
        shop.told(users)
        assert shop.slots == {"stable": "1.1.0", "candidate": None}
        # Those that stay are the very pods that were tested; the release before waits in its slot.
        assert before.items() <= shop.pods().items()
        tested = shop.pods()
        shop.deliver("1.2.0", status=ROLLED_BACK)
        shop.told(users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert {uid for uid, version in tested.items() if version == "1.1.0"} <= shop.pods().keys()
    assert {version for version, _ in users.failures} == {"1.2.0"}
    assert sum(users.failures.values()) < 600


@pytest.mark.slow
def test_a_newer_release_supersedes_the_rollout_of_an_older_one(shop: Shop) -> None:
    shop.plan(SLOW)
    with shop.users() as users, shop.delivering("1.1.0") as older:
        users.await_version("1.1.0")
        shop.deliver("1.2.0", status=ROLLED_BACK)
        assert "superseded" in shop.work.ended(older).out
        shop.told(users)
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert {version for version, _ in users.failures} == {"1.2.0"}


@pytest.mark.slow
def test_chosen_users_get_the_candidate_and_the_others_do_not(shop: Shop) -> None:
    shop.plan(CHOSEN_USERS)
    with (
        shop.users() as others,
        shop.users({"x-group": "beta"}) as chosen,
        shop.delivering("1.1.0") as delivery,
    ):
        chosen.await_version("1.1.0")
        stayed = others.answers["1.1.0", 200]
        assert shop.work.ended(delivery).status == 0
        shop.told(others)
    assert stayed == 0
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert not others.failures
    assert not chosen.failures


@pytest.mark.slow
def test_testers_reach_the_candidate_before_everybody_gets_it_at_once(shop: Shop) -> None:
    shop.plan(ALL_AT_ONCE)
    with shop.users() as users, shop.delivering("1.1.0") as delivery:
        shop.await_told("Waiting for a person")
        assert version_seen_by_a_tester(shop, "green") == "1.1.0"
        assert ("1.1.0", 200) not in users.answers
        shop.run("approve")
        assert shop.work.ended(delivery).status == 0
        shop.told(users)
    assert shop.slots == {"stable": "1.1.0", "candidate": None}
    assert not users.failures


@pytest.mark.slow
def test_a_bad_release_is_seen_in_copies_and_costs_no_user_anything(shop: Shop) -> None:
    shop.plan(COPIES_FIRST)
    with shop.users() as users:
        shop.deliver("1.2.0", status=ROLLED_BACK)
        shop.told(users)
    assert shop.slots == {"stable": "1.0.0", "candidate": None}
    assert not users.failures
    assert {version for version, _ in users.answers} == {"1.0.0"}


# --- what the stories look at ------------------------------------------------------------


def version_seen_by_a_tester(shop: Shop, slot: str) -> str:
    """What answers to whoever names the slot."""
    url = f"http://{shop.address}/v2/models/{MODEL}"
    asked = urllib.request.Request(url, headers={"host": shop.host, "x-coalmine-slot": slot})
    with urllib.request.urlopen(asked, timeout=5) as answer:
        return str(json.load(answer)["versions"][0])
