"""Run by an environment that has kserve: asks the servers, prints what its client made of the answers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import InferResponse, RequestedOutput

DTYPES = {"BOOL": np.bool_, "INT64": np.int64, "FP64": np.float64, "BYTES": np.object_}


def in_json(tensors: list[dict[str, Any]]) -> list[InferInput]:
    return [InferInput(each["name"], each["shape"], each["datatype"], each["data"]) for each in tensors]


def in_binary(tensors: list[dict[str, Any]]) -> list[InferInput]:
    """None among numbers becomes NaN, as numpy says it; what has no binary form stays JSON."""
    inputs = []
    for each in tensors:
        tensor = InferInput(each["name"], each["shape"], each["datatype"], each["data"])
        if each["datatype"] != "BYTES" or None not in each["data"]:
            tensor.set_data_from_numpy(np.array(each["data"], DTYPES[each["datatype"]]))
        inputs.append(tensor)
    return inputs


def matrix(rows: list[list[float]], binary: bool) -> list[InferInput]:
    values = np.array(rows)
    tensor = InferInput("whatever", list(values.shape), "FP64")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return [tensor]


def told(answer: InferResponse) -> dict[str, Any]:
    return {each.name: each.as_numpy().tolist() for each in answer.outputs}


async def ask(given: dict[str, Any]) -> dict[str, Any]:
    flights, numbers = given["flights"], given["numbers"]
    client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def infer(inputs: list[InferInput], url: str = flights, **more: Any) -> InferResponse:
        model = "delays" if url == flights else "measured"
        return await client.infer(url, InferRequest(model, inputs, **more), model_name=model)

    async def refused(model: str, inputs: list[InferInput]) -> str:
        try:
            await client.infer(flights, InferRequest(model, inputs), model_name=model)
        except httpx.HTTPStatusError as error:
            return str(error)
        return "not refused"

    complete, gaps = given["complete"], given["gaps"]
    everything_binary = {"binary_data_output": True}
    label = [RequestedOutput("label", {"binary_data": True})]
    chosen = await infer(in_json(complete), request_id="mine", request_outputs=label)
    wrong = [{**complete[0], "shape": [9, 9]}, *complete[1:]]
    return {
        "live": await client.is_server_live(flights),
        "ready": await client.is_server_ready(flights),
        "model ready": await client.is_model_ready(flights, "delays"),
        "other model ready": await client.is_model_ready(flights, "other"),
        "columns, JSON": told(await infer(in_json(complete))),
        "columns, binary": told(await infer(in_binary(complete))),
        "columns, binary answer": told(await infer(in_binary(complete), parameters=everything_binary)),
        "gaps, JSON": told(await infer(in_json(gaps))),
        "gaps, binary": told(await infer(in_binary(gaps))),
        "matrix, JSON": told(await infer(matrix(given["matrix"], False), numbers)),
        "matrix, binary": told(await infer(matrix(given["matrix"], True), numbers)),
        "matrix, binary answer": told(
            await infer(matrix(given["matrix"], True), numbers, parameters=everything_binary)
        ),
        "chosen": [chosen.id, told(chosen)],
        "refused": {
            "unknown model": await refused("other", in_json(complete)),
            "wrong shape": await refused("delays", in_json(wrong)),
        },
    }


print(json.dumps(asyncio.run(ask(json.load(sys.stdin)))))
