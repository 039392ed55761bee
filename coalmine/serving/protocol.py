"""The Open Inference Protocol v2: requests as values, answers as bytes, metadata.

https://github.com/kserve/open-inference-protocol. Tensors are read by `tensors`, binary ones by
`binary`, and HTTP is `app`'s. Unknown keys and parameters are passed over, as the protocol asks.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from coalmine.manifest import Manifest, Tensor
from coalmine.serving import binary
from coalmine.serving.http import Answer, is_request_id
from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.tensors import InputSchema, Rows

Outputs = Mapping[str, list[Any]]  # what one request is answered, by output

BINARY = "application/octet-stream"
_OUTPUTS, _DATA = b'"outputs":[', b'"data":'
_MOST_ASKED = 100  # outputs by one request, which may name one twice


@dataclass(slots=True)
class Asked:
    """An infer request. binary: the outputs that are to be answered as binary data."""

    rows: Rows
    outputs: Sequence[Tensor]  # in the order of the answer
    binary: frozenset[str] = frozenset()


class Protocol:
    """The protocol as one release speaks it."""

    def __init__(self, manifest: Manifest) -> None:
        self._schema = InputSchema(manifest.inputs)
        self._width = len(manifest.inputs)
        self._outputs = manifest.outputs
        self._by_class = {
            each.name: len(manifest.classes) for each in manifest.outputs if each.name == "probabilities"
        }
        # The JSON of an answer up to where it differs from one request to the next.
        known = {"model_name": manifest.model, "model_version": manifest.version}
        self._head = orjson.dumps(known)[:-1] + b',"id":'
        self._named = {
            each.name: orjson.dumps({"name": each.name, "datatype": each.datatype})[:-1] + b',"shape":'
            for each in manifest.outputs
        }
        self._names = [each.name for each in manifest.outputs]
        self._one_row = self._of_one_row()

    def read(self, message: Any, data: memoryview | None = None) -> Asked:
        """message: the parsed JSON of a request; data: the binary data that followed it.

        Raises:
            Refusal: what is wrong, where, and how to mend it.
        """
        if not isinstance(message, dict):
            raise _malformed('the body must be an object: {"inputs": [...]}')
        tensors = message.get("inputs")
        if data is None:
            rows = self._schema.rows(tensors)
        else:
            rows = self._schema.read(binary.with_data(tensors, data, self._width))
        if "outputs" not in message and "parameters" not in message:
            return Asked(rows, self._outputs)
        outputs, in_binary = self._asked(message.get("outputs"), _parameters(message, "the request"))
        return Asked(rows, outputs, in_binary)

    def answer(self, asked: Asked, request_id: str, outputs: Outputs) -> Answer:
        rows = asked.rows.count
        if rows == 1 and asked.outputs is self._outputs and not asked.binary:
            row = [orjson.dumps(outputs[name][0]) for name in self._names]
            return Answer(self._one_row % (orjson.dumps(request_id), *row))
        if asked.binary:
            return self._in_binary(asked, request_id, outputs)
        tensors = []
        for each in asked.outputs:
            values = outputs[each.name]
            if each.name in self._by_class:
                shape, values = f"[{rows},{self._by_class[each.name]}]", _flat(values)
            else:
                shape = f"[{rows}]"
            tensors.append(
                b"%b%b,%b%b}" % (self._named[each.name], shape.encode(), _DATA, orjson.dumps(values))
            )
        return Answer(b"%b%b,%b%b]}" % (self._head, orjson.dumps(request_id), _OUTPUTS, b",".join(tensors)))

    def _of_one_row(self) -> bytes:
        """The usual answer, all outputs of one row: all but its id and values is known beforehand."""
        tensors = []
        for each in self._outputs:
            classes = self._by_class.get(each.name)
            shape, data = ("[1]", b"[%b]") if classes is None else (f"[1,{classes}]", b"%b")
            known = b"%b%b,%b" % (self._named[each.name], shape.encode(), _DATA)
            tensors.append(known.replace(b"%", b"%%") + data + b"}")
        head = self._head.replace(b"%", b"%%")
        return b"%b%%b,%b%b]}" % (head, _OUTPUTS, b",".join(tensors))

    def _in_binary(self, asked: Asked, request_id: str, outputs: Outputs) -> Answer:
        rows, tensors, chunks = asked.rows.count, [], []
        for each in asked.outputs:
            values = outputs[each.name]
            classes = self._by_class.get(each.name)
            values = values if classes is None else _flat(values)
            tensor: dict[str, Any] = {"name": each.name, "datatype": each.datatype}
            tensor["shape"] = [rows] if classes is None else [rows, classes]
            if each.name in asked.binary:
                chunks.append(binary.packed(each.datatype, values))
                tensor["parameters"] = {"binary_data_size": len(chunks[-1])}
            else:
                tensor["data"] = values
            tensors.append(tensor)
        head = b"%b%b,%b" % (self._head, orjson.dumps(request_id), _OUTPUTS)
        head += orjson.dumps(tensors)[1:] + b"}"
        return Answer(
            b"".join([head, *chunks]), media_type=BINARY, headers=((binary.HEADER, str(len(head))),)
        )

    def _asked(self, asked: Any, parameters: Mapping[str, Any]) -> tuple[tuple[Tensor, ...], frozenset[str]]:
        """The outputs that a request names, or all of them; and which of them in binary."""
        by_default = _flag(parameters, "binary_data_output", False, "the request")
        known = {each.name: each for each in self._outputs}
        if asked is None or asked == []:
            return tuple(self._outputs), frozenset(known if by_default else ())
        if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked[:_MOST_ASKED]):
            raise _malformed('`outputs` must be a list of {"name": ...}')
        if len(asked) > _MOST_ASKED:
            raise _malformed(f"`outputs` asks for {len(asked)}: this model has {', '.join(known)}")
        in_binary = {}
        for each in asked:
            name = each.get("name")
            if not isinstance(name, str) or name not in known:
                raise Refusal(
                    FailureKind.SCHEMA,
                    f"output {shown(name)} is not one of this model's: it has {', '.join(known)}",
                )
            own = _parameters(each, f"output `{name}`")
            if "classification" in own:
                raise _malformed(
                    f"output `{name}`: this server has no classification extension. Ask for `label`, "
                    "and for `probability` or `probabilities`"
                )
            in_binary[name] = _flag(own, "binary_data", by_default, f"output `{name}`")
        return tuple(known[name] for name in in_binary), frozenset(
            name for name, is_binary in in_binary.items() if is_binary
        )


def body_id(message: Any) -> str | None:
    """The id that a body brings; an empty one is none.

    Raises:
        Refusal: an id that could not stand in a header.
    """
    identity = message.get("id") if isinstance(message, dict) else None
    if identity is None or identity == "":
        return None
    if not is_request_id(identity):
        raise _malformed("`id` must be a text of 1 to 128 visible ASCII characters")
    return str(identity)


def server_metadata() -> dict[str, Any]:
    return {
        "name": "coalmine",
        "version": importlib.metadata.version("coalmine"),
        "extensions": ["binary_tensor_data"],
    }


def model_metadata(manifest: Manifest) -> dict[str, Any]:
    """`probabilities` come by class, in the order of `classes`; `nullable` inputs take null."""
    inputs = [
        {
            "name": each.name,
            "datatype": each.datatype,
            "shape": [-1],
            "parameters": {"nullable": each.nullable},
        }
        for each in manifest.inputs
    ]
    outputs = [
        {
            "name": each.name,
            "datatype": each.datatype,
            "shape": [-1, len(manifest.classes)] if each.name == "probabilities" else [-1],
        }
        for each in manifest.outputs
    ]
    return {
        "name": manifest.model,
        "versions": [manifest.version],
        "platform": "sklearn_skops" if manifest.predictor.kind == "scikit-learn" else "sklearn_compiled",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"task": manifest.task.value, "classes": list(manifest.classes)},
    }


def _flat(rows: list[list[Any]]) -> list[Any]:
    """Row-major."""
    return [value for row in rows for value in row]


def _parameters(holder: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _malformed(f"`parameters` of {where} must be an object, not {shown(parameters)}")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _malformed(f"parameter `{name}` of {where} is {shown(value)}: it must be true or false")
    return value


def _malformed(message: str) -> Refusal:
    return Refusal(FailureKind.MALFORMED, message)
