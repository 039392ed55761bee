"""The routes without a socket: requests as Granian would hand them over."""

from __future__ import annotations

import asyncio
import atexit
import json as json_text
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from coalmine.evaluation.compiled.plan import compiled_folder
from coalmine.serving.app import Limits, Serving
from coalmine.serving.fitted import FittedModel
from coalmine.serving.predictor import Predictor
from coalmine.serving.translated import TranslatedModel
from coalmine.slots import Slot
from tests.serving.releases import Built

_runner = asyncio.Runner()  # one loop for all clients of a test process
atexit.register(_runner.close)


def _predictor(built: Built, model: Any) -> Predictor[Any]:
    """`model`, if there is one, in place of the release's own."""
    manifest = built.manifest
    if model is None and manifest.predictor.kind == "compiled":
        folder = built.folder / "files" / compiled_folder(manifest.model)
        return Predictor(manifest, TranslatedModel.load(folder, manifest))
    return Predictor(manifest, FittedModel(built.model if model is None else model, manifest))


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


@dataclass
class Exchange:
    """Granian's side of one request; `hangs`: the body never ends."""

    chunks: list[bytes]
    hangs: bool = False
    response: Response | None = field(default=None)

    async def __call__(self) -> bytes:
        if self.hangs:
            await asyncio.Event().wait()
        return b"".join(self.chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.hangs:
            await asyncio.Event().wait()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert self.response is None, "answered twice"
        assert all(isinstance(name, str) and name.islower() for name, _ in headers)
        self.response = Response(status, dict(headers), body)


class Client:
    """Talks to a `Serving` of its own; `json` is sent as JSON, `content` as it is."""

    def __init__(self, built: Built, model: Any = None, limits: Limits | None = None, **more: Any) -> None:
        async def make() -> Serving:
            return Serving(_predictor(built, model), Slot.GREEN, limits or Limits(), **more)

        self.serving = _runner.run(make())
        self._root = f"/v2/models/{built.manifest.model}"

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def infer(self, **more: Any) -> Response:
        return self.request("POST", f"{self._root}/infer", **more)

    def feedback(self, message: Any) -> Response:
        return self.request("POST", f"{self._root}/feedback", json=message)

    def metric(self, name: str, **labels: str) -> float:
        """The one sample by this name and these labels, beside those that every series has."""
        wanted = {"model_name": "delays", "model_version": "1.2.0", "slot": "green", **labels}
        (value,) = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and sample.labels == wanted
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
    ) -> Response:
        body = content if content is not None else b"" if json is None else json_text.dumps(json).encode()
        sent = {} if chunked else {"content-length": str(len(body))}
        if json is not None:
            sent["content-type"] = "application/json"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        exchange = Exchange([body[at : at + 1000] for at in range(0, len(body), 1000)], hangs)
        await self.serving.__rsgi__(SimpleNamespace(method=method, path=path, headers=sent), exchange)
        assert exchange.response is not None
        return exchange.response

    def together(self, *asks: Mapping[str, Any]) -> list[Response]:
        """Several infer requests at the same moment."""

        async def all_of_them() -> list[Response]:
            return await asyncio.gather(*(self.asked("POST", f"{self._root}/infer", **each) for each in asks))

        return _runner.run(all_of_them())
