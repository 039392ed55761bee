"""Where an object as it stands lacks what Git asks for, and where it only says it otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from coalmine.reconcilers.drifted import lacks

WANTED: dict[str, Any] = {
    "metadata": {"name": "m-blue", "labels": {"app": "m"}},
    "spec": {
        "replicas": 2,
        "containers": [
            {
                "name": "server",
                "args": ["--port=8080"],
                "env": [{"name": "QUEUE", "value": "8"}],
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}},
                "ports": [{"containerPort": 8080}],
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def server(body: Any) -> Any:
    return body["spec"]["containers"][0]


def test_what_stands_as_git_has_it_lacks_nothing() -> None:
    assert list(lacks(WANTED, copy.deepcopy(WANTED))) == []


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda body: body["spec"].update(replicas=5), ("spec.replicas", "2", "5")),
        (lambda body: body["spec"].pop("replicas"), ("spec.replicas", "2", "nothing")),
        (lambda body: body["metadata"]["labels"].clear(), ("metadata.labels.app", "m", "nothing")),
        (
            lambda body: server(body)["env"][0].update(value="9"),
            ("spec.containers[server].env[QUEUE].value", "8", "9"),
        ),
        (lambda body: server(body)["args"].append("-v"), ("spec.containers[server].args", "", "")),
        (
            lambda body: server(body)["resources"]["requests"].update(memory="1Gi"),
            ("spec.containers[server].resources.requests.memory", "512Mi", "1Gi"),
        ),
    ],
    ids=["changed", "taken out", "a label", "by name", "a list", "an amount"],
)
def test_a_field_that_git_sets_and_stands_otherwise_is_named(
    edit: Callable[[Any], Any], found: tuple[str, str, str]
) -> None:
    live = copy.deepcopy(WANTED)
    edit(live)
    ((path, wanted, seen),) = lacks(WANTED, live)
    assert path == found[0]
    assert not found[1] or (wanted, seen) == found[1:]


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: server(body)["resources"]["requests"].update(cpu="0.25", memory="536870912"),
        lambda body: server(body).update(terminationMessagePath="/dev/log"),
        lambda body: server(body)["env"].insert(0, {"name": "MORE", "value": "1"}),
        lambda body: body["spec"]["containers"].insert(0, {"name": "sidecar"}),
        lambda body: body.update(status={"replicas": 0}),
        lambda body: body["metadata"].update(uid="u", generation=7),
        lambda body: body["spec"]["volumes"][0].update(emptyDir=None),
    ],
    ids=["spelling", "a default", "a variable more", "a sidecar", "status", "the server's own", "empty"],
)
def test_what_others_add_and_another_spelling_is_no_difference(edit: Callable[[Any], Any]) -> None:
    live = copy.deepcopy(WANTED)
    edit(live)
    assert list(lacks(WANTED, live)) == []
