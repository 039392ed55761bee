"""What Envoy does with a split besides its weights, on loopback."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coalmine.durable import replace_json
from coalmine.errors import RouteConflict, Unsupported
from coalmine.local.stack import LocalStack
from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers.envoy import EnvoyRouter
from coalmine.slots import Slot
from tests.local.harness import User, eventually, fake_server, running_stack

HEADER = UserKey("header", "x-user-id")
COOKIE = UserKey("cookie", "uid")
USERS = [f"user-{number}" for number in range(400)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Model `m` with a server in both slots."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        for slot in Slot:
            stack.run(fake_server(stack, f"m-{slot}"))
        yield stack


def slot_of(user: User, headers: dict[str, str]) -> str:
    status, body = user.ask(headers=headers)
    assert status == 200
    return str(body["slot"])


# --- match -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "headers", "slot"),
    [
        pytest.param(UserKey("header", "x-group"), {"x-group": "beta"}, "green", id="header"),
        pytest.param(UserKey("header", "x-group"), {"X-Group": "beta"}, "green", id="header, other case"),
        pytest.param(UserKey("header", "x-group"), {"x-group": "beta2"}, "blue", id="another value"),
        pytest.param(UserKey("header", "x-group"), {}, "blue", id="no header"),
        pytest.param(UserKey("cookie", "group"), {"cookie": "group=beta"}, "green", id="cookie"),
        pytest.param(
            UserKey("cookie", "group"), {"cookie": "a=1; group=beta; b=2"}, "green", id="among others"
        ),
        pytest.param(UserKey("cookie", "group"), {"cookie": "group=beta2"}, "blue", id="a longer value"),
        pytest.param(UserKey("cookie", "group"), {"cookie": "subgroup=beta"}, "blue", id="a longer name"),
        pytest.param(UserKey("cookie", "group"), {"cookie": "a=group=beta"}, "blue", id="inside a value"),
        pytest.param(UserKey("cookie", "group"), {"x-group": "beta"}, "blue", id="a header is no cookie"),
    ],
)
def test_users_who_match_get_the_slot_whatever_the_weights(
    router: EnvoyRouter, user: User, key: UserKey, headers: dict[str, str], slot: str
) -> None:
    router.set_split(
        TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, match=Match(key, "beta"), match_to=Slot.GREEN)
    )
    assert {slot_of(user, headers) for _ in range(5)} == {f"m-{slot}"}


# --- sticky ----------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", list(Slot))
@pytest.mark.parametrize(
    ("sticky", "told"),
    [
        pytest.param(HEADER, lambda name: {"x-user-id": name}, id="header"),
        pytest.param(COOKIE, lambda name: {"cookie": f"a=b; uid={name}"}, id="cookie"),
    ],
)
def test_whoever_is_on_the_candidate_stays_there_as_its_weight_grows(
    router: EnvoyRouter,
    user: User,
    candidate: Slot,
    sticky: UserKey,
    told: Callable[[str], dict[str, str]],
) -> None:
    before: set[str] = set()
    for weight in (5, 25, 50, 100):
        router.set_split(TrafficSplit({candidate: weight, candidate.other: 100 - weight}, sticky=sticky))
        there = {name for name in USERS if slot_of(user, told(name)) == f"m-{candidate}"}
        assert before <= there
        # Five standard deviations of a binomial(400, weight).
        assert abs(len(there) - 4 * weight) <= 5 * (400 * weight / 100 * (1 - weight / 100)) ** 0.5
        before = there


@pytest.mark.parametrize("sticky", [HEADER, COOKIE], ids=["header", "cookie"])
def test_requests_that_do_not_say_who_asks_are_drawn_one_by_one(
    router: EnvoyRouter, user: User, sticky: UserKey
) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, sticky=sticky))
    slots = Counter(slot_of(user, {}) for _ in range(400))
    assert 150 < slots["m-green"] < 250


def test_a_new_user_is_given_a_cookie_and_stays_where_the_first_answer_came_from(
    router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, sticky=COOKIE))
    drawn = set()
    for _ in range(20):
        first = slot_of(user, {})
        cookie, *attributes = str(user.response.headers["set-cookie"]).split("; ")
        assert cookie.startswith("uid=coalmine.")
        assert "Path=/v2/models/m" in attributes
        assert {slot_of(user, {"cookie": cookie}) for _ in range(5)} == {first}
        assert user.response.headers["set-cookie"] is None
        drawn.add(first)
    assert len(drawn) == 2


def test_cookies_that_were_given_are_taken_back_afterwards_and_nobody_elses(
    router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, sticky=COOKIE))
    slot_of(user, {})
    given = str(user.response.headers["set-cookie"]).split(";")[0]
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    assert slot_of(user, {"cookie": given}) == "m-blue"
    assert user.response.headers["set-cookie"] == "uid=; Path=/v2/models/m; Max-Age=0"
    for cookie in ("uid=mine", "a=1"):
        slot_of(user, {"cookie": cookie})
        assert user.response.headers["set-cookie"] is None
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)


# --- testers ---------------------------------------------------------------------------


@pytest.mark.parametrize("slot", list(Slot))
@pytest.mark.parametrize(
    "split",
    [
        TrafficSplit.all_to(Slot.BLUE),
        TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, sticky=HEADER),
        TrafficSplit({Slot.BLUE: 0, Slot.GREEN: 100}, match=Match(HEADER, "someone"), match_to=Slot.BLUE),
    ],
    ids=["rest", "sticky", "match"],
)
def test_a_tester_reaches_the_slot_that_the_header_names_whatever_the_split(
    router: EnvoyRouter, user: User, split: TrafficSplit, slot: Slot
) -> None:
    router.set_split(split)
    headers = {"x-coalmine-slot": slot.value, "x-user-id": "someone"}
    assert {slot_of(user, headers) for _ in range(5)} == {f"m-{slot}"}


# --- copies ----------------------------------------------------------------------------


def asked(stack: LocalStack, slot: Slot, path: str) -> bytes:
    """What a slot's server says itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.port(f'm-{slot}')}{path}") as answer:
        return bytes(answer.read())


