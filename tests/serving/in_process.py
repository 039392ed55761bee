"""A server without a socket: bytes in and bytes out, through the real connection and application."""

from __future__ import annotations

import asyncio
import atexit
import json as json_text
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from coalmine.evaluation.compiled.plan import compiled_folder
from coalmine.serving.app import Serving
from coalmine.serving.connection import Connections
from coalmine.serving.fitted import FittedModel
from coalmine.serving.predictor import Predictor
from coalmine.serving.translated import TranslatedModel
from coalmine.slots import Slot
from tests.serving.releases import Built

_PIECE = 2**16  # bytes that come at once
_runner = asyncio.Runner()  # one loop for all clients of a test process
atexit.register(_runner.close)


def _predictor(built: Built, model: Any) -> Predictor[Any]:
    """`model`, if there is one, in place of the release's own."""
    manifest = built.manifest
    if model is None and manifest.predictor.kind == "compiled":
        folder = built.folder / "files" / compiled_folder(manifest.model)
        return Predictor(manifest, TranslatedModel.load(folder, manifest), reference=built.reference)
    fitted = FittedModel(built.model if model is None else model, manifest)
    return Predictor(manifest, fitted, reference=built.reference)


@dataclass
class Response:
    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json_text.loads(self.content)


class Transport:
    """A client's end of a connection that is always read."""

    def __init__(self) -> None:
        self.said = b""
        self.heard = asyncio.Event()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.said += data
        self.heard.set()

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True
        self.heard.set()

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Client:
    """Talks to a `Serving` of its own; `json` is sent as JSON, `content` as it is."""

    def __init__(
        self,
        built: Built,
        model: Any = None,
        *,
        timeout_s: float = 10.0,
        queue: int = 1024,
        payloads: Any = None,
    ) -> None:
        async def make() -> None:
            self.serving = Serving(_predictor(built, model), Slot.GREEN, queue, payloads)
            self.connections = Connections(self.serving, timeout_s, head_within_s=30.0)

        _runner.run(make())
        self._root = f"/v2/models/{built.manifest.model}"

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def infer(self, **more: Any) -> Response:
        return self.request("POST", f"{self._root}/infer", **more)

    def feedback(self, message: Any) -> Response:
        return self.request("POST", f"{self._root}/feedback", json=message)

    def metric(self, name: str, audience: str = "users", **labels: str) -> float:
        """The one sample by this name and these labels, beside those that every series has.

        audience: of the series that tell audiences apart.
        """
        wanted = {"model_name": "delays", "model_version": "1.2.0", "slot": "green", **labels}
        (value,) = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
            if sample.name == name
            and {"audience": audience, **sample.labels} == {"audience": audience, **wanted}
        ]
        return value

    def request(self, method: str, path: str, **more: Any) -> Response:
        return _runner.run(self.asked(method, path, **more))

    async def asked(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        chunked: bool = False,
        hangs: bool = False,
        copy: bool = False,
    ) -> Response:
        body = content if content is not None else b"" if json is None else json_text.dumps(json).encode()
        length = len(body) + 1 if hangs else len(body)
        sent = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(length)}
        if json is not None:
            sent["content-type"] = "application/json"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        connection = self.connections.of_copies() if copy else self.connections()
        transport = Transport()
        connection.connection_made(cast(asyncio.Transport, transport))
        connection.data_received(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            connection.data_received(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked and not hangs:
            connection.data_received(b"0\r\n\r\n")
        await transport.heard.wait()
        return _response(transport.said)

    def together(self, *asks: Mapping[str, Any]) -> list[Response]:
        """Several infer requests at the same moment."""

        async def all_of_them() -> list[Response]:
            return await asyncio.gather(*(self.asked("POST", f"{self._root}/infer", **each) for each in asks))

        return _runner.run(all_of_them())


def _response(said: bytes) -> Response:
    head, _, body = said.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines), "a header twice"
    assert all(name.islower() for name in headers)
    return Response(int(first.split()[1]), headers, body)
