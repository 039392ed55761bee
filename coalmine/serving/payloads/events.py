"""One request and its answer as CloudEvents, and a CloudEvent as text.

https://github.com/cloudevents/spec, version 1.0.2: spec.md (attributes), formats/json-format.md (a
line), bindings/http-protocol-binding.md, sections 3.1.1 and 3.1.3 (headers).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

import orjson

from coalmine.serving import tracing

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"

# What a header value may hold as it is: printable ASCII without space, quotes and percent signs.
_IN_HEADERS = "".join(each for each in map(chr, range(0x21, 0x7F)) if each not in '"%')


@dataclass(frozen=True)
class Origin:
    """Who answered. source: an absolute URI that names the server, such as where it listens."""

    model: str
    version: str
    slot: str
    source: str
    namespace: str = "default"


class Body(NamedTuple):
    """json_length: with tensors in binary, the header that says how long the JSON before them is."""

    data: bytes
    media_type: str
    json_length: str | None = None


class Exchange(NamedTuple):
    """answer: None when it was an error. traceparent: the header as it came. at_s: since 1970."""

    request_id: str
    request: Body
    answer: Body | None
    traceparent: str | None
    at_s: float


class Event(NamedTuple):
    attributes: dict[str, str]
    data: bytes


def events_of(exchange: Exchange, origin: Origin) -> list[Event]:
    moment = datetime.fromtimestamp(exchange.at_s, UTC).isoformat(timespec="microseconds")
    trace = tracing.parse(exchange.traceparent)
    shared = {
        "source": origin.source,
        "id": exchange.request_id,
        "time": moment.replace("+00:00", "Z"),
        "inferenceservicename": origin.model,
        "namespace": origin.namespace,
        "component": "predictor",
        "endpoint": "default",
        "model": origin.model,
        "version": origin.version,
        "slot": origin.slot,
        **({} if trace is None else {"traceparent": trace.traceparent}),
    }
    events = [_event(REQUEST, exchange.request, shared)]
    if exchange.answer is not None:
        events.append(_event(RESPONSE, exchange.answer, shared))
    return events


def as_line(event: Event) -> bytes:
    """The event in the JSON format, on one line that ends with a newline.

    JSON stands there as it was sent, but for line breaks; what is not JSON, or claims to be, is base64.
    """
    head = orjson.dumps(event.attributes)[:-1]
    if _is_json(event.attributes["datacontenttype"], event.data):
        # Valid JSON has raw line breaks between its tokens only.
        return b'%s,"data":%s}\n' % (head, event.data.replace(b"\n", b" ").replace(b"\r", b" "))
    return b'%s,"data_base64":"%s"}\n' % (head, base64.b64encode(event.data))


def as_headers(event: Event) -> dict[str, str]:
    """The headers of a request in binary mode, whose body is the event's data."""
    attributes = dict(event.attributes)
    media_type = attributes.pop("datacontenttype")
    headers = {f"ce-{name}": quote(value, safe=_IN_HEADERS) for name, value in attributes.items()}
    return {"content-type": media_type, **headers}


def _event(type_: str, body: Body, shared: dict[str, str]) -> Event:
    metadata = {} if body.json_length is None else {"Inference-Header-Content-Length": [body.json_length]}
    attributes = {
        "specversion": "1.0",
        "type": type_,
        "datacontenttype": body.media_type,
        "metadata": orjson.dumps(metadata).decode(),
        **shared,
    }
    return Event(attributes, body.data)


def _is_json(media_type: str, data: bytes) -> bool:
    subtype = media_type.partition(";")[0].strip().lower().rpartition("/")[2]
    if subtype != "json" and not subtype.endswith("+json"):
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
