"""`GET /openapi.json`: every route of the server, as OpenAPI 3.1, for one release.

Made once when the server starts, from the manifest alone: names, types, classes and examples are the
release's own. Where a rule cannot be said in JSON Schema (all tensors of a request have as many rows),
the description says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coalmine.manifest import Manifest, Tensor
from coalmine.serving.binary import HEADER as JSON_LENGTH
from coalmine.serving.feedback import MAX_LABELS
from coalmine.serving.records import class_name
from coalmine.serving.tensors import MAX_ROWS
from coalmine.slots import Slot
from coalmine.spec import Task

Schema = dict[str, Any]

_DATATYPES = [
    "BOOL",
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *("FP16", "FP32", "FP64", "BF16", "BYTES"),
]
_TYPES: dict[str, Schema] = {
    "BOOL": {"type": "boolean"},
    "INT64": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "FP64": {"type": "number", "format": "double"},
    "BYTES": {"type": "string"},
}
_ID: Schema = {"type": "string", "pattern": "^[!-~]{0,128}$"}  # empty is none
_ERRORS = {
    400: "What was sent is wrong: the words say what, where, and how to mend it.",
    404: "Another model or version, or no such route.",
    405: "Another method.",
    413: "Too many rows or bytes for one request.",
    415: "Another content type or content encoding.",
    422: "The model cannot answer for these values.",
    431: "The head of the request is too large.",
    500: "The server failed; its log says more.",
    503: "Too much waits already, no answer was there in time, or the server is leaving: come again.",
}
_READ_ERRORS = (404, 405, 431, 500, 503)


def document(manifest: Manifest) -> dict[str, Any]:
    """Pure: the same manifest gives the same document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": manifest.model,
            "version": manifest.version,
            "description": "One release of one model: the Open Inference Protocol v2 for programs, "
            "`/predict` for people.",
        },
        "paths": _paths(manifest),
        "components": {
            "schemas": _schemas(manifest),
            "responses": {str(status): _error(status, words) for status, words in _ERRORS.items()},
            "parameters": _parameters(manifest),
            "headers": _headers(manifest),
        },
    }


# --- routes ----------------------------------------------------------------------------


def _paths(manifest: Manifest) -> dict[str, Any]:
    model = "/v2/models/{model}"
    version = f"{model}/versions/{{version}}"
    of_model, of_version = (
        [_to("parameters", "model")],
        [_to("parameters", "model"), _to("parameters", "version")],
    )
    paths: dict[str, Any] = {
        "/": _get("page", "A page to try the model by hand", {"text/html": {"schema": {"type": "string"}}}),
        "/predict": {"post": _predict(manifest)},
        "/metrics": _get("metrics", "Prometheus metrics", {"text/plain": {"schema": {"type": "string"}}}),
        "/served": _served(),
        "/openapi.json": _get("openapi", "This document", _json({"type": "object"})),
        "/v2": _get("server", "What the server is", _json(_to("schemas", "Server"))),
        "/v2/health/live": _get("live", "Whether the server lives", _json(_to("schemas", "Live"))),
        "/v2/health/ready": _ready("ready", "Whether the server takes requests", []),
        f"{model}/feedback": {"post": _feedback(manifest), "parameters": of_model},
    }
    for suffix, path, parameters in (("", model, of_model), ("_version", version, of_version)):
        metadata = _get(f"model{suffix}", "What goes in, what comes out", _json(_to("schemas", "Model")))
        paths[path] = {**metadata, "parameters": parameters}
        paths[f"{path}/ready"] = _ready(
            f"model_ready{suffix}", "Whether the model takes requests", parameters
        )
        paths[f"{path}/infer"] = {"post": _infer(manifest, f"infer{suffix}"), "parameters": parameters}
    return paths


def _get(name: str, summary: str, content: Schema) -> dict[str, Any]:
    return {"get": _operation(name, summary, content, _READ_ERRORS)}


def _ready(name: str, summary: str, parameters: list[Schema]) -> dict[str, Any]:
    path = _get(name, summary, _json(_to("schemas", "Ready")))
    path["get"]["responses"]["503"] = _response("Not now.", _json(_to("schemas", "Ready")))
    return {**path, "parameters": parameters}


