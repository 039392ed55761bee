from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from coalmine.serving.openapi import document
from tests.serving.in_process import Client
from tests.serving.releases import Built

OPERATIONS = {
    ("get", "/"),
    ("get", "/metrics"),
    ("get", "/served"),
    ("get", "/openapi.json"),
    ("get", "/v2"),
    ("get", "/v2/health/live"),
    ("get", "/v2/health/ready"),
    ("get", "/v2/models/{model}"),
    ("get", "/v2/models/{model}/ready"),
    ("get", "/v2/models/{model}/versions/{version}"),
    ("get", "/v2/models/{model}/versions/{version}/ready"),
    ("post", "/predict"),
    ("post", "/v2/models/{model}/feedback"),
    ("post", "/v2/models/{model}/infer"),
    ("post", "/v2/models/{model}/versions/{version}/infer"),
}


@pytest.fixture(params=["binary", "multiclass", "regression"])
def built(request: pytest.FixtureRequest) -> Built:
    release: Built = request.getfixturevalue(request.param)
    return release


def resolved(told: Any, root: dict[str, Any]) -> Any:
    """`told` with what its references point to in their place."""
    if isinstance(told, list):
        return [resolved(each, root) for each in told]
    if not isinstance(told, dict):
        return told
    if "$ref" in told:
        assert set(told) == {"$ref"}, "what stands beside a reference is read by few"
        target: Any = root
        for part in told["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(target, root)
    return {name: resolved(each, root) for name, each in told.items()}


def operations(built: Built) -> dict[tuple[str, str], dict[str, Any]]:
    whole = document(built.manifest)
    return {
        (method, path): operation
        for path, at in resolved(whole["paths"], whole).items()
        for method, operation in at.items()
        if method != "parameters"
    }


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def place(path: str, built: Built) -> str:
    return path.format(model=built.manifest.model, version=built.manifest.version)


def test_every_route_of_the_server_is_told(built: Built) -> None:
    assert set(operations(built)) == OPERATIONS


def test_the_same_manifest_gives_the_same_document(binary: Built) -> None:
    assert json.dumps(document(binary.manifest)) == json.dumps(document(binary.manifest))


def test_every_operation_has_its_own_name(binary: Built) -> None:
    names = [each["operationId"] for each in operations(binary).values()]
    assert len(set(names)) == len(names)


def test_every_error_is_told_with_words(binary: Built) -> None:
    for (method, path), operation in operations(binary).items():
        told = set(operation["responses"])
        wanted = {"200", "404", "405", "431", "500", "503"}
        if method == "post":
            wanted |= {"400", "413", "415", "422"}
        assert told == (wanted | {"400"} if path == "/served" else wanted), path
        for status, response in operation["responses"].items():
            if status != "200" and not path.endswith("/ready"):
                schema = response["content"]["application/json"]["schema"]
                assert is_valid({"error": "why"}, schema)
                assert not is_valid({}, schema)


def test_what_the_server_answers_is_what_the_document_says(built: Built) -> None:
    """Every operation, with each of its examples."""
    client = Client(built)
    for (method, path), operation in operations(built).items():
        bodies = [None]
        if method == "post":
            told = operation["requestBody"]["content"]["application/json"]
            bodies = [each["value"] for each in told["examples"].values()]
            assert all(is_valid(body, told["schema"]) for body in bodies)
        for body in bodies:
            response = client.request(method.upper(), place(path, built), json=body)
            assert response.status_code == 200, (path, response.text)
            told = operation["responses"]["200"]
            media_type = response.headers["content-type"].split(";")[0]
            schema = told["content"][media_type]["schema"]
            value = response.json() if media_type == "application/json" else response.text
            jsonschema.validate(value, schema, jsonschema.Draft202012Validator)
            for name, header in told["headers"].items():
                if header.get("required"):
                    assert is_valid(response.headers[name], header["schema"]), name


def test_a_refusal_is_what_the_document_says(binary: Built) -> None:
    client = Client(binary)
    asked = operations(binary)["post", "/predict"]["responses"]
    for content, headers, status in (
        (b"[1]", {}, 400),
        (b"{}", {"content-type": "text/csv"}, 415),
        (b" " * 9_000_000, {}, 413),
    ):
        response = client.request("POST", "/predict", content=content, headers=headers)
        assert response.status_code == status
        jsonschema.validate(response.json(), asked[str(status)]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        ({}, True),
        ({"carrier": None, "pressure": None}, True),
        ({"distance": None}, False),
        ({"distance": "far"}, False),
        ({"distance": 2**63}, False),
        ({"carrier": 7}, False),
        ({"weekend": 1}, False),
        ({"carier": "UA"}, False),
    ],
    ids=[
        "as it is",
        "missing",
        "null",
        "text",
        "beyond INT64",
        "number for text",
        "number for bool",
        "unknown",
    ],
)
def test_a_record_fits_the_schema_where_the_server_takes_it(
    record: dict[str, Any], fits: bool, binary: Built
) -> None:
    sent = {"distance": 500, "weekend": True, **record}
    whole = document(binary.manifest)
    assert is_valid(sent, resolved(whole["components"]["schemas"]["Record"], whole)) is fits
    assert (Client(binary).request("POST", "/predict", json=sent).status_code == 200) is fits


def test_a_tensor_for_each_input_stands_in_the_document_by_type(binary: Built) -> None:
    schema = operations(binary)["post", "/v2/models/{model}/infer"]["requestBody"]["content"]
    described = schema["application/json"]["schema"]["properties"]["inputs"]["description"]
    for each in binary.manifest.inputs:
        assert f"`{each.name}` {each.datatype}" in described


def test_path_parameters_are_the_releases_own(binary: Built) -> None:
    parameters = document(binary.manifest)["components"]["parameters"]
    assert parameters["model"]["schema"] == {"enum": ["delays"]}
    assert parameters["version"]["schema"] == {"enum": ["1.2.0"]}
