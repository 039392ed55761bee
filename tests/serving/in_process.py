"""The routes without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from coalmine.serving.app import Serving
from coalmine.serving.predictor import Predictor
from tests.serving.releases import Built


class Client:
    """Talks to a `Serving` of its own; `post` is JSON unless given `content`."""

    def __init__(self, built: Built, model: Any = None) -> None:
        self.serving = Serving(Predictor(built.manifest, built.model if model is None else model), "green")
        self._app = self.serving.app()
        self._root = f"/v2/models/{built.manifest.model}"

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def infer(self, **more: Any) -> httpx.Response:
        return self.request("POST", f"{self._root}/infer", **more)

    def feedback(self, message: Any) -> httpx.Response:
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

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())
