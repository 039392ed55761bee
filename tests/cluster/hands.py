"""Hands on what serves a model in a cluster, beside Git: by kubectl, as people and other programs have them.

1.1.0 serves from green, and 1.0.0 stands by in blue. Flux looks only when it is asked.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD
from coalmine.drift.findings import Kind
from coalmine.rollout.ports import Match, TrafficSplit, UserKey
from coalmine.routers import hands
from coalmine.routers.cluster_route import route_name
from coalmine.routers.gateway_api import GATEWAY_API
from coalmine.routers.istio import ISTIO
from coalmine.routers.technology import Json, Technology
from coalmine.slots import Slot
from tests.cluster.kubectl import kubectl
from tests.cluster.routed import eventually
from tests.cluster.shop import ENVIRONMENT, KUSTOMIZATION_NAME, Shop
from tests.scenarios.watched import Hand, lose_object, others_push, put_back, stray_tag, untag
from tests.scenarios.workplace import MODEL

GREEN = f"{MODEL}-green"
PODS = {"app.kubernetes.io/name": MODEL}
NEVER = "1h"
SOURCE, KUSTOMIZATION = "gitrepository", "kustomization.kustomize.toolkit.fluxcd.io"
TECHNOLOGIES = {"gateway_api": GATEWAY_API, "istio": ISTIO}
PLACE = f"k8s/environments/{ENVIRONMENT}"


def typed(shop: Shop, *words: str, stdin: str = "") -> str:
    return kubectl("-n", shop.cluster.namespace, *words, stdin=stdin)


def patch(shop: Shop, thing: str, name: str, change: Json) -> None:
    typed(shop, "patch", thing, name, "--type=merge", "-p", json.dumps(change))


def flux_looks_only_when_asked(shop: Shop) -> None:
    for thing in (SOURCE, KUSTOMIZATION):
        patch(shop, thing, KUSTOMIZATION_NAME, {"spec": {"interval": NEVER}})


# --- a slot ------------------------------------------------------------------------------


def deleted(shop: Shop, thing: str) -> None:
    typed(shop, "delete", thing, GREEN)


def scaled(shop: Shop, replicas: int) -> None:
    typed(shop, "scale", "deployment", GREEN, f"--replicas={replicas}")
    if replicas == 0:
        of_green = {**PODS, "coalmine.dev/slot": "green"}
        eventually(lambda: not shop.cluster.list(POD, of_green), "its pods are gone", 60)


def server_with(shop: Shop, **fields: Any) -> None:
    live = shop.cluster.get(DEPLOYMENT, GREEN)
    assert live is not None
    containers = live["spec"]["template"]["spec"]["containers"]
    containers[0] |= fields
    patch(shop, "deployment", GREEN, {"spec": {"template": {"spec": {"containers": containers}}}})


def other_option(shop: Shop) -> None:
    live = shop.cluster.get(DEPLOYMENT, GREEN)
    assert live is not None
    env = live["spec"]["template"]["spec"]["containers"][0]["env"]
    for each in env:
        if each["name"] == "QUEUE":
            each["value"] = "7"
    server_with(shop, env=env)


def other_manifest(shop: Shop) -> None:
    patch(shop, "configmap", GREEN, {"data": {"manifest.yaml": "mine"}})


def stray_pod(shop: Shop) -> None:
    """A pod of the other release among those that the users reach."""
    old = next(
        each
        for each in shop.cluster.list(POD, {"coalmine.dev/slot": "blue", "app.kubernetes.io/name": MODEL})
    )
    labels = {**old["metadata"]["labels"], "coalmine.dev/slot": "green"}
    del labels["pod-template-hash"]
    spec = {key: value for key, value in old["spec"].items() if key != "nodeName"}
    metadata = {"name": "stray", "labels": labels, "annotations": old["metadata"]["annotations"]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    typed(shop, "apply", "-f", "-", stdin=json.dumps(body))
    typed(shop, "wait", "--for=condition=Ready", "pod/stray", "--timeout=60s")


def without_stray_pod(shop: Shop, _: Any) -> None:
    typed(shop, "delete", "pod", "stray", "--now")


def swapped_file(shop: Shop) -> tuple[Path, bytes]:
    """Another model under the released one's name, and a pod that starts with it."""
    path, content = lose_object(shop.work, "1.1.0")
    path.write_bytes(content[:-1] + b"?")
    typed(shop, "delete", "pods", "-l", f"app.kubernetes.io/name={MODEL},coalmine.dev/slot=green")
    return path, content


