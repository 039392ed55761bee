"""Raw bytes, slow bytes and lies at the server's socket: it lives, keeps its memory, fails nobody.

COALMINE_FUZZ_S asks for more seconds of it, COALMINE_FUZZ_SEED for other bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import re
import signal
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import releases
from tests.serving.releases import Built, expected
from tests.serving.server_process import Server, running

FUZZ_S = float(os.environ.get("COALMINE_FUZZ_S", "5"))
SEED = int(os.environ.get("COALMINE_FUZZ_SEED", "1"))
MAX_GROWTH_BYTES = 96 * 2**20  # bodies of 8 MiB, and what the allocators keep of them
OPEN_AT_ONCE = 60
HONEST_EVERY = 20

INFER = "/v2/models/delays/infer"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_HELLO = bytes.fromhex("160301020001 0001fc0303") + bytes(range(200))

LENGTHS = [0, -1, 2**31, 2**63, 2**64, "", "+5", "0x10", "1 2", "5, 5", "9" * 400]
PATHS = [INFER, "/predict", "/%00", "/%ff", "//", "*", "http://b/v2", "/\xff", "/v2/" + "../" * 40]
HEADERS = [
    *("inference-header-content-length", "content-type", "content-encoding", "accept-encoding", "te"),
    *("x-request-id", "traceparent", "tracestate", "expect", "connection", "upgrade", "host"),
]
VALUES = ["", "\xff\xfe", "9" * 5000, "-1", "é", "\t", "a" * 9000, "0", "gzip", "br", "1e3"]
PIECES = [b"\r\n", b"\n", b"\x00", b"\xff" * 8, b"{", b'"', b",", b"9" * 25]
DEEP = orjson.loads(b"[" * 100 + b"]" * 100)
ODD = [
    *(None, True, -1, 2**63, -(2**63), 1e308, 5e-324, 10_001, "", "é" * 500, [], {}, [[]], DEEP),
    *([None] * 3, ["\x00"], [1] * 10_001, [2**64 - 1] * 3),
    *({"binary_data_size": 8}, {"binary_data_output": 1}),
]
BOMB = gzip.compress(b"[" * 2**24, 1)

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


# --- what is sent ----------------------------------------------------------------------


def request(
    body: bytes, path: str = INFER, headers: dict[str, str] | None = None, length: object = None
) -> bytes:
    """`length`: what the head says of the body's bytes, where that is not the truth."""
    lines = [f"POST {path} HTTP/1.1", "host: a", f"content-length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def chunked(pieces: list[bytes], path: str = INFER) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


class Bytes:
    """Requests for one release that are right, nearly right, or nothing of the kind."""

    def __init__(self, built: Built, chance: random.Random) -> None:
        self._chance = chance
        self._tensors = releases.tensors(built, [1, 2, 3])
        self._record = {each["name"]: each["data"][0] for each in self._tensors}
        self._ways: list[Callable[[], bytes]] = [
            self.noise,
            self.mutated,
            self.mutated,
            self.lying_length,
            self.chunked_nonsense,
            self.pipelined,
            self.long_head,
            self.odd_head,
            self.other_protocol,
            self.odd_json,
            self.odd_json,
            self.odd_binary,
            self.odd_binary,
            self.odd_packing,
        ]

    def any(self) -> bytes:
        return self._chance.choice(self._ways)()

    def right(self) -> bytes:
        label = {"id": "a", "label": True}
        return self._chance.choice(
            [
                b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\n\r\n",
                request(self._json()),
                request(*self._binary()),
                request(gzip.compress(self._json()), headers={"content-encoding": "gzip"}),
                request(orjson.dumps(self._record), "/predict"),
                request(orjson.dumps(label), "/v2/models/delays/feedback"),
                chunked([self._json()[:50], self._json()[50:]]),
            ]
        )

    def noise(self) -> bytes:
        return self._chance.randbytes(self._chance.choice([1, 10, 100, 1000, 20_000]))

    def mutated(self) -> bytes:
        whole = self.right()
        head = whole.find(b"\r\n\r\n") + 4
        if self._chance.random() < 0.5:
            return self._mutate(whole[:head]) + whole[head:]
        return whole[:head] + self._mutate(whole[head:])

    def lying_length(self) -> bytes:
        body = self._json()
        lie = self._chance.choice([len(body) - 1, len(body) + 1, *LENGTHS])
        return request(body, length=lie, headers=self._chance.choice([None, {"Content-Length": "3"}]))

    def chunked_nonsense(self) -> bytes:
        whole, chance = chunked([self._json()]), self._chance
        size = chance.choice([b"-1", b"zz", b"f" * 20, b"0", b"", b"5;" + b"e" * 5000, b" 5"])
        return chance.choice(
            [
                re.sub(rb"\r\n\r\n[0-9a-f]+", b"\r\n\r\n" + size, whole, count=1),
                whole[: chance.randrange(len(whole))],
                whole.replace(b"chunked", chance.choice([b"gzip", b"chunked, gzip", b"identity", b"x" * 50])),
                whole.replace(b"host", b"content-length: 10\r\nhost"),
                whole[:-2] + b"trailer: " + self.noise() + b"\r\n\r\n",
            ]
        )

    def pipelined(self) -> bytes:
        parts = [self.right() for _ in range(self._chance.randrange(2, 20))]
        if self._chance.random() < 0.5:
            parts[self._chance.randrange(len(parts))] = self.mutated()
        return b"".join(parts)

    def long_head(self) -> bytes:
        chance = self._chance
        size = chance.choice([1000, 70_000, 300_000, 1_000_000])
        return chance.choice(
            [
                b"GET /" + b"a" * size + b" HTTP/1.1\r\nhost: a\r\n\r\n",
                b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * size + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (size // 100) + b"\r\n",
                b"A" * size,
            ]
        )

    def odd_head(self) -> bytes:
        name, value = self._chance.choice(HEADERS), self._chance.choice(VALUES)
        path = INFER if self._chance.random() < 0.5 else self._chance.choice(PATHS)
        return request(self._json(), path, {name: value})

    def other_protocol(self) -> bytes:
        return self._chance.choice([TLS_HELLO, PREFACE, PREFACE + self.noise(), b"\x00" * 500, b"QUIT\r\n"])

    def odd_json(self) -> bytes:
        message = {"id": "a", "inputs": [dict(each) for each in self._tensors]}
        for _ in range(self._chance.randrange(1, 4)):
            self._spoil(message)
        return request(orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS))

    def odd_binary(self) -> bytes:
        body, path, headers = self._binary()
        length = int(headers["inference-header-content-length"])
        match self._chance.randrange(4):
            case 0:
                body = body[:length] + self._mutate(body[length:])
            case 1:
                body = body[:length].replace(b"FP64", b"FP16").replace(b"INT64", b"UINT8") + body[length:]
            case 2:
                headers["inference-header-content-length"] = str(length + self._chance.randrange(-3, 4))
            case 3:
                body = re.sub(rb"\d+(?=\}|\])", lambda _: b"%d" % self._chance.randrange(2**40), body)
        return request(body, path, headers)

    def odd_packing(self) -> bytes:
        packed = gzip.compress(self._json())
        bodies = [self._mutate(packed), packed + packed, packed[:-3], BOMB, b"", packed + b"x"]
        packing = {"content-encoding": self._chance.choice(["gzip", "deflate"])}
        return request(self._chance.choice(bodies), headers=packing)

    def _json(self) -> bytes:
        return orjson.dumps({"id": "a", "inputs": self._tensors})

    def _binary(self) -> tuple[bytes, str, dict[str, str]]:
        dtypes = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}
        inputs, data = [], b""
        for each in self._tensors:
            if each["datatype"] == "BYTES":
                texts = [text.encode() for text in each["data"]]
                chunk = b"".join(struct.pack("<I", len(text)) + text for text in texts)
            else:
                chunk = np.array(each["data"], dtypes[each["datatype"]]).tobytes()
            data += chunk
            about = {name: each[name] for name in ("name", "shape", "datatype")}
            inputs.append({**about, "parameters": {"binary_data_size": len(chunk)}})
        asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
        head = orjson.dumps(asked)
        return head + data, INFER, {"inference-header-content-length": str(len(head))}

    def _spoil(self, message: dict[str, Any]) -> None:
        """Something in it is gone, or another thing."""
        chance = self._chance
        odd = chance.choice(ODD)
        inputs = message.get("inputs")
        tensors = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
        holder = chance.choice([message, *tensors])
        key = chance.choice([*holder, "parameters", "outputs", "id"])
        if chance.random() < 0.2:
            holder.pop(key, None)
        else:
            holder[key] = odd

    def _mutate(self, text: bytes) -> bytes:
        chance, spoilt = self._chance, bytearray(text)
        for _ in range(chance.choice([1, 1, 1, 2, 5, 20])):
            at = chance.randrange(len(spoilt) + 1)
            match chance.randrange(5):
                case 0:
                    spoilt[at : at + 1] = chance.randbytes(1)
                case 1:
                    del spoilt[at : at + chance.choice([1, 1, 4, 30])]
                case 2:
                    spoilt[at:at] = chance.randbytes(chance.choice([1, 4, 30]))
                case 3:
                    spoilt[at:at] = spoilt[at : at + 30]
                case 4:
                    spoilt[at:at] = chance.choice(PIECES)
        return bytes(spoilt)


