"""The API server in memory, over HTTP on loopback, with lists that have a version and watches from one on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from coalmine.cluster import kinds
from coalmine.cluster.client import Cluster, ClusterRefuses, Stale
from coalmine.cluster.kinds import Kind
from tests.loopback import body_of, serving
from tests.simulators.api_server import StateClient, StateServer

Json = dict[str, Any]

NAMESPACE = "shop"
KINDS = {each.plural: each for each in vars(kinds).values() if isinstance(each, Kind)}
_LOOK_EVERY_S = 0.005


@dataclass
class HttpApi:
    """asked: every request that was answered, as `GET configmaps/a`, or `WATCH configmaps`.
    watched_since: the version from which on each watch told, in their order.

    forgotten: changes up to this one are no longer known to watches. refused: watches are, with 403.
    silent: watches are taken and told nothing. away: nothing is answered, and what was being told ends.
    """

    state: StateServer = field(default_factory=StateServer)
    port: int = 0
    asked: list[str] = field(default_factory=list)
    watched_since: list[int] = field(default_factory=list)
    forgotten: int = 0
    refused: bool = False
    silent: bool = False
    away: Event = field(default_factory=Event)

    def cluster(self) -> Cluster:
        configuration = client.Configuration(host=f"http://127.0.0.1:{self.port}")
        configuration.retries = False
        return Cluster(client.ApiClient(configuration), NAMESPACE)

    def elsewhere(self) -> StateClient:
        """Another one who writes there."""
        return self.state.client()

    def looks(self) -> list[str]:
        return [each for each in self.asked if each.startswith(("GET", "LIST"))]


@contextmanager
def http_api(state: StateServer | None = None) -> Iterator[HttpApi]:
    served = HttpApi(state or StateServer())
    handler = type("Handler", (_Handler,), {"served": served})
    with serving(handler) as server:
        server.daemon_threads = True
        served.port = server.server_port
        try:
            yield served
        finally:
            served.away.set()


class _Handler(BaseHTTPRequestHandler):
    served: HttpApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        body = json.loads(body_of(self) or b"{}")
        if self.served.away.is_set():
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        if f"/namespaces/{NAMESPACE}/" not in parts.path:
            self._answer(200, {})  # whether it is there
            return
        plural, _, name = parts.path.split(f"/namespaces/{NAMESPACE}/")[1].partition("/")
        if "watch" in query:
            with suppress(ConnectionError):  # who watched is gone
                self._watched(KINDS[plural], query)
            return
        verb = "LIST" if self.command == "GET" and not name else self.command
        self.served.asked.append(f"{verb} {plural}" + (f"/{name}" if name else ""))
        try:
            status, said = 200, self._done(KINDS[plural], name, query, body)
        except Stale as error:
            status, said = 409, {"message": str(error)}
        except ClusterRefuses as error:
            status, said = 422, {"message": str(error)}
        if said is None:
            status, said = 404, {"message": f"{plural} {name} not found"}
        self._answer(status, said)

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 (as http.server finds them)

    def _done(self, kind: Kind, name: str, query: dict[str, str], body: Json) -> Json | None:
        state = self.served.state.client()
        match self.command:
            case "GET" if name:
                return state.get(kind, name)
            case "GET":
                with self.served.state.lock:
                    wanted = dict(
                        each.split("=") for each in query.get("labelSelector", "").split(",") if each
                    )
                    version = {"resourceVersion": str(self.served.state.writes)}
                    return {
                        "metadata": version,
                        "items": [_listed(each) for each in state.list(kind, wanted)],
                    }
            case "POST":
                return state.create(kind, body)
            case "PUT":
                return state.replace(kind, body)
            case "PATCH":
                return state.merge(kind, name, body)
        state.delete(kind, name, body.get("preconditions", {}).get("uid"))
        return {}

    def _watched(self, kind: Kind, query: dict[str, str]) -> None:
        self.served.asked.append(f"WATCH {kind.plural}")
        if self.served.refused:
            self._answer(403, {"message": f"may not watch {kind.plural}"})
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        self.served.watched_since.append(int(query["resourceVersion"]))
        told, until_s = int(query["resourceVersion"]), time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < until_s and not self.served.away.is_set():
            if told < self.served.forgotten:
                self._tell({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
                break
            if not self.served.silent:
                with self.served.state.lock:
                    new, told = self.served.state.changes[told:], self.served.state.writes
                for change in new:
                    if change["object"]["kind"] == kind.kind:
                        self._tell(change)
            time.sleep(_LOOK_EVERY_S)
        if self.served.away.is_set():
            self.close_connection = True  # amid what was being told
            return
        self.wfile.write(b"0\r\n\r\n")

    def _tell(self, change: Json) -> None:
        line = json.dumps(change).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def _answer(self, status: int, said: Json) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _listed(body: Json) -> Json:
    """As in a list, whose own kind says theirs."""
    return {key: value for key, value in body.items() if key not in ("apiVersion", "kind")}