def _served() -> dict[str, Any]:
    summary = "The newest predictions by request id, to compare two servers' answers to the same request"
    path = {"get": _operation("served", summary, _json(_to("schemas", "Served")), (400, *_READ_ERRORS))}
    path["get"]["parameters"].append(_to("parameters", "after"))
    return path


def _predict(manifest: Manifest) -> dict[str, Any]:
    example = manifest.example.inputs
    body = {
        "schema": {
            "anyOf": [
                _to("schemas", "Record"),
                {"type": "array", "items": _to("schemas", "Record"), "minItems": 1, "maxItems": MAX_ROWS},
            ]
        },
        "examples": {"one record": {"value": example}, "a list": {"value": [example]}},
    }
    answers = {"anyOf": [_to("schemas", "Predicted"), _to("schemas", "PredictedList")]}
    return {
        **_operation("predict", "Ask with plain records", _json(answers), tuple(_ERRORS)),
        "requestBody": {"required": True, "content": {"application/json": body}},
    }


def _infer(manifest: Manifest, name: str) -> dict[str, Any]:
    tensors = [
        {
            "name": each.name,
            "shape": [1],
            "datatype": each.datatype,
            "data": [manifest.example.inputs.get(each.name)],
        }
        for each in manifest.inputs
    ]
    body = {
        "schema": _to("schemas", "InferRequest"),
        "examples": {"the release's example": {"value": {"id": "example-1", "inputs": tensors}}},
    }
    content = {
        "application/json": {"schema": _to("schemas", "InferAnswer")},
        "application/octet-stream": {
            "schema": {"description": f"{JSON_LENGTH} bytes of JSON, then the binary tensors."}
        },
    }
    operation = _operation(name, "Ask with tensors", content, tuple(_ERRORS))
    operation["parameters"].append(_to("parameters", "json_length"))
    operation["responses"]["200"]["headers"][JSON_LENGTH] = _to("headers", "json_length")
    packed = {"schema": {"description": "JSON, then binary tensors in the order of `inputs`."}}
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": body, "application/octet-stream": packed},
    }
    return operation


def _feedback(manifest: Manifest) -> dict[str, Any]:
    example = {"id": "example-1", "label": _true_label(manifest)}
    body = {
        "schema": {
            "anyOf": [
                _to("schemas", "Label"),
                {"type": "array", "items": _to("schemas", "Label"), "maxItems": MAX_LABELS},
            ]
        },
        "examples": {"one label": {"value": example}, "a list": {"value": [example]}},
    }
    summary = "Tell what turned out to be true of a request"
    return {
        **_operation("feedback", summary, _json(_to("schemas", "Joined")), tuple(_ERRORS)),
        "requestBody": {"required": True, "content": {"application/json": body}},
    }


def _operation(name: str, summary: str, content: Schema, errors: tuple[int, ...]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_to("parameters", each) for each in ("request_id", "traceparent")],
        "responses": {
            "200": _response("The answer.", content),
            **{str(status): _to("responses", str(status)) for status in errors},
        },
    }


# --- what stands in them ---------------------------------------------------------------