def served(stack: LocalStack, slot: Slot) -> list[str]:
    """The ids of the requests that a slot answered, oldest first."""
    return [str(each["id"]) for each in json.loads(asked(stack, slot, "/served?after=0"))["served"]]


def test_a_copy_has_the_id_of_its_original_and_the_user_sees_stable_alone(
    stack: LocalStack, router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100))
    answers = [user.ask(headers={"x-request-id": "mine"} if number == 0 else {}) for number in range(20)]
    assert {body["slot"] for _, body in answers} == {"m-blue"}
    ids = [body["id"] for _, body in answers]
    assert ids[0] == "mine"
    eventually(lambda: served(stack, Slot.GREEN)[-20:] == ids, "the copies are answered under the same ids")


def test_so_many_in_a_hundred_are_copied(stack: LocalStack, router: EnvoyRouter, user: User) -> None:
    before = len(served(stack, Slot.GREEN))
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=30))
    for _ in range(1000):
        user.ask()
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    user.ask()
    assert 230 < len(served(stack, Slot.GREEN)) - before < 370


@pytest.mark.parametrize("habit", ["slow", "reset", "500", "cut"])
def test_whatever_becomes_of_a_copy_no_user_notices(router: EnvoyRouter, user: User, habit: str) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=100))
    for _ in range(10):
        status, body = user.ask(f"{habit}@m-green")
        assert (status, body["slot"]) == (200, "m-blue")


def test_a_label_goes_to_both_slots_while_both_answer(
    stack: LocalStack, router: EnvoyRouter, user: User
) -> None:
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, mirror_percent=10))
    for _ in range(10):
        _, body = user.get("/v2/models/m/feedback", {"x-coalmine-slot": "blue"})
        assert body["slot"] == "m-blue"
    eventually(
        lambda: all(b"coalmine_loss_count 10\n" in asked(stack, slot, "/metrics") for slot in Slot),
        "both slots have every label",
    )


def test_copies_beside_a_split_between_two_slots_are_refused(router: EnvoyRouter) -> None:
    with pytest.raises(Unsupported, match="one slot has all"):
        router.set_split(TrafficSplit({Slot.BLUE: 50, Slot.GREEN: 50}, mirror_percent=10))


# --- another hand ----------------------------------------------------------------------


def edit(stack: LocalStack, change: Callable[[list[dict[str, Any]]], object]) -> None:
    path = stack.config_folder / "routes.json"
    content = json.loads(path.read_text())
    change(content["resources"][0]["virtual_hosts"][0]["routes"])
    replace_json(path, content)


def route_called(routes: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(route for route in routes if route["name"] == name)


HIJACK = {"name": "mine", "match": {"prefix": "/v2/"}, "direct_response": {"status": 200}}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda routes: routes.insert(0, HIJACK), id="a route that comes before"),
        pytest.param(
            lambda routes: route_called(routes, "(testers of m in blue)")["route"].update(cluster="m-green"),
            id="testers go astray",
        ),
        pytest.param(
            lambda routes: route_called(routes, "m")["route"].update(retry_policy={"retry_on": "5xx"}),
            id="retries hide failures",
        ),
    ],
)
def test_an_edit_that_no_split_has_is_a_conflict_until_the_next_split(
    stack: LocalStack, router: EnvoyRouter, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    match = Match(UserKey("cookie", "group"), "beta")
    split = TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, match=match, match_to=Slot.GREEN)
    router.set_split(split)
    edit(stack, change)

    def conflicts() -> bool:
        try:
            router.observed_split()
        except RouteConflict as error:
            return "another hand" in str(error)
        return False

    try:
        eventually(conflicts, "the edit is a conflict")
    finally:
        edit(stack, lambda routes: routes.remove(HIJACK) if HIJACK in routes else None)
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    router.set_split(split)
    eventually(lambda: router.observed_split() == split, "the split is whole again")


def test_an_edit_that_is_another_split_is_seen_as_it_is(stack: LocalStack, router: EnvoyRouter) -> None:
    match = Match(UserKey("header", "x-group"), "beta")
    router.set_split(TrafficSplit({Slot.BLUE: 100, Slot.GREEN: 0}, match=match, match_to=Slot.GREEN))
    edit(stack, lambda routes: routes.remove(route_called(routes, "(matched users of m)")))
    eventually(lambda: router.observed_split() == TrafficSplit.all_to(Slot.BLUE), "the edit is observed")


def test_what_another_hand_left_is_gone_with_the_next_split(stack: LocalStack, router: EnvoyRouter) -> None:
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    edit(stack, lambda routes: route_called(routes, "m")["route"].update(retry_policy={"retry_on": "5xx"}))
    router.set_split(TrafficSplit.all_to(Slot.BLUE))
    assert router.observed_split() == TrafficSplit.all_to(Slot.BLUE)