def own_file(shop: Shop, taken: tuple[Path, bytes]) -> None:
    path, content = taken
    path.write_bytes(content)
    typed(shop, "delete", "pods", "-l", f"app.kubernetes.io/name={MODEL},coalmine.dev/slot=green")


# --- the route ---------------------------------------------------------------------------


def _technology(shop: Shop) -> Technology:
    return TECHNOLOGIES[shop.router]


def _route(shop: Shop) -> Json:
    route = shop.cluster.get(_technology(shop).kind, route_name(MODEL))
    assert route is not None
    return route


def _patch_route(shop: Shop, change: Json) -> None:
    patch(shop, _technology(shop).kind.full_name, route_name(MODEL), change)


def led(shop: Shop, split: TrafficSplit) -> None:
    _patch_route(shop, {"spec": _technology(shop).with_split(_route(shop), MODEL, split)["spec"]})


def moved_users(shop: Shop) -> None:
    led(shop, TrafficSplit.canary(Slot.BLUE, 40))


def one_user_by_header(shop: Shop) -> None:
    boss = Match(UserKey("header", "x-user"), "boss")
    led(shop, replace(TrafficSplit.all_to(Slot.GREEN), match=boss, match_to=Slot.BLUE))


def no_route(shop: Shop) -> None:
    typed(shop, "delete", _technology(shop).kind.full_name, route_name(MODEL))


def rewritten_route(shop: Shop) -> None:
    """Everybody is led past both slots."""
    rules_in = _technology(shop).rules_in
    written = json.dumps(_route(shop)["spec"][rules_in])
    for slot in Slot:
        written = written.replace(f"{MODEL}-{slot}", "elsewhere")
    _patch_route(shop, {"spec": {rules_in: json.loads(written)}})


def owned_route(shop: Shop) -> None:
    owner = shop.cluster.get(CONFIG_MAP, "kube-root-ca.crt")
    assert owner is not None
    about = {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "controller": True}
    _patch_route(shop, {"metadata": {"ownerReferences": [{**about, "uid": owner["metadata"]["uid"]}]}})


def free_route(shop: Shop, _: Any) -> None:
    _patch_route(shop, {"metadata": {"ownerReferences": None}})


def held_route(shop: Shop) -> None:
    route = _route(shop)
    held = hands.with_memory(route, hands.Memory(hands.as_text(TrafficSplit.all_to(Slot.GREEN))))
    _patch_route(shop, {"metadata": {"annotations": held["metadata"]["annotations"]}})


# --- Flux and Git ------------------------------------------------------------------------


def suspended(thing: str, *, is_so: bool | None) -> Any:
    def do(shop: Shop, *_: Any) -> None:
        patch(shop, thing, KUSTOMIZATION_NAME, {"spec": {"suspend": is_so}})

    return do


def on_branch(name: str) -> Any:
    def do(shop: Shop, *_: Any) -> None:
        patch(shop, SOURCE, KUSTOMIZATION_NAME, {"spec": {"ref": {"branch": name}}})

    return do


def folder_that_does_not_build(shop: Shop) -> None:
    shop.work.edit(f"{PLACE}/kustomization.yaml", "resources:", "resources:\n  - missing.yaml")
    shop.work.commit("A file that is missing")
    for thing in (SOURCE, KUSTOMIZATION):
        asked = f"reconcile.fluxcd.io/requestedAt={time.time_ns()}"
        typed(shop, "annotate", "--overwrite", thing, KUSTOMIZATION_NAME, asked)
        eventually(lambda thing=thing: _has_tried(shop, thing), "Flux has tried", 60)


