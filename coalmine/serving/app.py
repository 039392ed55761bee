"""The routes: what each one means stands in protocol, records, predictor and feedback.

A server has one model, so its routes are known when it starts, and a request finds its own by
method and path in one look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from coalmine.serving import openapi, protocol, records
from coalmine.serving.batching import Batcher
from coalmine.serving.binary import HEADER as JSON_LENGTH
from coalmine.serving.binary import split
from coalmine.serving.deadlines import Deadlines
from coalmine.serving.feedback import SCORES, Labels
from coalmine.serving.http import JSON, REQUEST_ID, Answer, Request, error_answer, json_body, parse_json
from coalmine.serving.logs import event
from coalmine.serving.memory import LabelOutcome, ServedPredictions
from coalmine.serving.page import content_security_policy, page
from coalmine.serving.payloads import PayloadLog
from coalmine.serving.predictor import Predictor
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.telemetry import CONTENT_TYPE, Telemetry
from coalmine.serving.tensors import MAX_ROWS, Rows
from coalmine.slots import Slot

Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True)
class Limits:
    """timeout_s: from a request's head to its answer; queue: requests that may wait for the model."""

    timeout_s: float = 10.0
    queue: int = 1024


@dataclass(frozen=True, slots=True)
class Route:
    handle: Handler
    is_inference: bool = False