def _schemas(manifest: Manifest) -> dict[str, Schema]:
    text, number_of = {"type": "string"}, {"type": "integer", "minimum": 0}
    identity = {"model": {"const": manifest.model}, "version": {"const": manifest.version}, "id": text}
    label = _label(manifest)
    return {
        "Error": _object({"error": text}),
        "Server": _object({"name": text, "version": text, "extensions": {"type": "array", "items": text}}),
        "Live": _object({"live": {"const": True}}),
        "Ready": _object({"ready": {"type": "boolean"}}, {"name": {"const": manifest.model}, "error": text}),
        "Served": _object(
            {
                "epoch": text,
                "next": number_of,
                "served": {"type": "array", "items": _object({"id": text, "scores": {"type": "array"}})},
            }
        ),
        "Model": _object(
            {
                "name": {"const": manifest.model},
                "versions": {"const": [manifest.version]},
                "platform": text,
                "inputs": {"type": "array", "items": _to("schemas", "TensorMetadata")},
                "outputs": {"type": "array", "items": _to("schemas", "TensorMetadata")},
                "parameters": {"type": "object"},
            }
        ),
        "TensorMetadata": _object(
            {
                "name": text,
                "datatype": {"enum": list(_TYPES)},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
            },
            {"parameters": {"type": "object"}},
        ),
        "Record": _record(manifest),
        "Prediction": _prediction(manifest),
        "Predicted": _object({**identity, "prediction": _to("schemas", "Prediction")}),
        "PredictedList": _object(
            {
                **identity,
                "predictions": {"type": "array", "items": _to("schemas", "Prediction"), "minItems": 1},
            }
        ),
        "Data": _data(),
        "OneRow": _one_row(manifest),
        "Rows": {
            "type": "array",
            "items": _to("schemas", "InferInput"),
            "minItems": 1,
            "maxItems": len(manifest.inputs),
        },
        "InferInput": _infer_input(manifest),
        "InferRequest": _infer_request(manifest),
        "InferOutput": _object(
            {
                "name": {"enum": [each.name for each in manifest.outputs]},
                "datatype": {"enum": list(_TYPES)},
                "shape": {"type": "array", "items": number_of, "minItems": 1, "maxItems": 2},
            },
            {
                "data": {"type": "array", "items": {"type": ["number", "string", "boolean", "null"]}},
                "parameters": {"type": "object", "properties": {"binary_data_size": number_of}},
            },
        ),
        "InferAnswer": _object(
            {
                "model_name": {"const": manifest.model},
                "model_version": {"const": manifest.version},
                "id": text,
                "outputs": {"type": "array", "items": _to("schemas", "InferOutput")},
            }
        ),
        "Label": {
            **_object(
                {
                    "id": {**_ID, "minLength": 1, "description": "The id of the request's answer."},
                    "label": {
                        "anyOf": [
                            label,
                            {"type": "array", "items": label, "minItems": 1, "maxItems": MAX_LABELS},
                        ],
                        "description": "What was true: one value, or one for each row of the request.",
                    },
                }
            ),
            "additionalProperties": True,
        },
        "Joined": _object(
            dict.fromkeys(("joined", "unknown", "duplicate", "late"), number_of),
        ),
    }


def _record(manifest: Manifest) -> Schema:
    required = {each.name: _value(each) for each in manifest.inputs if not each.nullable}
    optional = {each.name: _value(each) for each in manifest.inputs if each.nullable}
    return {**_object(required, optional), "examples": [manifest.example.inputs]}


def _value(tensor: Tensor) -> Schema:
    schema = _TYPES[tensor.datatype]
    return {**schema, "type": [schema["type"], "null"]} if tensor.nullable else schema


def _label(manifest: Manifest) -> Schema:
    return _TYPES["FP64"] if manifest.task is Task.REGRESSION else {"enum": list(manifest.classes)}


def _true_label(manifest: Manifest) -> Any:
    return 1.0 if manifest.task is Task.REGRESSION else manifest.classes[0]


def _prediction(manifest: Manifest) -> Schema:
    # null is what JSON has for a NaN, which a regression can come to.
    share: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    outputs: dict[str, Schema] = {
        "prediction": {"type": ["number", "null"]},
        "label": _label(manifest),
        "probability": {**share, "description": _whose(manifest)},
        "probabilities": _object({class_name(each): share for each in manifest.classes}),
    }
    return _object({each.name: outputs[each.name] for each in manifest.outputs})


def _whose(manifest: Manifest) -> str:
    if manifest.task is Task.BINARY:
        return f"Of the class {class_name(manifest.classes[-1])}."
    return "Of the label."


def _infer_request(manifest: Manifest) -> Schema:
    wanted = ", ".join(f"`{each.name}` {each.datatype}" for each in manifest.inputs)
    asked = _object(
        {"name": {"enum": [each.name for each in manifest.outputs]}},
        {"parameters": _named("binary_data")},
    )
    return {
        **_object(
            {
                "inputs": {
                    "anyOf": [_to("schemas", "OneRow"), _to("schemas", "Rows")],
                    "description": f"One tensor for each input, in any order, all of as many rows: {wanted}.",
                }
            },
            {
                "id": {**_ID, "description": "Given back with the answer; empty is none."},
                "outputs": {"type": "array", "items": asked, "description": "None or empty: all of them."},
                "parameters": _named("binary_data_output"),
            },
        ),
        "additionalProperties": True,
    }


