"""Parts of the cluster that are taken away for a while: processes of this machine, Deployments, pods.

A process is found by the file `pid/NAME` beside the kubeconfig, as a cluster on this machine may have it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.kubectl import kubectl

FILLED_BYTES = 100_000_000  # k8s/base allows 64 Mi
EVICTED_WITHIN_S = 60.0  # the kubelet looks every 10 s


@contextmanager
def stopped(name: str) -> Iterator[None]:
    """The process neither answers nor ends during the block."""
    pid = _pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def scaled_away(namespace: str, deployment: str) -> Iterator[None]:
    """Its pods are gone during the block, and back after it."""
    words = ["deployment", deployment, "--ignore-not-found", "-o", "jsonpath={.spec.replicas}"]
    replicas = kubectl("-n", namespace, "get", *words)
    if not replicas:
        pytest.skip(f"this cluster has no Deployment {deployment} in {namespace}")
    _scale(namespace, deployment, 0)
    try:
        yield
    finally:
        _scale(namespace, deployment, int(replicas))
        kubectl("-n", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=60s")


def kill_pods(namespace: str, labels: str) -> None:
    """At once, as a node that fails takes them."""
    kubectl("-n", namespace, "delete", "pods", "-l", labels, "--grace-period=0", "--force")


def fill_disk(namespace: str, labels: str, folder: str) -> None:
    """More in `folder` of each pod that runs than it may hold; returns when the kubelet has evicted them."""
    running = ["-l", labels, "--field-selector", "status.phase=Running", "-o", "name"]
    pods = kubectl("-n", namespace, "get", "pods", *running).split()
    for pod in pods:
        write = f"open('{folder}/filled', 'wb').write(bytes({FILLED_BYTES}))"
        kubectl("-n", namespace, "exec", pod, "-c", "server", "--", "python", "-c", write)
    deadline = time.monotonic() + EVICTED_WITHIN_S
    while any(_is_running(namespace, pod) for pod in pods):
        assert time.monotonic() < deadline, f"the kubelet leaves {pods} as they are"
        time.sleep(0.2)


def _is_running(namespace: str, pod: str) -> bool:
    phase = ["--ignore-not-found", "-o", "jsonpath={.status.phase}"]
    return kubectl("-n", namespace, "get", pod, *phase) == "Running"


def _pid(name: str) -> int:
    file = Path(os.environ["KUBECONFIG"]).with_name("pid") / name
    if not file.exists():
        pytest.skip(f"{name} of this cluster is no process of this machine")
    return int(file.read_text())


def _scale(namespace: str, deployment: str, replicas: int) -> None:
    kubectl("-n", namespace, "scale", f"deployment/{deployment}", f"--replicas={replicas}")
    deadline = time.monotonic() + 30
    while replicas == 0 and deployment in kubectl("-n", namespace, "get", "pods", "-o", "name"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
