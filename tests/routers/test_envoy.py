from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coalmine.durable import replace_json
from coalmine.errors import RouteConflict, RouterUnavailable
from coalmine.local.stack import LocalStack
from coalmine.rollout.ports import TrafficSplit
from coalmine.routers.envoy import EnvoyRouter
from coalmine.slots import Slot
from tests.contracts.router import RouterContract
from tests.local.harness import TIMEOUT_S, User, declared_router, eventually, fake_server, running_stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path) as stack:
        yield stack


@pytest.fixture
def served(stack: LocalStack) -> LocalStack:
    """Model `m` with a server in both slots."""
    for slot in Slot:
        stack.run(fake_server(stack, f"m-{slot}"))
    return stack


class TestEnvoyKeepsTheContract(RouterContract):
    @pytest.fixture
    def router(self, stack: LocalStack) -> EnvoyRouter:
        return declared_router(stack, "m")

    @pytest.fixture
    def neighbour(self, stack: LocalStack) -> EnvoyRouter:
        return declared_router(stack, "neighbour")

    @pytest.fixture
    def cut(self, stack: LocalStack) -> Callable[[], None]:
        return stack.down


@pytest.mark.usefixtures("served")
def test_users_are_split_by_weight(router: EnvoyRouter, user: User) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 20))
    slots = Counter(user.ask()[1]["slot"] for _ in range(2000))
    # Five standard deviations of a binomial(2000, .2) on either side.
    assert 310 < slots["m-green"] < 490
    assert slots["m-green"] + slots["m-blue"] == 2000


def test_no_request_fails_and_none_goes_astray_while_the_weight_moves(
    served: LocalStack, router: EnvoyRouter
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    statuses: Counter[int] = Counter()
    ended = threading.Event()

    def load() -> None:
        user = User(served)
        while not ended.is_set():
            statuses[user.ask()[0]] += 1
        user.close()

    users = [threading.Thread(target=load) for _ in range(2)]
    for thread in users:
        thread.start()
    try:
        probe = User(served)
        for turn in range(20):
            slot = Slot.GREEN if turn % 2 == 0 else Slot.BLUE
            router.set_split(TrafficSplit.all_to(slot))
            # Envoy said that it has the split, so the very next request obeys.
            assert probe.ask()[1]["slot"] == f"m-{slot}"
        probe.close()
    finally:
        ended.set()
        for thread in users:
            thread.join()
    assert set(statuses) == {200}


@pytest.mark.usefixtures("served")
def test_a_connection_serves_many_requests_on_both_sides_of_the_proxy(
    router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    assert len({user.ask()[1]["connection"] for _ in range(50)}) == 1


def test_a_slot_without_weight_needs_no_server(stack: LocalStack, router: EnvoyRouter, user: User) -> None:
    stack.run(fake_server(stack, "m-blue"))
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    assert {user.ask()[0] for _ in range(50)} == {200}


@pytest.mark.usefixtures("served")
def test_a_failure_reaches_the_user_and_is_not_tried_again(router: EnvoyRouter, user: User) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 50))
    assert {user.ask("500")[0] for _ in range(20)} == {500}
    status, body = user.ask("reset")
    assert status == 503
    assert body["error"]


@pytest.mark.usefixtures("served")
def test_an_answer_that_takes_longer_than_the_models_timeout_is_a_504(
    router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    assert user.ask("slow")[0] == 504


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/m", 200),
        ("/v2/models/m/infer", 200),
        ("/v2/models/m/versions/1/infer", 200),
        ("/v2/models/mm/infer", 404),
        ("/v2/models/unknown/infer", 404),
        ("/", 404),
    ],
)
@pytest.mark.usefixtures("served")
def test_only_a_models_own_paths_reach_it(router: EnvoyRouter, user: User, path: str, status: int) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    answered, body = user.get(path)
    assert answered == status
    assert "error" in body if status == 404 else body["path"] == path


