"""Whether the API server would take an object, as far as that can be told without one."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes.client import models
from pydantic import ValidationError

Json = dict[str, Any]

SCHEMAS = Path(__file__).parent / "schemas"
_BUILT_IN = {
    "v1": "V1",
    "apps/v1": "V1",
    "batch/v1": "V1",
    "policy/v1": "V1",
    "networking.k8s.io/v1": "V1",
    "rbac.authorization.k8s.io/v1": "V1",
    "autoscaling/v2": "V2",
}


def faults(thing: Json) -> list[str]:
    """What is wrong with it, one sentence each; a field that its kind does not have is wrong too."""
    name = f"{thing['kind']} {thing['metadata']['name']}"
    prefix = _BUILT_IN.get(thing["apiVersion"])
    found = _of_a_custom_kind(thing) if prefix is None else _of_a_built_in_kind(thing, prefix)
    return [f"{name}: {fault}" for fault in [*found, *_said_twice(thing, "")]]


def _of_a_built_in_kind(thing: Json, prefix: str) -> list[str]:
    try:
        getattr(models, f"{prefix}{thing['kind']}").model_validate(thing)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return []


def _of_a_custom_kind(thing: Json) -> list[str]:
    validator = _validator(thing["apiVersion"], thing["kind"])
    body = {key: value for key, value in thing.items() if key not in ("apiVersion", "kind", "metadata")}
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(body)]


@cache
def _validator(api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    file = SCHEMAS / f"{api_version.replace('/', '_')}_{kind}.json"
    return jsonschema.Draft202012Validator(_strict(json.loads(file.read_text(encoding="utf-8"))))


def _strict(schema: Any) -> Any:
    """A structural schema of Kubernetes as JSON Schema has it, that refuses what it does not name."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: value if key in ("required", "enum") else _strict(value) for key, value in schema.items()}
    if "properties" in schema:
        strict["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
        if "type" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
            strict["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    return strict


def _said_twice(content: Any, path: str) -> list[str]:
    """Lists whose items have names are merged by them, and refused where one stands twice."""
    if isinstance(content, dict):
        return [fault for key, each in content.items() for fault in _said_twice(each, f"{path}.{key}")]
    if not isinstance(content, list):
        return []
    names = [each.get("name") for each in content if isinstance(each, dict)]
    twice = {name for name in names if name is not None and names.count(name) > 1}
    inside = [fault for each in content for fault in _said_twice(each, path)]
    return [*(f"{path} has {name} twice" for name in sorted(twice)), *inside]
