"""The routes: what each one means stands in protocol, records, predictor and feedback.

A server has one model, so its routes are known when it starts, and a request finds its own by
method and target in one look. A request is answered in one go, or, where the model is asked, in two:
`handle` leaves its rows with the batcher, which calls back with their outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from coalmine.serving import openapi, protocol, records
from coalmine.serving.audience import Audience, audience_of
from coalmine.serving.batching import Batcher, Outputs
from coalmine.serving.binary import HEADER as JSON_LENGTH
from coalmine.serving.binary import split
from coalmine.serving.binned import BinnedRows
from coalmine.serving.feedback import SCORES, Labels
from coalmine.serving.http import JSON, Answer, Request, error_answer, json_body, parse_json
from coalmine.serving.logs import event
from coalmine.serving.memory import LabelOutcome, ServedPredictions
from coalmine.serving.page import content_security_policy, page
from coalmine.serving.payloads import PayloadLog
from coalmine.serving.predictor import Predictor
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.telemetry import CONTENT_TYPE, Telemetry
from coalmine.serving.tensors import MAX_ROWS, Rows
from coalmine.slots import Slot

MAX_SERVED = 10_000  # predictions in one answer of /served

Handler = Callable[[Request], Answer | None]  # None: it is answered later


@dataclass(frozen=True, slots=True)
class Route:
    handle: Handler
    is_inference: bool = False


class Serving:
    """One release in one slot, as its users see it. `is_ready` is turned off before it leaves.

    queue: requests that may wait for the model; one more is told to come later.
    Made within the event loop that it serves in.
    """

    def __init__(
        self, predictor: Predictor[Any], slot: Slot, queue: int = 1024, payloads: PayloadLog | None = None
    ) -> None:
        manifest = predictor.manifest
        self.is_ready = True
        self.headers: tuple[tuple[str, str], ...] = (
            ("x-coalmine-model", manifest.model),
            ("x-coalmine-version", manifest.version),
            ("x-coalmine-slot", slot.value),
        )
        self._inferring = 0
        self._predictor = predictor
        self._manifest = manifest
        self._protocol = protocol.Protocol(manifest)
        self._batcher = Batcher(
            predictor.predict, is_quick=predictor.is_quick, max_rows=MAX_ROWS, max_waiting=queue
        )
        self._labels = Labels(manifest.task, manifest.classes)
        self._scores = SCORES[manifest.task]
        self._served = ServedPredictions()
        self._payloads = payloads
        self._started_s = time.time()
        who = {"model_name": manifest.model, "model_version": manifest.version, "slot": slot.value}
        reference = predictor.reference
        self._binned = None if reference is None else BinnedRows(reference, manifest.columns, who)
        self._telemetry = Telemetry(
            who,
            manifest.digest,
            manifest.task,
            self._started_s,
            lambda: self._inferring,
            None if payloads is None else payloads.counts,
            None if self._binned is None else self._binned.exposition,
        )
        self._page, self._openapi = page(manifest, slot), orjson.dumps(openapi.document(manifest))
        self._routes = self._all_routes()

    def handle(self, request: Request) -> None:
        self._step(request, self._begun(request).handle, request)

    def refuse(self, request: Request, refusal: Refusal) -> None:
        if request.refusal is not None:  # it has not begun
            self._begun(request)
        self._answered(request, self._refused(refusal, request))

    def close(self) -> None:
        if self._payloads is not None:
            self._payloads.close(timeout_s=2.0)

    # --- from a request to its one answer ----------------------------------------------

    def _begun(self, request: Request) -> Route:
        route = self._routes.get((request.method, request.target)) or self._unusual(request)
        if route.is_inference:
            request.is_inference = True
            self._inferring += 1
        return route

    def _step(self, request: Request, step: Callable[..., Answer | None], *about: Any) -> None:
        """`step`, and its answer, whatever happens."""
        try:
            answer = step(*about)
        except Refusal as refusal:
            answer = self._refused(refusal, request)
        except Exception as error:
            event("failed", logging.ERROR, error, request_id=request.id, trace_id=_trace_id(request))
            answer = error_answer("the server failed; its log says more", 500)
        if answer is not None:
            self._answered(request, answer)

    def _answered(self, request: Request, answer: Answer) -> None:
        if "traceparent" in request.headers:
            answer = _with_trace(request, answer)
        request.respond(request, answer)
        if request.is_inference:
            self._inferring -= 1
            duration_s = time.perf_counter() - request.started_s
            self._telemetry.answered(audience_of(request), answer.status, duration_s)
            if self._payloads is not None:
                self._keep(request, answer)

    def _refused(self, refusal: Refusal, request: Request) -> Answer:
        if request.is_inference:
            self._telemetry.failed(audience_of(request), refusal.kind)
        event("refused", kind=refusal.kind.value, request_id=request.id, trace_id=_trace_id(request))
        return error_answer(str(refusal), refusal.status, refusal.headers)

    # --- inference ---------------------------------------------------------------------

    def _infer(self, request: Request) -> None:
        request.require_media_type(JSON, protocol.BINARY)
        body, data = request.read(), None
        json_length = request.headers.get(JSON_LENGTH)
        if json_length is None:
            message = parse_json(body)
        else:
            text, data = split(body, json_length)
            message = parse_json(text)
        request.id = protocol.body_id(message) or request.id  # a refusal carries it too
        asked = self._protocol.read(message, data)
        self._predict(request, asked.rows, partial(self._protocol.answer, asked))

    def _predict_records(self, request: Request) -> None:
        asked = records.read_records(json_body(request), self._manifest.inputs, MAX_ROWS)

        def answer(request_id: str, outputs: Outputs) -> Answer:
            return Answer(records.answer(self._manifest, request_id, outputs, asked.is_single))

        self._predict(request, Rows(asked.count, asked.columns), answer)

    def _predict(self, request: Request, rows: Rows, answer: Callable[[str, Outputs], Answer]) -> None:
        joined = self._predictor.join(rows)
        told = partial(self._step, request, self._predicted, request, joined, answer)
        self._batcher.predict(self._predictor.take(joined), rows.count, request, told)

    def _predicted(
        self,
        request: Request,
        rows: Rows,
        answer: Callable[[str, Outputs], Answer],
        outputs: Outputs | Exception,
    ) -> Answer | None:
        if request.is_over:
            return None
        if isinstance(outputs, Exception):
            raise outputs
        audience = audience_of(request)
        self._telemetry.predicted(audience, outputs)
        if self._binned is not None and audience is not Audience.TESTERS:  # who try the odd
            self._binned.add(rows, outputs)
        self._served.remember(request.id, tuple(outputs[self._scores]))
        return answer(request.id, outputs)

    def _served_since(self, request: Request) -> Answer:
        """The newest predictions with their ids, for whoever compares two servers' answers to a request."""
        query = parse_qs(request.target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True)
        asked = query.get("after", ["0"])[0]
        if not (asked.isascii() and asked.isdecimal() and len(asked) <= 18):
            raise Refusal(
                FailureKind.MALFORMED, f"`after` is {shown(asked)}: send the `next` of an answer before"
            )
        served = [
            {"id": request_id, "scores": scores}
            for request_id, scores in self._served.since(int(asked), MAX_SERVED)
        ]
        epoch = f"{self._started_s:.6f}"
        return Answer(orjson.dumps({"epoch": epoch, "next": self._served.count, "served": served}))

    # --- late labels -------------------------------------------------------------------

    def _feedback(self, request: Request) -> Answer:
        labels = self._labels.parse(json_body(request))
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

    def _live(self, _: Request) -> Answer:
        return Answer(b'{"live":true}')

    def _ready(self, _: Request) -> Answer:
        return self._readiness({})

    def _model_ready(self, _: Request) -> Answer:
        return self._readiness({"name": self._manifest.model})

    def _readiness(self, about: dict[str, Any]) -> Answer:
        if self.is_ready:
            return Answer(orjson.dumps({**about, "ready": True}))
        return Answer(orjson.dumps({**about, "ready": False, "error": "this server is leaving"}), 503)

    def _metrics(self, _: Request) -> Answer:
        return Answer(self._telemetry.exposition(), media_type=CONTENT_TYPE)

    # --- routing -----------------------------------------------------------------------

    def _all_routes(self) -> dict[tuple[bytes, bytes], Route]:
        manifest = self._manifest
        model = f"/v2/models/{manifest.model}"
        written: dict[str, Route] = {
            "/predict": Route(self._predict_records, is_inference=True),
            f"{model}/feedback": Route(self._feedback),
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
            "/served": self._served_since,  # not among the model's routes: no proxy hands it on to users
        }
        for prefix in (model, f"{model}/versions/{manifest.version}"):
            written[f"{prefix}/infer"] = Route(self._infer, is_inference=True)
            read[prefix] = _constant(metadata)
            read[f"{prefix}/ready"] = self._model_ready
        routes = {(b"POST", path.encode()): route for path, route in written.items()}
        for path, handler in read.items():
            routes[b"GET", path.encode()] = routes[b"HEAD", path.encode()] = Route(handler)
        return routes

    def _unusual(self, request: Request) -> Route:
        """The route of an unusual spelling, or one that says what is wrong and where routes begin."""
        method = request.method
        path = _path(request.target)
        plain = path.encode("utf-8", "surrogateescape")
        if (method, plain) in self._routes:
            return self._routes[method, plain]
        allowed = [known.decode() for known, at in self._routes if at == plain]
        if allowed:
            sent = method.decode("latin-1")
            words, status = f"{sent} is not for {path}: send {' or '.join(allowed)}", 405
        else:
            words, status = self._what_is_here(path), 404
        headers = (("allow", ", ".join(allowed)),) if allowed else ()

        def refuse(_: Request) -> Answer:
            raise Refusal(FailureKind.NOT_FOUND, words, status, headers)

        return Route(refuse, is_inference=path.endswith("/infer") and method == b"POST")

    def _what_is_here(self, path: str) -> str:
        manifest = self._manifest
        match path.split("/"):
            case ["", "v2", "models", model, *_] if model != manifest.model:
                return f"model {shown(model)} is not here: this server has {manifest.model}"
            case ["", "v2", "models", model, "versions", version, *_] if version != manifest.version:
                return f"version {shown(version)} of {model} is not here: this server has {manifest.version}"
        return f"{shown(path)} is not here: the routes begin at /v2, and /openapi.json lists them"

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


def _path(target: bytes) -> str:
    """The path of a request's target, in its plain spelling; a proxy may send the whole address."""
    text = target.decode("utf-8", "surrogateescape")
    if not text.startswith("/"):
        text = "/" + text.partition("://")[2].partition("/")[2]
    return unquote(text.partition("?")[0], errors="surrogateescape").rstrip("/") or "/"


def _with_trace(request: Request, answer: Answer) -> Answer:
    trace = request.trace
    if trace is None:
        return answer
    headers = [*answer.headers, ("traceparent", trace.traceparent)]
    if (state := request.headers.get("tracestate")) is not None:
        headers.append(("tracestate", state))
    return Answer(answer.body, answer.status, answer.media_type, tuple(headers))


def _trace_id(request: Request) -> str | None:
    trace = request.trace
    return None if trace is None else trace.trace_id


def _constant(body: bytes, media_type: str = JSON, headers: tuple[tuple[str, str], ...] = ()) -> Handler:
    return lambda _: Answer(body, media_type=media_type, headers=headers)