def test_a_route_edited_by_hand_is_seen_as_it_is(stack: LocalStack, router: EnvoyRouter) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    edit_weights(stack, {"m-blue": 40, "m-green": 60})
    eventually(lambda: router.observed_split() == TrafficSplit.canary(Slot.GREEN, 60), "the edit is observed")
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 5)


def test_a_route_edited_into_no_split_of_the_slots_is_a_conflict(
    stack: LocalStack, router: EnvoyRouter
) -> None:
    declared_router(stack, "neighbour")
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    edit_weights(stack, {"m-blue": 50, "neighbour-blue": 50})

    def conflicts() -> bool:
        try:
            router.observed_split()
        except RouteConflict as error:
            return "another hand" in str(error)
        return False

    eventually(conflicts, "the edit is observed")


def test_an_update_that_envoy_refuses_leaves_the_route_as_it_was_and_is_reported(
    stack: LocalStack, router: EnvoyRouter
) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    # Another model's route leads to a cluster that nobody declared: the file as a whole is refused.
    edit_weights(stack, {"m-blue": 95, "nowhere": 5})
    declared_router(stack, "neighbour")
    with pytest.raises(RouterUnavailable, match="refused"):
        EnvoyRouter("neighbour", stack.config_folder, stack.admin_address, TIMEOUT_S).set_split(
            TrafficSplit.all_to(Slot.BLUE)
        )
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 5)


def test_a_model_that_was_never_declared_is_not_routed(stack: LocalStack) -> None:
    router = EnvoyRouter("stranger", stack.config_folder, stack.admin_address, TIMEOUT_S)
    with pytest.raises(RouterUnavailable, match="where the servers of stranger listen"):
        router.set_split(TrafficSplit.all_to(Slot.BLUE))


def test_a_routes_file_that_is_no_longer_readable_is_a_conflict(
    stack: LocalStack, router: EnvoyRouter
) -> None:
    (stack.config_folder / "routes.json").write_text("{")
    with pytest.raises(RouteConflict, match=r"routes\.json"):
        router.set_split(TrafficSplit.all_to(Slot.BLUE))


def test_models_that_are_routed_at_the_same_moment_all_keep_their_routes(stack: LocalStack) -> None:
    routers = {model: declared_router(stack, model) for model in ("a", "b", "c", "d")}
    threads = [
        threading.Thread(target=router.set_split, args=[TrafficSplit.canary(Slot.GREEN, 10 + i)])
        for i, router in enumerate(routers.values())
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observed = [router.observed_split() for router in routers.values()]
    assert observed == [TrafficSplit.canary(Slot.GREEN, 10 + i) for i in range(4)]


def test_splits_are_still_there_after_the_stack_was_down(stack: LocalStack, router: EnvoyRouter) -> None:
    router.set_split(TrafficSplit.canary(Slot.GREEN, 5))
    stack.down()
    stack.up()
    assert router.observed_split() == TrafficSplit.canary(Slot.GREEN, 5)


def edit_weights(stack: LocalStack, weights: dict[str, int]) -> None:
    path = stack.config_folder / "routes.json"
    content = json.loads(path.read_text())
    for route in content["resources"][0]["virtual_hosts"][0]["routes"]:
        if route["name"] == "m":
            route["route"]["weighted_clusters"]["clusters"] = [
                {"name": name, "weight": weight} for name, weight in weights.items()
            ]
    replace_json(path, content)


@pytest.mark.usefixtures("served")
def test_a_user_cannot_have_a_failure_tried_again_or_the_timeout_changed(
    router: EnvoyRouter, user: User
) -> None:
    """Envoy takes orders from headers of whom it holds for one of its own."""
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    own = {"x-forwarded-for": "10.0.0.1"}
    orders = {"x-envoy-retry-on": "5xx,reset", "x-envoy-max-retries": "3"}
    before = int(user.ask("500", {**own, **orders})[1]["asked"])
    assert user.ask("500", {**own, **orders})[1]["asked"] == before + 1
    assert user.ask("", {**own, "x-envoy-upstream-rq-timeout-ms": "1"})[0] == 200
    assert user.ask("slow", {**own, "x-envoy-upstream-rq-timeout-ms": "20000"})[0] == 504
