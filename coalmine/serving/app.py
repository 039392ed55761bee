"""The routes: HTTP in, HTTP out. What they mean stands in protocol, predictor and feedback."""

from __future__ import annotations

import time
import uuid
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coalmine.serving import protocol
from coalmine.serving.batching import Batcher
from coalmine.serving.feedback import Labels, scores_of
from coalmine.serving.memory import LabelOutcome, ServedPredictions
from coalmine.serving.predictor import Predictor
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.telemetry import CONTENT_TYPE, Telemetry
from coalmine.serving.tensors import MAX_ROWS

MAX_BODY_BYTES = 8 * 2**20
REQUEST_ID = "x-request-id"


class Serving:
    """One release in one slot, as its users see it. `is_ready` is turned off before it leaves."""

    def __init__(self, predictor: Predictor, slot: str) -> None:
        manifest = predictor.manifest
        self.is_ready = True
        self._predictor = predictor
        self._batcher = Batcher(predictor.predict, MAX_ROWS)
        self._manifest = manifest
        self._slot = slot
        self._labels = Labels(manifest.task, manifest.classes)
        self._served = ServedPredictions()
        self._telemetry = Telemetry(manifest.model, manifest.version, slot, manifest.task)

    def app(self) -> ASGIApp:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        routes = [Route("/v2", self._server), Route("/metrics", self._metrics)]
        routes += [Route("/v2/health/live", self._live), Route("/v2/health/ready", self._ready)]
        for prefix in (model, version):
            routes += [
                Route(prefix, self._model),
                Route(f"{prefix}/ready", self._model_ready),
                Route(f"{prefix}/infer", self._infer, methods=["POST"]),
            ]
        routes.append(Route(f"{model}/feedback", self._feedback, methods=["POST"]))
        handlers: dict[Any, Any] = {HTTPException: _no_such_route, Refusal: _refused, Exception: _unexpected}
        return self._signed(Starlette(routes=routes, exception_handlers=handlers))

    async def _infer(self, request: Request) -> Response:
        started = time.perf_counter()
        with self._telemetry.in_flight.track_inprogress():
            try:
                response = await self._predict(request)
            except Refusal as refusal:
                self._telemetry.failed(refusal.kind)
                response = await _refused(request, refusal)
        self._telemetry.answered(response.status_code, time.perf_counter() - started)
        return response

    async def _predict(self, request: Request) -> Response:
        self._require_model(request)
        message = protocol.parse_json(await _body(request))
        request_id = protocol.body_id(message) or request.state.request_id
        request.state.request_id = request_id  # a refusal carries it too
        asked = self._predictor.parse(message)
        predictions = await self._batcher.predict(asked.frame)
        body = protocol.infer_answer(self._manifest, request_id, asked.outputs, predictions)
        self._telemetry.predicted(predictions)
        self._served.remember(request_id, scores_of(predictions))
        return _json(body)

    async def _feedback(self, request: Request) -> Response:
        self._require_model(request)
        labels = self._labels.parse(protocol.parse_json(await _body(request)))
        for label in labels:
            scores = self._served.waiting(label.request_id)
            if scores is not None and len(scores) != len(label.truth):
                raise Refusal(
                    FailureKind.SCHEMA,
                    f"request {label.request_id} had {len(scores)} rows, but its `label` has "
                    f"{len(label.truth)}: send one for each row, in their order",
                )
        counts = dict.fromkeys((each.value for each in LabelOutcome), 0)
        for label in labels:
            outcome = self._served.outcome(label.request_id)
            scores = self._served.waiting(label.request_id)
            if scores is not None:
                self._telemetry.lost(self._labels.loss(scores, label.truth))
                self._served.mark_labelled(label.request_id)
            self._telemetry.labelled(outcome)
            counts[outcome.value] += 1
        return _json(orjson.dumps(counts))

    async def _server(self, _: Request) -> Response:
        return _json(orjson.dumps(protocol.server_metadata()))

    async def _live(self, _: Request) -> Response:
        return _json(b'{"live":true}')

    async def _ready(self, _: Request) -> Response:
        return _json(b'{"ready":true}') if self.is_ready else _json(b'{"ready":false}', 503)

    async def _model(self, request: Request) -> Response:
        self._require_model(request)
        return _json(orjson.dumps(protocol.model_metadata(self._manifest)))

    async def _model_ready(self, request: Request) -> Response:
        self._require_model(request)
        return await self._ready(request)

    async def _metrics(self, _: Request) -> Response:
        return Response(self._telemetry.exposition(), headers={"content-type": CONTENT_TYPE})

    def _require_model(self, request: Request) -> None:
        asked, version = request.path_params["model"], request.path_params.get("version")
        if asked != self._manifest.model:
            raise Refusal(
                FailureKind.NOT_FOUND,
                f"model {shown(asked)} is not here: this server has {self._manifest.model}",
                404,
            )
        if version is not None and version != self._manifest.version:
            raise Refusal(
                FailureKind.NOT_FOUND,
                f"version {shown(version)} of {asked} is not here: this server has {self._manifest.version}",
                404,
            )

    def _signed(self, app: ASGIApp) -> ASGIApp:
        """Every answer says who gave it; one given while leaving closes its connection, so that
        the next request goes elsewhere."""
        fixed = [
            (b"x-coalmine-model", self._manifest.model.encode()),
            (b"x-coalmine-version", self._manifest.version.encode()),
            (b"x-coalmine-slot", self._slot.encode()),
        ]

        async def signed(scope: Scope, receive: Receive, send: Send) -> None:
            state = scope.setdefault("state", {})
            state["request_id"] = _request_id(scope)

            async def signing(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] += [*fixed, (REQUEST_ID.encode(), state["request_id"].encode())]
                    if not self.is_ready:
                        message["headers"].append((b"connection", b"close"))
                await send(message)

            await app(scope, receive, signing)

        return signed


def _request_id(scope: Scope) -> str:
    """The header's, or a new one: a proxy that writes strange ids is no reason to refuse a user."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and protocol.is_request_id(given := value.decode("latin-1")):
            return str(given)
    return str(uuid.uuid4())


async def _body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(
            FailureKind.MALFORMED, f"the body is {shown(media_type)}: send content-type application/json", 415
        )
    if "inference-header-content-length" in request.headers:
        raise Refusal(FailureKind.MALFORMED, "this server takes no binary tensor data: send JSON")
    chunks, size = [], int(request.headers.get("content-length", "0"))
    if size <= MAX_BODY_BYTES:
        size = 0
        try:
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    break
        except ClientDisconnect as error:
            raise Refusal(FailureKind.MALFORMED, "the body ended early") from error
    if size > MAX_BODY_BYTES:
        raise Refusal(
            FailureKind.TOO_LARGE,
            f"the body is larger than {MAX_BODY_BYTES} bytes: send the rows in several requests",
            413,
        )
    return b"".join(chunks)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def _refused(_: Request, refusal: Exception) -> Response:
    return _json(protocol.error_answer(str(refusal)), getattr(refusal, "status", 500))


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = f"{request.method} {request.url.path}: {error.detail}. The routes begin at GET /v2"
    return Response(
        protocol.error_answer(words), error.status_code, headers=error.headers, media_type="application/json"
    )


async def _unexpected(_: Request, __: Exception) -> Response:
    return _json(protocol.error_answer("the server failed; its log says more"), 500)