# --- how it is sent --------------------------------------------------------------------


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


class Assault:
    """Sends what it is given in several ways, and counts the statuses of the answers."""

    def __init__(self, server: Server, chance: random.Random) -> None:
        self._server = server
        self._chance = chance
        self._open: deque[tuple[socket.socket, bytes]] = deque()  # and what is still to be sent there
        self.statuses: Counter[int] = Counter()

    def send(self, content: bytes) -> None:
        """All of it, or a part and then nothing, or a part now and the rest after other requests."""
        chance = self._chance
        connection = connected(self._server)
        cut = len(content) if chance.random() < 0.6 else chance.randrange(len(content) + 1)
        if cut < len(content) and chance.random() < 0.3:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            with contextlib.suppress(OSError):
                connection.sendall(content[:cut])
            connection.close()
            return
        connection.setblocking(False)
        self._open.append((connection, content[cut:]))
        with contextlib.suppress(OSError):
            connection.send(content[:cut])
        if len(self._open) > OPEN_AT_ONCE:
            self._end_oldest()

    def close(self) -> None:
        while self._open:
            self._end_oldest()

    def _end_oldest(self) -> None:
        connection, rest = self._open.popleft()
        answered = b""
        with contextlib.suppress(OSError):  # it was closed, or there is nothing (yet)
            while chunk := connection.recv(2**16):
                answered += chunk
        self.statuses.update(int(status) for status in _STATUS.findall(answered))
        with contextlib.suppress(OSError):
            connection.send(rest)
        connection.close()


