"""Every object that k8s/ makes, of every router, reconciler and state of the slots, is as its kind allows.

Without a cluster; tests/cluster/test_objects.py asks an API server.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coalmine.slots import Slots
from tests.k8s.environments import (
    EMPTY,
    MODEL,
    ONE,
    RECONCILERS,
    ROUTERS,
    STATES,
    TWO,
    AsWritten,
    Json,
    Repository,
    builder,
    new_repository,
)
from tests.k8s.validation import faults

COMPONENTS = Path(__file__).parents[2] / "k8s/components"
OF_A_MODEL = ("autoscaling",)
OF_AN_ENVIRONMENT = ("network-policy", "monitoring")


@pytest.mark.parametrize("slots", STATES.values(), ids=STATES)
def test_every_object_is_one_that_its_kind_allows(as_written: AsWritten, slots: Slots) -> None:
    assert [fault for each in as_written.of(slots).objects for fault in faults(each)] == []


@pytest.mark.parametrize("slots", [EMPTY, ONE, TWO], ids=["empty", "half-filled", "filled"])
def test_every_component_beside_the_routers_is_one_that_its_kind_allows(
    repository: Repository, slots: Slots
) -> None:
    repository.fill(slots)
    plain = len(repository.build().objects)
    for name in OF_A_MODEL:
        repository.add_component(name)
    for name in OF_AN_ENVIRONMENT:
        repository.add_component(name, "kustomization.yaml")
    built = repository.build()
    assert len(built.objects) > plain
    assert [fault for each in built.objects for fault in faults(each)] == []


@pytest.mark.parametrize("reconciler", RECONCILERS)
@pytest.mark.parametrize("router", ROUTERS)
def test_what_flux_is_told_is_what_flux_allows(tmp_path: Path, router: str, reconciler: str) -> None:
    told = new_repository(tmp_path, router, reconciler).flux_objects()
    kinds = [each["kind"] for each in told]
    flux = ["GitRepository", "Kustomization", "Role", "RoleBinding"]
    assert kinds == (flux if reconciler == "flux" else [])
    assert [fault for each in told for fault in faults(each)] == []


def test_no_component_is_left_out_of_these_tests() -> None:
    assert {path.name for path in COMPONENTS.iterdir()} == {
        *ROUTERS,
        *OF_A_MODEL,
        *OF_AN_ENVIRONMENT,
        "access",  # of an admin: test_access.py
        "dask",  # of the training pods' namespace: test_dask.py
        "runner",  # test_runner.py
        "slots",
    }


@pytest.mark.parametrize("router", ROUTERS)
def test_the_folder_of_a_model_builds_by_itself_to_the_same(tmp_path: Path, router: str) -> None:
    """As the reconciler `apply` builds it; the namespace is the environment's to add."""
    builder()
    repository = new_repository(tmp_path, router)
    repository.fill(STATES["a candidate"])

    def without_namespace(objects: list[Json]) -> list[Json]:
        return [
            {**each, "metadata": {**each["metadata"], "namespace": None}}
            for each in objects
            if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == MODEL
        ]

    alone = without_namespace(repository.build(MODEL).objects)
    assert alone == without_namespace(repository.build().objects)
    assert len(alone) == len(repository.build(MODEL).objects)


# --- the checks themselves ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "value", "says"),
    [
        ("Deployment", "spec.template.spec.containers.0.liveProbe", {}, "liveProbe"),
        ("Deployment", "spec.replicas", "two", "replicas"),
        ("Service", "spec.ports.0.port", None, "port"),
        ("HTTPRoute", "spec.rules.2.backendRefs.0.wieght", 5, "wieght"),
        ("HTTPRoute", "spec.rules.2.backendRefs.0.weight", -1, "-1"),
        ("HTTPRoute", "spec.rules.0.matches.0.path.type", "Prefix", "Prefix"),
    ],
)
def test_an_object_that_is_wrong_is_found_out(
    tmp_path: Path, kind: str, path: str, value: object, says: str
) -> None:
    builder()
    repository = new_repository(tmp_path, "gateway_api", models=[MODEL])
    repository.fill(STATES["a candidate"])
    thing = next(each for each in repository.build().objects if each["kind"] == kind)
    assert faults(thing) == []

    *parts, last = path.split(".")
    at: object = thing
    for part in parts:
        at = at[int(part)] if isinstance(at, list) else at[part]  # type: ignore[index]
    assert isinstance(at, dict)
    at[last] = value
    (fault, *_) = faults(thing)
    assert says in fault


def test_what_stands_twice_in_a_list_is_found_out() -> None:
    config = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}}
    ports = [{"name": "http", "port": 80}, {"name": "http", "port": 81}]
    assert faults({**config, "spec": {"ports": ports}}) == ["Service m: .spec.ports has http twice"]
