"""What slots.yaml makes of the objects: which are there, what pods are given, where users go at rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from coalmine.slots import Slot, Slots
from tests.k8s.environments import (
    EMPTY,
    FIRST,
    MODEL,
    NAMESPACE,
    ONE,
    OTHER,
    PROMOTED,
    REJECTED,
    STATES,
    TWO,
    AsWritten,
    Built,
    Json,
    Repository,
    release,
)

ROUTES = {
    "gateway_api": "HTTPRoute",
    "istio": "VirtualService",
    "linkerd": "HTTPRoute",
    "appmesh": "VirtualRouter",
}
OF_A_SLOT = ("Deployment", "ConfigMap", "PodDisruptionBudget")


def by_key(built: Built) -> dict[tuple[str, str], Json]:
    return {(each["kind"], each["metadata"]["name"]): each for each in built.objects}


def changed(before: Built, after: Built) -> set[tuple[str, str]]:
    """Kind and name of what differs, comes or goes."""
    old, new = by_key(before), by_key(after)
    return {key for key in {*old, *new} if old.get(key) != new.get(key)}


# --- which objects are there -------------------------------------------------------------


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_a_slot_has_pods_only_where_it_holds_a_release(as_written: AsWritten, slots: Slots) -> None:
    built = as_written.of(slots)
    for kind in OF_A_SLOT:
        assert set(built.of(kind)) == {f"{MODEL}-{slot}" for slot in slots.releases}, kind


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_both_services_and_the_route_are_there_always(as_written: AsWritten, slots: Slots) -> None:
    built = as_written.of(slots)
    assert set(built.of("Service")) >= {f"{MODEL}-blue", f"{MODEL}-green"}
    assert built.one(ROUTES[as_written.router], f"{MODEL}-route")


def test_the_slots_file_is_no_object_of_the_cluster(as_written: AsWritten) -> None:
    assert "Slots" not in {each["kind"] for each in as_written.of(TWO).objects}


def test_every_object_of_a_model_says_whose_it_is(as_written: AsWritten) -> None:
    built = as_written.of(TWO)
    for each in built.objects:
        name = each["metadata"]["name"]
        model = next((model for model in (MODEL, OTHER) if name.startswith(f"{model}-")), None)
        if model is not None:
            labels = each["metadata"]["labels"]
            assert labels["app.kubernetes.io/name"] == model, name
            assert labels["app.kubernetes.io/part-of"] == "coalmine", name
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == NAMESPACE


def test_the_slots_of_one_model_change_nothing_of_another(as_written: AsWritten) -> None:
    empty, full = as_written.of(EMPTY), as_written.of(TWO)
    assert {name for _, name in changed(empty, full) if not name.startswith(f"{MODEL}-")} == set()


# --- what pods are given -----------------------------------------------------------------


def test_the_manifest_reaches_the_pods_byte_for_byte(as_written: AsWritten) -> None:
    built = as_written.of(TWO)
    for slot, held in TWO.releases.items():
        manifest = built.one("ConfigMap", f"{MODEL}-{slot}")["data"]["manifest.yaml"]
        assert hashlib.sha256(manifest.encode()).hexdigest() == held.model_digest


def test_pods_are_given_what_their_slot_says(as_written: AsWritten) -> None:
    built = as_written.of(TWO)
    for slot, pod in TWO.pods.items():
        template = built.one("Deployment", f"{MODEL}-{slot}")["spec"]["template"]
        (fetch,), (server,) = template["spec"]["initContainers"], template["spec"]["containers"]
        given = {each["name"]: each.get("value") for each in fetch["env"] + server["env"]}
        assert template["metadata"]["labels"]["app.kubernetes.io/version"] == pod.version
        assert template["metadata"]["annotations"]["coalmine.dev/digest"] == pod.digest
        assert (fetch["image"], server["image"]) == (pod.image, pod.image)
        assert (given["DIGEST"], given["TIMEOUT_S"], given["QUEUE"]) == (pod.digest, pod.timeout_s, pod.queue)
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == "slot"]
        assert volume["configMap"]["name"] == f"{MODEL}-{slot}"


def test_nothing_is_left_of_the_places_that_are_filled_in(as_written: AsWritten) -> None:
    built = as_written.of(TWO)
    left = {"none", "model", "MODEL", "/v2/models/MODEL", "slot", "model-server"}
    allowed = {"model-server": "app.kubernetes.io/component", "slot": "name"}
    found = {
        (value, key)
        for each in built.objects
        if each["metadata"]["name"].startswith(f"{MODEL}-")
        for key, value in _texts(each)
        if value in left and allowed.get(value) != key
    }
    assert found == set()


@pytest.mark.parametrize("model", ["blue", "slots", "y", "no"])
def test_a_model_may_have_a_name_that_means_something_elsewhere(repository: Repository, model: str) -> None:
    old, new = repository.folder / MODEL, repository.folder / model
    old.rename(new)
    kustomization = new / "kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace(f"namePrefix: {MODEL}-", f"namePrefix: {model}-")
    )
    listed = repository.folder / "kustomization.yaml"
    listed.write_text(listed.read_text().replace(f"- {MODEL}\n", f"- {json.dumps(model)}\n"))
    repository.fill(TWO.model_copy(update={"model": model}))

    built = repository.build()

    for slot in Slot:
        deployment = built.one("Deployment", f"{model}-{slot}")
        service = built.one("Service", f"{model}-{slot}")
        selected = {"app.kubernetes.io/name": model, "coalmine.dev/slot": slot.value}
        assert service["spec"]["selector"] == selected
        assert deployment["spec"]["selector"]["matchLabels"] == selected
        assert selected.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


# --- from one state to the next ----------------------------------------------------------


def test_a_promotion_moves_the_route_and_touches_no_pod(as_written: AsWritten) -> None:
    before, after = as_written.of(TWO), as_written.of(PROMOTED)
    assert changed(before, after) == {(ROUTES[as_written.router], f"{MODEL}-route")}


def test_going_back_to_the_other_slot_is_the_route_alone(as_written: AsWritten) -> None:
    before = as_written.of(PROMOTED)
    after = as_written.of(PROMOTED.with_stable(Slot.BLUE))
    assert changed(before, after) == {(ROUTES[as_written.router], f"{MODEL}-route")}


def test_a_candidate_changes_nothing_but_its_own_slot(as_written: AsWritten) -> None:
    before, after = as_written.of(ONE), as_written.of(TWO)
    assert changed(before, after) == {(kind, f"{MODEL}-green") for kind in OF_A_SLOT}


def test_the_next_candidate_takes_the_slot_of_the_release_before_the_last(as_written: AsWritten) -> None:
    before = as_written.of(PROMOTED)
    after = as_written.of(PROMOTED.with_candidate(*release("1.2.0")))
    assert changed(before, after) == {("Deployment", f"{MODEL}-blue"), ("ConfigMap", f"{MODEL}-blue")}


def test_a_rejected_candidates_pods_go_and_nothing_else_changes(as_written: AsWritten) -> None:
    before, after = as_written.of(TWO), as_written.of(REJECTED)
    assert changed(before, after) == {(kind, f"{MODEL}-green") for kind in OF_A_SLOT}


def test_selectors_never_change_since_no_api_server_would_let_them(as_written: AsWritten) -> None:
    selectors = [
        as_written.of(slots).one("Deployment", f"{MODEL}-blue")["spec"]["selector"]
        for slots in (FIRST, ONE, PROMOTED.with_candidate(*release("1.2.0")))
    ]
    assert selectors == [selectors[0]] * 3


# --- where users go at rest --------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "weights"),
    [
        pytest.param(EMPTY, {"blue": 0, "green": 0}, id="nobody before the first release"),
        pytest.param(FIRST, {"blue": 0, "green": 0}, id="nobody on a first candidate"),
        pytest.param(ONE, {"blue": 100, "green": 0}, id="stable"),
        pytest.param(TWO, {"blue": 100, "green": 0}, id="stable, whatever the candidate"),
        pytest.param(PROMOTED, {"blue": 0, "green": 100}, id="the promoted"),
    ],
)
def test_at_rest_everybody_is_on_stable(as_written: AsWritten, slots: Slots, weights: dict[str, int]) -> None:
    route = as_written.of(slots).one(ROUTES[as_written.router], f"{MODEL}-route")
    assert _weights(route) == weights


def _weights(route: Json) -> dict[str, int]:
    """Of the one list that has both slots in it."""
    (shared,) = [
        each
        for each in _lists(route)
        if all(isinstance(one, dict) and "weight" in one for one in each) and len(each) > 1
    ]
    return {
        slot: sum(
            one["weight"]
            for one in shared
            if f"{MODEL}-{slot}" in json.dumps(one) and "subset" not in json.dumps(one)
        )
        for slot in ("blue", "green")
    }


def _lists(content: Any) -> Iterator[list[Any]]:
    if isinstance(content, list):
        yield content
    for each in (
        content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    ):
        yield from _lists(each)


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text, with the key that it stands under."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, dict):
        for name, each in content.items():
            yield from _texts(each, name)
    elif isinstance(content, list):
        for each in content:
            yield from _texts(each, key)