class Serving:
    """One release in one slot, as its users see it. `is_ready` is turned off before it leaves.

    Make it within the event loop that it serves in.
    """

    def __init__(
        self,
        predictor: Predictor[Any],
        slot: Slot,
        limits: Limits = Limits(),
        payloads: PayloadLog | None = None,
    ) -> None:
        manifest = predictor.manifest
        self.is_ready = True
        self._inferring = 0
        self._predictor = predictor
        self._manifest = manifest
        self._protocol = protocol.Protocol(manifest)
        self._batcher = Batcher(
            predictor.predict, is_quick=predictor.is_quick, max_rows=MAX_ROWS, max_waiting=limits.queue
        )
        self._deadlines = Deadlines(limits.timeout_s)
        self._labels = Labels(manifest.task, manifest.classes)
        self._scores = SCORES[manifest.task]
        self._served = ServedPredictions()
        self._payloads = payloads
        who = {"model_name": manifest.model, "model_version": manifest.version, "slot": slot.value}
        self._telemetry = Telemetry(
            who, manifest.task, lambda: self._inferring, None if payloads is None else payloads.counts
        )
        self._signature = [
            ("x-coalmine-model", manifest.model),
            ("x-coalmine-version", manifest.version),
            ("x-coalmine-slot", slot.value),
        ]
        self._page, self._openapi = page(manifest, slot), orjson.dumps(openapi.document(manifest))
        self._routes = self._all_routes()
        self._watch = asyncio.get_running_loop().create_task(self._deadlines.watch())

    async def __rsgi__(self, scope: Any, http: Any) -> None:
        """One request, from its head to its answer, whatever happens."""
        started_s = time.perf_counter()
        request = Request(scope, http)
        route = self._routes.get((scope.method, scope.path)) or self._unusual(scope.method, scope.path)
        task = asyncio.current_task()
        assert task is not None
        self._deadlines.start(task, started_s)
        if route.is_inference:
            self._inferring += 1
        try:
            answer = await route.handle(request)
        except Refusal as refusal:
            answer = self._refused(refusal, request, route)
        except asyncio.CancelledError:
            if not self._deadlines.has_ended(task):
                raise
            task.uncancel()
            answer = self._refused(self._timeout(), request, route)
        except Exception as error:
            event("failed", logging.ERROR, error, request_id=request.id, trace_id=_trace_id(request))
            answer = error_answer("the server failed; its log says more", 500)
        finally:
            self._deadlines.stop(task)
            if route.is_inference:
                self._inferring -= 1
        http.response_bytes(answer.status, self._headers(request, answer), answer.body)
        if route.is_inference:
            self._telemetry.answered(answer.status, time.perf_counter() - started_s)
            if self._payloads is not None:
                self._keep(request, answer)

    # --- inference ---------------------------------------------------------------------

    async def _infer(self, request: Request) -> Answer:
        request.require_media_type(JSON, protocol.BINARY)
        body, data = await request.body(), None
        json_length = request.headers.get(JSON_LENGTH)
        if json_length is None:
            message = parse_json(body)
        else:
            text, data = split(body, json_length)
            message = parse_json(text)
        request.id = protocol.body_id(message) or request.id  # a refusal carries it too
        asked = self._protocol.read(message, data)
        outputs = await self._batcher.predict(self._predictor.take(asked.rows), asked.rows.count)
        self._note(request, outputs)
        return self._protocol.answer(asked, request.id, outputs)

    async def _predict_records(self, request: Request) -> Answer:
        asked = records.read_records(await json_body(request), self._manifest.inputs, MAX_ROWS)
        rows = self._predictor.take(Rows(asked.count, asked.columns))
        outputs = await self._batcher.predict(rows, asked.count)
        self._note(request, outputs)
        return Answer(records.answer(self._manifest, request.id, outputs, asked.is_single))

    def _note(self, request: Request, outputs: dict[str, list[Any]]) -> None:
        self._telemetry.predicted(outputs)
        self._served.remember(request.id, tuple(outputs[self._scores]))

    # --- late labels -------------------------------------------------------------------

    async def _feedback(self, request: Request) -> Answer:
        labels = self._labels.parse(await json_body(request))
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
        return Answer(orjson.dumps(counts))

    # --- what the server says of itself ------------------------------------------------

    async def _live(self, _: Request) -> Answer:
        return Answer(b'{"live":true}')

    async def _ready(self, _: Request) -> Answer:
        return self._readiness({})

    async def _model_ready(self, _: Request) -> Answer:
        return self._readiness({"name": self._manifest.model})

    def _readiness(self, about: dict[str, Any]) -> Answer:
        if self.is_ready:
            return Answer(orjson.dumps({**about, "ready": True}))
        return Answer(orjson.dumps({**about, "ready": False, "error": "this server is leaving"}), 503)

    async def _metrics(self, _: Request) -> Answer:
        return Answer(self._telemetry.exposition(), media_type=CONTENT_TYPE)

    # --- routing -----------------------------------------------------------------------

    def _all_routes(self) -> dict[tuple[str, str], Route]:
        manifest = self._manifest
        model = f"/v2/models/{manifest.model}"
        routes: dict[tuple[str, str], Route] = {
            ("POST", "/predict"): Route(self._predict_records, is_inference=True),
            ("POST", f"{model}/feedback"): Route(self._feedback),
        }
        metadata = orjson.dumps(protocol.model_metadata(manifest))
        read: dict[str, Handler] = {
            "/": _constant(
                self._page,
                "text/html; charset=utf-8",
                (("content-security-policy", content_security_policy()),),
            ),
            "/openapi.json": _constant(self._openapi),
            "/metrics": self._metrics,
            "/v2": _constant(orjson.dumps(protocol.server_metadata())),
            "/v2/health/live": self._live,
            "/v2/health/ready": self._ready,
        }
        for prefix in (model, f"{model}/versions/{manifest.version}"):
            routes["POST", f"{prefix}/infer"] = Route(self._infer, is_inference=True)
            read[prefix] = _constant(metadata)
            read[f"{prefix}/ready"] = self._model_ready
        routes |= {("GET", path): Route(handler) for path, handler in read.items()}
        return routes | {("HEAD", path): Route(handler) for path, handler in read.items()}

    def _unusual(self, method: str, path: str) -> Route:
        """The route of an unusual spelling, or one that says what is wrong and where routes begin."""
        plain = unquote(path).rstrip("/") or "/"
        if (method, plain) in self._routes:
            return self._routes[method, plain]
        allowed = [known for known, at in self._routes if at == plain]
        if allowed:
            words, status = f"{method[:20]} is not for {plain}: send {' or '.join(allowed)}", 405
        else:
            words, status = self._what_is_here(plain), 404
        headers = (("allow", ", ".join(allowed)),) if allowed else ()

        async def refuse(_: Request) -> Answer:
            raise Refusal(FailureKind.NOT_FOUND, words, status, headers)

        return Route(refuse, is_inference=plain.endswith("/infer") and method == "POST")

    def _what_is_here(self, path: str) -> str:
        manifest = self._manifest
        match path.split("/"):
            case ["", "v2", "models", model, *_] if model != manifest.model:
                return f"model {shown(model)} is not here: this server has {manifest.model}"
            case ["", "v2", "models", model, "versions", version, *_] if version != manifest.version:
                return f"version {shown(version)} of {model} is not here: this server has {manifest.version}"
        return f"{shown(path)} is not here: the routes begin at /v2, and /openapi.json lists them"

    # --- answering ---------------------------------------------------------------------

    def _refused(self, refusal: Refusal, request: Request, route: Route) -> Answer:
        if route.is_inference:
            self._telemetry.failed(refusal.kind)
        event("refused", kind=refusal.kind.value, request_id=request.id, trace_id=_trace_id(request))
        return error_answer(str(refusal), refusal.status, refusal.headers)

    def _keep(self, request: Request, answer: Answer) -> None:
        """Offer the request and its answer to the payload log."""
        assert self._payloads is not None
        self._payloads.offer(
            request.id,
            request.content,
            answer.body if answer.status == 200 else None,
            request.headers.get("traceparent"),
            request_type=request.headers.get("content-type", JSON),
            answer_type=answer.media_type,
            request_json_length=request.headers.get(JSON_LENGTH),
            answer_json_length=dict(answer.headers).get(JSON_LENGTH),
        )

    def _timeout(self) -> Refusal:
        return Refusal(
            FailureKind.TIMEOUT,
            f"no answer within {self._deadlines.limit_s:g} s: send fewer rows at once, or the body faster",
            503,
            (("retry-after", "1"),),
        )

    def _headers(self, request: Request, answer: Answer) -> list[tuple[str, str]]:
        """Every answer says who gave it, and to which request; one given while leaving closes its
        connection, so that the next request goes elsewhere."""
        headers = [("content-type", answer.media_type), *self._signature, (REQUEST_ID, request.id)]
        if answer.headers:
            headers += answer.headers
        given = request.headers
        if given.get("traceparent") is not None and (trace := request.trace) is not None:
            headers.append(("traceparent", trace.traceparent))
            if (state := given.get("tracestate")) is not None:
                headers.append(("tracestate", state))
        if not self.is_ready:
            headers.append(("connection", "close"))
        return headers

    async def close(self) -> None:
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch
        if self._payloads is not None:
            self._payloads.close(timeout_s=2.0)


def _trace_id(request: Request) -> str | None:
    trace = request.trace
    return None if trace is None else trace.trace_id


def _constant(body: bytes, media_type: str = JSON, headers: tuple[tuple[str, str], ...] = ()) -> Handler:
    answer = Answer(body, media_type=media_type, headers=headers)

    async def constant(_: Request) -> Answer:
        return answer

    return constant
