"""A model in a cluster as its components build it, with pods that say which slot they are.

kubectl must be on the PATH: it builds what people commit, and applies it as Flux does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from coalmine.cluster.client import Cluster, ClusterRefuses
from coalmine.cluster.kinds import DEPLOYMENT, Kind
from coalmine.routers.technology import Technology
from coalmine.slots import Slot, SlotRelease, Slots, dump_slots
from tests.cluster.image import REFERENCE

Json = dict[str, Any]

K8S = Path(__file__).parents[2] / "k8s"
FLUX = "kustomize-controller"  # as the API server knows it
RELEASE = SlotRelease(version="1.0.0", commit="c" * 40, model_digest="d" * 64)

# The same answer to every request: who answers. `/seen` tells what came in, uncounted; `.../fail` fails.
_ECHO = r"""
import asyncio, collections, json, os
SEEN = collections.Counter()
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.rest = transport, b""
    def data_received(self, data):
        *heads, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for head in heads:
            line, *fields = head.decode("latin-1").split("\r\n")
            path = line.split(" ")[1]
            (host,) = (field[6:] for field in fields if field.lower().startswith("host: "))
            body = os.environ["SLOT"]
            if path == "/seen":
                body = json.dumps([[*key, count] for key, count in SEEN.items()])
            else:
                SEEN[path, host] += 1
            status = "503 Fails" if path.endswith("/fail") else "200 OK"
            self.transport.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
async def serve():
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, "0.0.0.0", 8081)  # copies
    await (await loop.create_server(Echo, "0.0.0.0", 8080)).serve_forever()
asyncio.run(serve())
"""


# --- objects ---------------------------------------------------------------------------


def built(
    folder: Path, technology: Technology, model: str, namespace: str, stable: Slot | None
) -> list[Json]:
    """What Kustomize makes of the component, with Services for both slots and no pods; the environment adds
    nothing.

    stable: whom the users are with at rest; None before the first release.
    """
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on the PATH, which builds what a component says")
    slots = Slots(environment="test", model=model)
    if stable is not None:
        slots = slots.with_release(stable, RELEASE).with_stable(stable)
    (folder / "slots.yaml").write_text(dump_slots(slots))
    k8s = os.path.relpath(K8S, folder.resolve())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "namePrefix": f"{model}-",
        "resources": [f"{k8s}/base", "slots.yaml"],
        "components": [f"{k8s}/components/slots", f"{k8s}/components/{technology.component}"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    made = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    ).stdout
    return [each for each in yaml.safe_load_all(made) if each["kind"] not in ("Role", "RoleBinding")]


def apply(objects: Sequence[Json], manager: str = FLUX) -> None:
    """As Flux does: on the server, by force, in its name."""
    subprocess.run(
        ["kubectl", "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-"],
        check=True,
        capture_output=True,
        text=True,
        input=yaml.safe_dump_all(objects),
    )


def route_in(objects: Sequence[Json], technology: Technology) -> Json:
    kind = technology.kind
    (found,) = [
        each for each in objects if (each["apiVersion"], each["kind"]) == (kind.api_version, kind.kind)
    ]
    return found


def echo_pods(cluster: Cluster, model: str) -> None:
    """A pod in each slot of `model`, ready."""
    for slot in Slot:
        labels = {
            "app.kubernetes.io/name": model,
            "app.kubernetes.io/component": "model-server",
            "app.kubernetes.io/part-of": "coalmine",
            "coalmine.dev/slot": slot.value,
        }
        cluster.create(DEPLOYMENT, _echo(f"{model}-{slot}", labels))
    for slot in Slot:
        eventually(lambda slot=slot: _is_available(cluster, f"{model}-{slot}"), f"{slot} is ready", 60)


@contextmanager
def namespace(any_cluster: Cluster) -> Iterator[Cluster]:
    """As the fixture `cluster` has it, for all the tests of a module."""
    name = f"coalmine-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core = client.CoreV1Api(any_cluster.api)
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        yield any_cluster.in_namespace(name)
    finally:
        core.delete_namespace(name)


def require(cluster: Cluster, kind: Kind) -> None:
    """Skip where the cluster does not know `kind`."""
    try:
        known = {each["name"] for each in cluster.raw(kind.path)["resources"]}
    except ClusterRefuses:
        known = set()
    if kind.plural not in known:
        pytest.skip(f"this cluster has no {kind.full_name}")


def say_status(cluster: Cluster, kind: Kind, name: str, status: Json) -> None:
    """`status` as the controller of `kind` would write it."""
    cluster.merge(kind, f"{name}/status", {"status": status})


def _echo(name: str, labels: Mapping[str, str]) -> Json:
    container = {
        "name": "echo",
        "image": REFERENCE,
        "command": ["python3", "-c", _ECHO],
        "env": [{"name": "SLOT", "value": labels["coalmine.dev/slot"]}],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "copies", "containerPort": 8081}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def _is_available(cluster: Cluster, name: str) -> bool:
    found = cluster.get(DEPLOYMENT, name)
    return found is not None and found.get("status", {}).get("availableReplicas", 0) > 0


def eventually(holds: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
