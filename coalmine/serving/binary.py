"""The protocol's binary tensor data: values after the JSON, as their bytes in memory.

A request says in the header `inference-header-content-length` where its JSON ends; tensors with
`binary_data_size` among their parameters take what follows, in their order. Numbers are little
endian, a BYTES value is its length in four bytes and then itself. NaN stands for a missing number;
a text cannot be missing.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from coalmine.serving.refusal import FailureKind, Refusal, shown
from coalmine.serving.tensors import MAX_ROWS

HEADER = "inference-header-content-length"
_DIGITS = 12  # of that length; a body has far fewer

_DTYPES = {
    "BOOL": np.dtype("?"),
    **{
        f"{sign}INT{bits}": np.dtype(f"<{sign.lower() or 'i'}{bits // 8}")
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


def split(body: bytes, header_length: str) -> tuple[memoryview, memoryview]:
    """The JSON and the binary data of a request's body.

    Raises:
        Refusal: no such length.
    """
    whole = memoryview(body)
    # Python refuses to read thousands of digits, so that no more of them are looked at than may be right.
    is_number = header_length.isascii() and header_length.isdigit() and len(header_length) <= _DIGITS
    if not is_number or int(header_length) > len(body):
        raise Refusal(
            FailureKind.MALFORMED,
            f"{HEADER} is {shown(header_length)}: it must be the bytes of JSON at the start of the body, "
            f"{len(body)} at most",
        )
    return whole[: int(header_length)], whole[int(header_length) :]


def with_data(tensors: Any, data: memoryview, inputs: int) -> Any:
    """`tensors` with their binary values in place, as JSON would have brought them.

    inputs: how many the model has. A tensor of a shape that none of them has stays without values, and
    one more than there are ends the list: whoever reads them refuses both.

    Raises:
        Refusal: sizes, types or texts that do not fit together.
    """
    if not isinstance(tensors, list):
        return tensors  # whoever reads them says what they should be
    filled, used = [], 0
    for tensor in tensors[: inputs + 1]:
        size = _size(tensor)
        if size is None:
            filled.append(tensor)
            continue
        chunk = data[used : used + size]
        if len(chunk) < size:
            raise _wrong(tensor, f"wants {size} bytes of binary data, but only {len(chunk)} are left")
        used += size
        count = _count(tensor.get("shape"), inputs)
        filled.append(tensor if count is None else {**tensor, "data": _values(tensor, chunk, count)})
    if used < len(data) and len(tensors) <= inputs:
        raise Refusal(
            FailureKind.MALFORMED,
            f"{len(data) - used} bytes of binary data belong to no input: give `binary_data_size` in the "
            "parameters of the tensor that they are of",
        )
    return filled


def packed(datatype: str, values: Any) -> bytes:
    """`values`, a flat list, as an answer's binary data."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values, dtype=_DTYPES[datatype]).tobytes()


def _size(tensor: Any) -> int | None:
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
        return None
    size = parameters["binary_data_size"]
    if type(size) is not int or size < 0:
        raise _wrong(tensor, f"has `binary_data_size` {shown(size)}: it must be a number of bytes")
    if "data" in tensor:
        raise _wrong(tensor, "has `data` and binary data as well: send its values once")
    return size


def _count(shape: Any, inputs: int) -> int | None:
    """The values of a column, or of all columns at once; None for every other shape."""
    match shape:
        case [int(rows)] | [int(rows), 1] if rows <= MAX_ROWS:
            return rows
        case [int(rows), int(columns)] if rows <= MAX_ROWS and columns == inputs:
            return rows * inputs
    return None


def _values(tensor: dict[str, Any], chunk: memoryview, count: int) -> list[Any]:
    datatype = tensor.get("datatype")
    if datatype == "BYTES":
        return _texts(tensor, chunk, count)
    dtype = _DTYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        known = ", ".join([*_DTYPES, "BYTES"])
        raise _wrong(tensor, f"has the datatype {shown(datatype)}: binary data may be {known}")
    if len(chunk) != count * dtype.itemsize:
        raise _wrong(
            tensor,
            f"has {len(chunk)} bytes, but its shape says {count} {datatype} of {dtype.itemsize} bytes each",
        )
    if datatype == "BOOL" and max(chunk, default=0) > 1:
        raise _wrong(tensor, "has a BOOL that is neither 0 nor 1")
    array = np.frombuffer(chunk, dtype=dtype)
    values: list[Any] = array.tolist()
    if dtype.kind == "f" and np.isnan(array).any():
        return [None if value != value else value for value in values]
    return values


def _texts(tensor: dict[str, Any], chunk: memoryview, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(chunk):
        if len(texts) == count:
            raise _wrong(tensor, f"has more BYTES than the {count} that its shape says")
        end = at + 4
        if end > len(chunk) or end + (length := int.from_bytes(chunk[at:end], "little")) > len(chunk):
            raise _wrong(
                tensor, "has BYTES that end within a value: each is its length in 4 bytes, then itself"
            )
        try:
            texts.append(str(chunk[end : end + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise _wrong(tensor, f"has a text in row {len(texts)} that is not UTF-8") from error
        at = end + length
    return texts


def _wrong(tensor: Any, what: str) -> Refusal:
    name = tensor.get("name") if isinstance(tensor, dict) else None
    return Refusal(FailureKind.MALFORMED, f"input {shown(name)} {what}")