def answered(server: Server) -> dict[str, float]:
    """How many inference requests, by the status of their answers."""
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    counts = [each for each in samples if each.name == "coalmine_requests_total" and each.value]
    return {each.labels["code"]: each.value for each in counts}


def test_a_client_that_leaves_before_its_body_ends_is_no_failure_of_the_server(compiled: Built) -> None:
    with running(compiled.folder) as server:
        with connected(server) as leaving:
            leaving.sendall(request(b"{", length=100))
        while not (counted := answered(server)):
            assert server.process.poll() is None
    assert counted == {"400": 1}


@pytest.mark.timeout(120 + 2 * FUZZ_S)
def test_no_bytes_end_the_server_or_spoil_the_answers_to_others(compiled: Built, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    sent = Bytes(compiled, chance)
    honest, right = {"inputs": releases.tensors(compiled, [1, 2, 3])}, expected(compiled, [1, 2, 3])
    log = tmp_path / "stderr"
    with (
        log.open("w") as stderr,
        running(compiled.folder, stderr=stderr) as server,
        httpx.Client(timeout=60) as kept_alive,
        contextlib.closing(Assault(server, chance)) as assault,
    ):

        def fuzz(seconds: float) -> int:
            until_s, count = time.monotonic() + seconds, 0
            while time.monotonic() < until_s:
                for _ in range(HONEST_EVERY):
                    assault.send(sent.any())
                    count += 1
                for client in (kept_alive, httpx):
                    answer = client.post(server.url + INFER, json=honest)
                    assert answer.status_code == 200, answer.text
                    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
                    assert outputs == {name: pytest.approx(values) for name, values in right.items()}
            return count

        process = psutil.Process(server.process.pid)
        count = fuzz(FUZZ_S / 5)
        before = process.memory_info().rss
        count += fuzz(FUZZ_S * 4 / 5)
        growth = process.memory_info().rss - before
        assault.close()
        answers = sorted(assault.statuses.items())
        print(f"{count} connections, {growth / 2**20:.1f} MiB more, answers {answers}")
        assert {code for code in answered(server) if code >= "500"} <= {"503"}
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
    assert all(status < 500 or status == 503 for status, _ in answers)
    assert assault.statuses[200] > count / 50
    assert growth < MAX_GROWTH_BYTES
    said = [line for line in log.read_text().splitlines() if '"level": "info"' not in line]
    assert [line for line in said if '"not_told"' not in line] == []