def _one_row(manifest: Manifest) -> Schema:
    """The most usual request: of it, unlike of many rows, a schema can say everything."""
    tensors = [
        _object(
            {
                "name": {"const": each.name},
                "shape": {"const": [1]},
                "datatype": {"const": each.datatype},
                "data": {"type": "array", "items": _value(each), "minItems": 1, "maxItems": 1},
            }
        )
        for each in manifest.inputs
    ]
    return {"type": "array", "prefixItems": tensors, "minItems": len(tensors), "maxItems": len(tensors)}


def _infer_input(manifest: Manifest) -> Schema:
    names: Schema = {"enum": [each.name for each in manifest.inputs]}
    if all(each.datatype in ("FP64", "INT64") for each in manifest.inputs):
        names = {
            "type": "string",
            "description": "An input, or any name for one row-major tensor [rows, inputs] of all.",
        }
    return {
        **_object(
            {
                "name": names,
                "shape": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
                    "minItems": 1,
                    "maxItems": 2,
                },
                "datatype": {"enum": _DATATYPES},
            },
            {
                "data": _to("schemas", "Data"),
                "parameters": _named("binary_data_size", {"type": "integer", "minimum": 0}),
            },
        ),
        "additionalProperties": True,
    }


def _named(name: str, schema: Schema | None = None) -> Schema:
    """The protocol's `parameters`, of which this server knows one, true or false if nothing else is said."""
    return {
        "type": "object",
        "properties": {name: schema or {"type": "boolean"}},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "description": "Unknown ones are passed over.",
    }


def _data() -> Schema:
    values: Schema = {"type": ["number", "string", "boolean", "null"]}
    return {
        "type": "array",
        "items": {"anyOf": [values, {"type": "array", "items": values}]},
        "description": "Row-major, flat or nested as the shape says. Left out for a binary tensor.",
    }


# --- headers, parameters, errors -------------------------------------------------------


def _parameters(manifest: Manifest) -> dict[str, Any]:
    def parameter(name: str, where: str, schema: Schema, words: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": where,
            "required": where == "path",
            "schema": schema,
            "description": words,
        }

    return {
        "model": parameter("model", "path", {"enum": [manifest.model]}, "The one model of this server."),
        "version": parameter("version", "path", {"enum": [manifest.version]}, "Its version."),
        # Both without a pattern: what a proxy wrote into them is no reason to refuse a request.
        "request_id": parameter(
            "x-request-id",
            "header",
            {"type": "string"},
            "Given back with the answer, and what `feedback` goes by: 1 to 128 visible ASCII characters. "
            "Another one is passed over, and the answer has a new one.",
        ),
        "traceparent": parameter(
            "traceparent",
            "header",
            {"type": "string"},
            "W3C trace context, passed through where it is one.",
        ),
        "after": parameter(
            "after",
            "query",
            {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
            "`next` of the answer before, to get what came since; it begins anew with another `epoch`.",
        ),
        "json_length": parameter(
            JSON_LENGTH,
            "header",
            {"type": "integer", "minimum": 0},
            "Where binary tensors follow the JSON: its length in bytes.",
        ),
    }


def _headers(manifest: Manifest) -> dict[str, Any]:
    return {
        "model": {"schema": {"const": manifest.model}, "required": True},
        "version": {"schema": {"const": manifest.version}, "required": True},
        "slot": {"schema": {"enum": [each.value for each in Slot]}, "required": True},
        "request_id": {"schema": {"type": "string"}, "required": True},
        "json_length": {"schema": {"type": "integer", "minimum": 0}},
        "retry_after": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds."},
        "allow": {"schema": {"type": "string"}},
    }


def _response(words: str, content: Schema) -> dict[str, Any]:
    headers = {
        "x-coalmine-model": _to("headers", "model"),
        "x-coalmine-version": _to("headers", "version"),
        "x-coalmine-slot": _to("headers", "slot"),
        "x-request-id": _to("headers", "request_id"),
    }
    return {"description": words, "headers": headers, "content": content}


def _error(status: int, words: str) -> dict[str, Any]:
    response = _response(words, _json(_to("schemas", "Error")))
    extra = {405: ("allow", "allow"), 503: ("retry-after", "retry_after")}
    if status in extra:
        header, component = extra[status]
        response["headers"][header] = _to("headers", component)
    return response


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object of these keys and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _to(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}
