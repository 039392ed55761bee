"""Run by an environment that has tritonclient: asks the servers by its three ways (in turn, in the
background, with asyncio), prints what it made of the answers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http.aio as later
from tritonclient import http as now
from tritonclient.utils import InferenceServerException

DTYPES = {"BOOL": np.bool_, "INT64": np.int64, "FP64": np.float64, "BYTES": np.object_}


def columns(tensors: list[dict[str, Any]], binary: bool) -> list[now.InferInput]:
    inputs = []
    for each in tensors:
        tensor = now.InferInput(each["name"], each["shape"], each["datatype"])
        tensor.set_data_from_numpy(np.array(each["data"], DTYPES[each["datatype"]]), binary_data=binary)
        inputs.append(tensor)
    return inputs


def matrix(rows: list[list[float]], binary: bool) -> list[now.InferInput]:
    values = np.array(rows)
    tensor = now.InferInput("whatever", values.shape, "FP64")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return [tensor]


def chosen(*names: str, binary: bool) -> list[now.InferRequestedOutput]:
    return [now.InferRequestedOutput(name, binary_data=binary) for name in names]


def told(answer: Any) -> dict[str, Any]:
    values = {each["name"]: answer.as_numpy(each["name"]) for each in answer.get_response()["outputs"]}
    return {name: plain(array) for name, array in values.items()}


def plain(array: Any) -> Any:
    texts = array.dtype == np.object_ and array.size and isinstance(array.flat[0], bytes)
    return np.char.decode(array.astype(np.bytes_)).tolist() if texts else array.tolist()


OPTIONS = {
    "request_id": "mine",
    "model_version": "1.2.0",
    "priority": 3,
    "timeout": 5_000_000,
    "parameters": {"mine": "too"},
    "headers": {"x-request-id": "another"},
    "query_params": {"a": "b c"},
}


def refusals(given: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    complete = given["complete"]
    wrong = columns(complete, True)
    wrong[0].set_shape([9, 9])
    label = [now.InferRequestedOutput("label", class_count=2)]
    return {
        "unknown model": ("other", {"inputs": columns(complete, True)}),
        "unknown version": ("delays", {"inputs": columns(complete, True), "model_version": "7"}),
        "wrong shape": ("delays", {"inputs": wrong}),
        "class count": ("delays", {"inputs": columns(complete, True), "outputs": label}),
    }


def ask_now(given: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    flights = now.InferenceServerClient(given["flights"].removeprefix("http://"), concurrency=4)
    numbers = now.InferenceServerClient(given["numbers"].removeprefix("http://"))

    def infer(inputs: list[now.InferInput], **more: Any) -> dict[str, Any]:
        return told(flights.infer("delays", inputs, **more))

    complete = given["complete"]
    said["live"], said["ready"] = flights.is_server_live(), flights.is_server_ready()
    said["model ready"] = [
        flights.is_model_ready("delays"),
        flights.is_model_ready("delays", "1.2.0"),
        flights.is_model_ready("delays", "7"),
        flights.is_model_ready("other"),
    ]
    said["extensions"] = flights.get_server_metadata()["extensions"]
    metadata = flights.get_model_metadata("delays", "1.2.0")
    said["metadata"] = [metadata["versions"], [each["name"] for each in metadata["inputs"]]]
    labels = chosen("label", binary=False)
    said["columns, JSON"] = infer(columns(complete, False), outputs=chosen(*given["outputs"], binary=False))
    said["columns, JSON, binary answer"] = infer(columns(complete, False))
    said["columns, binary"] = infer(columns(complete, True))
    said["columns, binary, JSON answer"] = infer(columns(complete, True), outputs=labels)
    said["no number, binary"] = infer(columns(given["no number"], True))
    for packing in ("gzip", "deflate"):
        said[f"columns, {packing}"] = infer(
            columns(complete, True),
            request_compression_algorithm=packing,
            response_compression_algorithm=packing,
        )
    for name, binary in (("matrix, JSON", False), ("matrix, binary", True)):
        inputs = matrix(given["matrix"], binary)
        outputs = chosen("label", "probabilities", binary=binary)
        said[name] = told(numbers.infer("measured", inputs, outputs=outputs))
    background = [flights.async_infer("delays", columns(complete, True)) for _ in range(8)]
    said["background"] = [told(each.get_result()) for each in background]
    all_options = flights.infer("delays", columns(complete, True), sequence_id=5, **OPTIONS)
    said["all options"] = [all_options.get_response()["id"], told(all_options)]
    said["refused"] = {}
    for name, (model, asked) in refusals(given).items():
        try:
            flights.infer(model, **asked)
        except InferenceServerException as error:
            said["refused"][name] = [error.status(), error.message()]
    flights.close()
    numbers.close()
    return said


async def ask_later(given: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    async with later.InferenceServerClient(given["flights"].removeprefix("http://")) as client:

        async def infer(inputs: list[now.InferInput], **more: Any) -> dict[str, Any]:
            return told(await client.infer("delays", inputs, **more))

        complete = given["complete"]
        said["ready"] = [await client.is_server_ready(), await client.is_model_ready("delays", "1.2.0")]
        said["columns, JSON"] = await infer(
            columns(complete, False), outputs=chosen(*given["outputs"], binary=False)
        )
        said["columns, binary"] = await infer(columns(complete, True))
        said["columns, gzip"] = await infer(
            columns(complete, True),
            request_compression_algorithm="gzip",
            response_compression_algorithm="gzip",
        )
        said["at once"] = await asyncio.gather(*(infer(columns(complete, True)) for _ in range(8)))
        said["refused"] = {}
        for name, (model, asked) in refusals(given).items():
            try:
                await client.infer(model, **asked)
            except InferenceServerException as error:
                said["refused"][name] = [error.status(), error.message()]
    return said


given = json.load(sys.stdin)
print(json.dumps({"now": ask_now(given), "later": asyncio.run(ask_later(given))}))
