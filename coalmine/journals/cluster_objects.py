"""The ConfigMaps that hold a rollout's state on a cluster: what they are called, and how they are marked.

Of model `m`: `m-rollout`, which is also the name of its Lease; `m-rollout-ticks-0`, `-1`, ...; `m-asks`;
`m-rollout-notified`.
"""

from __future__ import annotations

from collections.abc import Mapping

from coalmine.cluster.client import Json
from coalmine.cluster.kinds import CONFIG_MAP

ROLLOUT = "coalmine.dev/rollout"
_MODEL = "app.kubernetes.io/name"


def rollout_name(model: str) -> str:
    return f"{model}-rollout"


def segment_name(model: str, number: int) -> str:
    return f"{rollout_name(model)}-ticks-{number}"


def asks_name(model: str) -> str:
    return f"{model}-asks"


def notices_name(model: str) -> str:
    return f"{rollout_name(model)}-notified"


def labels(model: str | None = None, rollout: str | None = None) -> dict[str, str]:
    """By which the objects of all rollouts are found; those of `model`; those of `rollout`."""
    return {
        "app.kubernetes.io/part-of": "coalmine",
        "app.kubernetes.io/component": "rollout",
        **({} if model is None else {_MODEL: model}),
        **({} if rollout is None else {ROLLOUT: rollout}),
    }


def config_map(
    name: str,
    model: str,
    rollout: str,
    data: Mapping[str, str] | None = None,
    packed: Mapping[str, str] | None = None,
) -> Json:
    """packed: bytes in base64."""
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {"name": name, "labels": labels(model, rollout)},
        "data": dict(data or {}),
        "binaryData": dict(packed or {}),
    }


def rollout_of(body: Json) -> str:
    found: str = marks(body).get(ROLLOUT, "")
    return found


def model_of(marked: Mapping[str, str]) -> str:
    return marked.get(_MODEL, "")


def marks(body: Json) -> dict[str, str]:
    return body["metadata"].get("labels") or {}