def _has_tried(shop: Shop, thing: str) -> bool:
    status = json.loads(typed(shop, "get", thing, KUSTOMIZATION_NAME, "-o", "json"))["status"]
    revision = status.get("lastAttemptedRevision") or status["artifact"]["revision"]
    ready = next(each for each in status["conditions"] if each["type"] == "Ready")
    return shop.work.head() in revision and ready["status"] != "Unknown"


def own_folder(shop: Shop, _: Any) -> None:
    shop.work.git("revert", "--no-edit", "HEAD")
    shop.work.git("push", "--quiet")


def somebody_pushes(shop: Shop) -> None:
    shop.work.git("commit", "--quiet", "--allow-empty", "--message", "Nothing to deploy")
    shop.work.git("push", "--quiet")


STARTS_ANEW = frozenset({Kind.SERVER_DOWN})
UNFETCHED = frozenset({Kind.FLUX_STOPPED, Kind.FLUX_STALE})
HANDS: dict[str, Hand[Shop]] = {
    "more replicas": Hand(Kind.REPLICAS, lambda shop: scaled(shop, 2), None, STARTS_ANEW),
    "no replicas": Hand(Kind.REPLICAS, lambda shop: scaled(shop, 0), None, STARTS_ANEW),
    "an image": Hand(Kind.IMAGE, lambda shop: server_with(shop, image="mine:latest"), None, STARTS_ANEW),
    "an option": Hand(Kind.CONFIGURATION, other_option, None, STARTS_ANEW),
    "arguments": Hand(
        Kind.CONFIGURATION, lambda shop: server_with(shop, args=["--release=/release"]), None, STARTS_ANEW
    ),
    "a manifest": Hand(Kind.CONFIGURATION, other_manifest),
    "a manifest taken away": Hand(Kind.CONFIGURATION, lambda shop: typed(shop, "delete", "configmap", GREEN)),
    "a Deployment taken away": Hand(
        Kind.SERVER_DOWN, lambda shop: typed(shop, "delete", "deployment", GREEN)
    ),
    "a stray pod": Hand(Kind.OTHER_RELEASE, stray_pod, without_stray_pod),
    "a model file": Hand(Kind.SERVER_DOWN, swapped_file, own_file),
    "the weights": Hand(Kind.ROUTE_WEIGHTS, moved_users),
    "a user's header": Hand(Kind.ROUTE_WEIGHTS, one_user_by_header),
    "a route taken away": Hand(Kind.ROUTE_MISSING, no_route),
    "a route rewritten": Hand(Kind.ROUTE_FOREIGN, rewritten_route),
    "a route of another controller": Hand(Kind.ROUTE_FOREIGN, owned_route, free_route),
    "a route never given back": Hand(Kind.ROUTE_HELD, held_route),
    "Flux suspended": Hand(
        Kind.FLUX_SUSPENDED, suspended(KUSTOMIZATION, is_so=True), suspended(KUSTOMIZATION, is_so=None)
    ),
    "Flux's source suspended": Hand(
        Kind.FLUX_SUSPENDED, suspended(SOURCE, is_so=True), suspended(SOURCE, is_so=None)
    ),
    "Flux on another branch": Hand(Kind.FLUX_ELSEWHERE, on_branch("live"), on_branch("main"), UNFETCHED),
    "a folder that does not build": Hand(
        Kind.FLUX_STOPPED, folder_that_does_not_build, own_folder, frozenset({Kind.UNREADABLE})
    ),
    "Flux behind": Hand(Kind.FLUX_STALE, somebody_pushes),
    "others' push": Hand(Kind.CLONE_BEHIND, lambda shop: others_push(shop.work), None, UNFETCHED),
    "a stray tag": Hand(
        Kind.TAG_WITHOUT_MANIFEST, lambda shop: stray_tag(shop.work), lambda shop, _: untag(shop.work, None)
    ),
    "an object of the DVC remote": Hand(
        Kind.BYTES_LOST,
        lambda shop: lose_object(shop.work, "1.1.0"),
        lambda shop, taken: put_back(shop.work, taken),
    ),
}
