"""Where users come in, by router: a Gateway of the test's own, or the mesh's shared one.

COALMINE_TEST_ISTIO_ADDRESS: where this machine reaches a gateway that istiod configures, `host:port`; it
listens on that port, and has the label `istio: ingressgateway`.
"""

from __future__ import annotations

import os
import socket
import time

import pytest

from coalmine.cluster.client import Cluster, Json
from coalmine.cluster.kinds import HTTP_ROUTE, VIRTUAL_SERVICE, Kind

GATEWAY = Kind("gateway.networking.k8s.io", "v1", "Gateway", "gateways")
GATEWAY_CLASSES = "/apis/gateway.networking.k8s.io/v1/gatewayclasses"
ISTIO_GATEWAY = Kind("networking.istio.io", "v1", "Gateway", "gateways")
ISTIO_ADDRESS = "127.0.0.1:18080"
READY_WITHIN_S = 90.0


def front_door(cluster: Cluster, router: str, host: str) -> str:
    """Where requests for `host` come in, `host:port`: by a Gateway `users` in the test's namespace."""
    return gateway_address(cluster) if router == "gateway_api" else istio_address(cluster, host)


def gateway_address(cluster: Cluster) -> str:
    """A Gateway named `users` in the test's namespace, programmed; its `host:port`."""
    gateway: Json = {
        "apiVersion": GATEWAY.api_version,
        "kind": GATEWAY.kind,
        "metadata": {"name": "users"},
        "spec": {
            "gatewayClassName": gateway_class(cluster),
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    cluster.create(GATEWAY, gateway)
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        status = (cluster.get(GATEWAY, "users") or {}).get("status", {})
        programmed = {each["type"]: each["status"] for each in status.get("conditions", [])}.get("Programmed")
        if programmed == "True" and status.get("addresses"):
            address = f"{status['addresses'][0]['value']}:80"
            if _answers(address):
                return address
        assert time.monotonic() < deadline, status
        time.sleep(0.3)


def gateway_class(cluster: Cluster) -> str:
    if not _has(cluster, HTTP_ROUTE):
        pytest.skip("this cluster has no Gateway API")
    classes = [
        each["metadata"]["name"]
        for each in cluster.raw(GATEWAY_CLASSES)["items"]
        for condition in each.get("status", {}).get("conditions", [])
        if condition["type"] == "Accepted" and condition["status"] == "True"
    ]
    if not classes:
        pytest.skip("no controller has accepted a GatewayClass on this cluster")
    return str(classes[0])


def istio_address(cluster: Cluster, host: str) -> str:
    """The ingress gateway's `host:port`; a Gateway named `users` in the test's namespace takes `host`."""
    address = os.environ.get("COALMINE_TEST_ISTIO_ADDRESS", ISTIO_ADDRESS)
    if not _has(cluster, VIRTUAL_SERVICE):
        pytest.skip("this cluster has no Istio")
    port = int(address.rpartition(":")[2])
    gateway: Json = {
        "apiVersion": ISTIO_GATEWAY.api_version,
        "kind": ISTIO_GATEWAY.kind,
        "metadata": {"name": "users"},
        "spec": {
            "selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": [host]}],
        },
    }
    cluster.create(ISTIO_GATEWAY, gateway)
    deadline = time.monotonic() + READY_WITHIN_S
    while not _answers(address):
        if time.monotonic() > deadline:
            pytest.skip(f"nothing answers at {address}: name Istio's gateway by COALMINE_TEST_ISTIO_ADDRESS")
        time.sleep(0.3)
    return address


def _has(cluster: Cluster, kind: Kind) -> bool:
    groups = {each["name"] for each in cluster.raw("/apis")["groups"]}
    return kind.group in groups


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False
