"""`coalmine doctor` of an environment on a cluster: all is well, and then one thing after the other is not.

Everything is broken by an admin, and looked at by the runner's account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.cluster.client import Cluster
from coalmine.cluster.kinds import GIT_REPOSITORY, KUSTOMIZATION, Kind
from tests.cluster.accounts import ROLE
from tests.cluster.routed import eventually
from tests.cluster.shop import ENVIRONMENT, KUSTOMIZATION_NAME, Shop, opened
from tests.scenarios.workplace import MODEL

Json = dict[str, Any]


@pytest.fixture
def shop(released: Path, tmp_path: Path, cluster: Cluster) -> Iterator[Shop]:
    with opened(released, tmp_path, cluster, "gateway_api") as shop:
        shop.deliver("1.0.0")
        yield shop


def missing(shop: Shop) -> dict[str, str]:
    """What is not well, by what it is, with the words for it."""
    process = shop.work.start("doctor", "--environment", ENVIRONMENT, "--json")
    ran = shop.work.ended(process)
    found = {each["what"]: each["detail"] for each in ran.json if each["health"] == "missing"}
    assert ran.status == (2 if found else 0)
    return found


def test_what_is_broken_is_named_with_the_remedy_and_nothing_else_is(shop: Shop) -> None:
    eventually(lambda: missing(shop) == {}, "all is well", 60)
    for broken in BROKEN:
        with broken(shop) as (what, words):
            # Whatever is broken beside it for a moment is so because Flux is still at the change before.
            eventually(lambda what=what: set(missing(shop)) == {what}, f"{what} alone is not well", 30)
            assert words in missing(shop)[what]
    eventually(lambda: missing(shop) == {}, "all is well again", 60)


Broken = Iterator[tuple[str, str]]


@contextmanager
def suspended(shop: Shop) -> Broken:
    with changed(shop, KUSTOMIZATION, KUSTOMIZATION_NAME, {"suspend": True}):
        yield "Flux", f"flux resume kustomization {KUSTOMIZATION_NAME} -n {shop.cluster.namespace}"


@contextmanager
def follows_another_branch(shop: Shop) -> Broken:
    with changed(shop, GIT_REPOSITORY, KUSTOMIZATION_NAME, {"ref": {"branch": "live"}}):
        yield "Flux", "follows the branch live"


@contextmanager
def without_a_verb(shop: Shop) -> Broken:
    role = shop.cluster.get(ROLE, "coalmine-runner")
    assert role is not None
    rules = [
        {**rule, "verbs": ["watch"]} if rule["resources"] == ["replicasets"] else rule
        for rule in role["rules"]
    ]
    shop.cluster.merge(ROLE, "coalmine-runner", {"rules": rules})
    try:
        yield "right to list replicasets.apps", f"kubectl apply -k k8s/environments/{ENVIRONMENT}/access"
    finally:
        shop.cluster.merge(ROLE, "coalmine-runner", {"rules": role["rules"]})


@contextmanager
def another_prometheus(shop: Shop) -> Broken:
    with edited(shop, "coalmine.yaml", lambda text: text.replace(url(text), "http://127.0.0.1:9")):
        yield "Prometheus", "cannot be reached"


def url(text: str) -> str:
    found: str = yaml.safe_load(text)["environments"][ENVIRONMENT]["prometheus"]["url"]
    return found


@contextmanager
def no_image(shop: Shop) -> Broken:
    file = f"k8s/environments/{ENVIRONMENT}/every_model/kustomization.yaml"
    with edited(shop, file, lambda text: text.replace("name: model-server", "name: another")):
        yield f"image of {MODEL}", "coalmine image build --push"


BROKEN: list[Callable[[Shop], Any]] = [
    suspended,
    without_a_verb,
    another_prometheus,
    no_image,
    follows_another_branch,
]


@contextmanager
def changed(shop: Shop, kind: Kind, name: str, spec: Json) -> Iterator[None]:
    before = shop.cluster.get(kind, name)
    assert before is not None
    shop.cluster.merge(kind, name, {"spec": spec})
    try:
        yield
    finally:
        back: Mapping[str, Any] = {key: before["spec"].get(key) for key in spec}
        shop.cluster.merge(kind, name, {"spec": back})


@contextmanager
def edited(shop: Shop, file: str, change: Callable[[str], str]) -> Iterator[None]:
    path = shop.work.top / file
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
