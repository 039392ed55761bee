from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import http.server
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import httpx
import pytest

from coalmine.durable import read_lines
from coalmine.errors import InputError
from coalmine.serving.payloads import Origin, PayloadLog, file_sink, http_sink, log
from tests.ports import reserved_port
from tests.serving.releases import Built, tensors
from tests.serving.server_process import running, started

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
ORIGIN = Origin("delays", "1.2.0", "blue", "http://127.0.0.1:8080/")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PLENTY_S = 60.0


@dataclass
class Kept:
    """An event as a reader of the sink sees it."""

    attributes: dict[str, str]
    data: Any  # bytes, or what JSON says


class Place(Protocol):
    """A sink that a test may read."""

    sink: str

    def kept(self) -> list[Kept]: ...


# --- the sinks ---------------------------------------------------------------------------


class File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink = str(path)

    def kept(self) -> list[Kept]:
        return [_from_line(line) for line in read_lines(self.path)[0]]


def _from_line(line: dict[str, Any]) -> Kept:
    data = base64.b64decode(line.pop("data_base64")) if "data_base64" in line else line.pop("data")
    return Kept(line, data)


@dataclass
class Post:
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]


@dataclass
class Service:
    """A real HTTP server. `answers`: the status of each POST to come, the last one for ever; 0: silence."""

    answers: list[int] = field(default_factory=lambda: [202])
    answer_body: bytes = b""
    posts: list[Post] = field(default_factory=list)
    sink: str = ""
    ends: threading.Event = field(default_factory=threading.Event)

    def kept(self) -> list[Kept]:
        return [_from_post(post) for post in self.posts]


def _from_post(post: Post) -> Kept:
    attributes = {
        name.removeprefix("ce-"): unquote(value, errors="strict")
        for name, value in post.headers.items()
        if name.startswith("ce-")
    }
    media_type = attributes["datacontenttype"] = post.headers["content-type"]
    return Kept(attributes, json.loads(post.body) if media_type == "application/json" else post.body)


@contextlib.contextmanager
def serving(service: Service) -> Iterator[Service]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.posts.append(Post(headers, body, self.client_address))
            status = service.answers.pop(0) if len(service.answers) > 1 else service.answers[0]
            if status == 0:
                service.ends.wait()
                return
            self.send_response(status)
            self.send_header("content-length", str(len(service.answer_body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(service.answer_body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who hangs up does so on purpose here."""

    server = Server(("127.0.0.1", reserved_port()), Handler)
    service.sink = f"http://127.0.0.1:{server.server_port}/events?of=delays"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        service.ends.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as service:
        yield service


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "payloads" / "delays.jsonl")


@pytest.fixture(params=["file", "service"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@contextlib.contextmanager
def logging_to(place: Place | str, sample: float = 1.0) -> Iterator[PayloadLog]:
    """What was offered inside is written when this ends."""
    payloads = PayloadLog(place if isinstance(place, str) else place.sink, sample, ORIGIN)
    try:
        yield payloads
    finally:
        payloads.close(PLENTY_S)


# --- what every sink keeps -----------------------------------------------------------------


def test_a_request_and_its_answer_are_two_events_of_kserves_types_with_one_id(place: Place) -> None:
    before_s = time.time()
    with logging_to(place) as payloads:
        payloads.offer("r-1", b'{"inputs": []}', b'{"outputs": [1.5]}', traceparent=TRACE)
    request, response = place.kept()
    moments = [each.attributes.pop("time") for each in (request, response)]
    shared = {
        "specversion": "1.0",
        "id": "r-1",
        "source": "http://127.0.0.1:8080/",
        "datacontenttype": "application/json",
        "inferenceservicename": "delays",
        "namespace": "default",
        "component": "predictor",
        "endpoint": "default",
        "metadata": "{}",
        "model": "delays",
        "version": "1.2.0",
        "slot": "blue",
        "traceparent": TRACE,
    }
    assert request == Kept({"type": REQUEST, **shared}, {"inputs": []})
    assert response == Kept({"type": RESPONSE, **shared}, {"outputs": [1.5]})
    assert moments[0] == moments[1]
    assert before_s - 1 <= _since_1970(moments[0]) <= time.time() + 1
    assert (payloads.written, payloads.dropped, payloads.failed) == (2, 0, 0)


def _since_1970(moment: str) -> float:
    assert moment.endswith("Z")
    return datetime.fromisoformat(moment).timestamp()


def test_an_answer_that_is_an_error_leaves_the_request_alone(place: Place) -> None:
    with logging_to(place) as payloads:
        payloads.offer("r-1", b"{}", None)
    assert [each.attributes["type"] for each in place.kept()] == [REQUEST]


@pytest.mark.parametrize("traceparent", [None, TRACE.upper(), "Jane Doe"])
def test_without_a_trace_that_the_standard_allows_there_is_none(
    place: Place, traceparent: str | None
) -> None:
    with logging_to(place) as payloads:
        payloads.offer("r-1", b"{}", b"{}", traceparent)
    assert all("traceparent" not in each.attributes for each in place.kept())


def test_tensors_in_binary_come_back_byte_by_byte_with_the_length_of_their_json(place: Place) -> None:
    binary = b'{"inputs":[]}' + bytes(range(256))
    with logging_to(place) as payloads:
        payloads.offer(
            "r-1",
            binary,
            b"{}" + binary,
            request_type="application/octet-stream",
            answer_type="application/octet-stream",
            request_json_length="13",
            answer_json_length="15",
        )
    request, response = place.kept()
    assert (request.data, response.data) == (binary, b"{}" + binary)
    assert json.loads(request.attributes["metadata"]) == {"Inference-Header-Content-Length": ["13"]}
    assert json.loads(response.attributes["metadata"]) == {"Inference-Header-Content-Length": ["15"]}


@pytest.mark.parametrize("request_id", ['50%"x"', "%41", "a+b,c;d=e", "~!{}|\\"])
def test_any_request_id_comes_back_as_it_was(place: Place, request_id: str) -> None:
    with logging_to(place) as payloads:
        payloads.offer(request_id, b"{}", b"{}")
    assert [each.attributes["id"] for each in place.kept()] == [request_id, request_id]


def test_events_keep_their_order(place: Place) -> None:
    with logging_to(place) as payloads:
        for number in range(200):
            payloads.offer(str(number), b"%d" % number, b"{}")
    kept = place.kept()
    assert [each.attributes["id"] for each in kept[::2]] == [str(number) for number in range(200)]
    assert [each.data for each in kept[::2]] == list(range(200))
    assert {each.attributes["type"] for each in kept[1::2]} == {RESPONSE}


# --- which requests --------------------------------------------------------------------------


def chosen(payloads: PayloadLog, count: int = 20_000) -> set[str]:
    return {f"{number}" for number in range(count) if payloads.is_chosen(f"{number}")}


def test_the_share_is_drawn_by_request_id_and_every_server_draws_the_same(file: File) -> None:
    with logging_to(file, 0.1) as one, logging_to(file, 0.1) as other, logging_to(file, 0.3) as more:
        drawn = chosen(one)
        assert drawn == chosen(other)
        assert drawn < chosen(more)
        # 0.1 of 20000, give or take six standard deviations.
        assert abs(len(drawn) - 2000) < 6 * (20_000 * 0.1 * 0.9) ** 0.5
        assert sorted(drawn, key=int)[:5] == ["1", "13", "16", "23", "30"]  # in another process too


def test_only_drawn_requests_are_written(file: File) -> None:
    with logging_to(file, 0.1) as payloads:
        for number in range(200):
            payloads.offer(str(number), b"{}", b"{}")
        drawn = chosen(payloads, 200)
    assert {each.attributes["id"] for each in file.kept()} == drawn
    assert payloads.written == 2 * len(drawn)
    assert payloads.dropped == 0


# --- what cannot be opened -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        pytest.param("{here}", "Is a directory", id="a folder"),
        pytest.param("{here}/file/below.jsonl", "cannot be written", id="below a file"),
        pytest.param("{here}/file", "is no payload log", id="a file of another kind"),
        pytest.param("s3://bucket/key", "neither a file nor an http(s) URL", id="another scheme"),
        pytest.param("http://", "neither a file nor an http(s) URL", id="no host"),
        pytest.param("http://host:port/", "is no URL", id="a port that is none"),
        pytest.param("http://jane:secret@host/", "secrets do not belong into model.yaml", id="a password"),
    ],
)
def test_a_sink_that_cannot_be_opened_is_one_clear_error(sink: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError) as caught:
        PayloadLog(sink.format(here=tmp_path), 1.0, ORIGIN)
    assert said in str(caught.value)
    assert "secret@" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("sample", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(sample: float, file: File) -> None:
    with pytest.raises(InputError, match="--payload-sample"):
        PayloadLog(file.sink, sample, ORIGIN)


# --- a sink that fails -----------------------------------------------------------------------


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_sink, "PAUSES_S", (0.0, 0.0))


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("answers", "posts", "written"),
    [
        pytest.param([503, 429, 200], 3, 1, id="taken at the third try"),
        pytest.param([500], 3, 0, id="never taken"),
        pytest.param([400], 1, 0, id="refused for good"),
        pytest.param([302], 1, 0, id="sent elsewhere"),
    ],
)
def test_a_service_is_tried_again_where_that_may_help(
    answers: list[int], posts: int, written: int, service: Service
) -> None:
    service.answers = answers
    with logging_to(service) as payloads:
        payloads.offer("r-1", b"{}", None)
        wait_until(lambda: payloads.written + payloads.failed == 1)
    assert len(service.posts) == posts
    assert (payloads.written, payloads.failed) == (written, 1 - written)


@pytest.mark.usefixtures("without_pauses")
def test_losses_are_told_once_a_minute_without_their_content(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers = [400]
    with logging_to(service) as payloads:
        for _ in range(5):
            payloads.offer("r-1", b'"Jane Doe"', b"{}")
        wait_until(lambda: payloads.failed == 10)
        (first,) = caplog.records
        monkeypatch.setattr(log, "TELL_EVERY_S", 0.0)
        payloads.offer("r-1", b'"Jane Doe"', None)
    second = caplog.records[-1]
    assert first.getMessage() == second.getMessage() == "payloads_lost"
    assert vars(first)["coalmine_fields"] == {"kind": "status 400", "events": 1}
    assert vars(second)["coalmine_fields"] == {"kind": "status 400", "events": 10}
    assert "Jane" not in caplog.text


@pytest.mark.usefixtures("without_pauses")
def test_a_service_that_is_away_costs_nothing_but_the_events_and_may_come_back() -> None:
    service = Service()
    with serving(service):
        pass  # its port is known now, and nobody listens there
    with logging_to(service) as payloads:
        payloads.offer("r-1", b"{}", b"{}")
        wait_until(lambda: payloads.failed == 2)
    assert (payloads.written, payloads.dropped) == (0, 0)


def test_one_connection_is_used_again_and_again(service: Service) -> None:
    with logging_to(service) as payloads:
        for number in range(50):
            payloads.offer(str(number), b"{}", b"{}")
    assert len(service.posts) == 100
    assert len({post.connection for post in service.posts}) == 1
    assert payloads.failed == 0


@pytest.mark.usefixtures("without_pauses")
def test_after_an_answer_that_never_came_the_next_try_has_a_connection_of_its_own(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_sink, "TIMEOUT_S", 0.2)
    service.answers = [0, 200]
    with logging_to(service) as payloads:
        payloads.offer("r-1", b"{}", None)
        wait_until(lambda: payloads.written + payloads.failed == 1)
    assert payloads.written == 1
    assert len({post.connection for post in service.posts}) == 2


def test_an_answer_without_end_is_not_read(service: Service) -> None:
    service.answer_body = b"x" * 2**20
    with logging_to(service) as payloads:
        payloads.offer("r-1", b"{}", b"{}")
    assert payloads.written == 2
    assert [each.attributes["type"] for each in service.kept()] == [REQUEST, RESPONSE]


@pytest.fixture
def hanging() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", reserved_port())) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_a_sink_that_hangs_costs_no_request_its_time_and_what_does_not_fit_is_counted(hanging: str) -> None:
    payloads = PayloadLog(hanging, 1.0, ORIGIN)
    offered = 3 * log.MAX_WAITING
    started_s = time.perf_counter()
    for number in range(offered):
        payloads.offer(str(number), b"{}", b"{}")
    asked_s = time.perf_counter() - started_s
    in_hand = 2  # at most one exchange is with the sink
    assert 2 * (offered - log.MAX_WAITING) - in_hand <= payloads.dropped <= 2 * (offered - log.MAX_WAITING)
    assert asked_s < http_sink.TIMEOUT_S  # thousands of offers, less than one POST

    payloads.close(0.0)
    assert 2 * offered - in_hand <= payloads.dropped <= 2 * offered
    payloads.offer("late", b"{}", None)
    assert 2 * offered - in_hand + 1 <= payloads.dropped


def test_the_end_of_the_server_waits_no_longer_than_it_was_told(hanging: str) -> None:
    payloads = PayloadLog(hanging, 1.0, ORIGIN)
    payloads.offer("r-1", b"{}", b"{}")
    started_s = time.perf_counter()
    payloads.close(0.2)
    assert time.perf_counter() - started_s < http_sink.TIMEOUT_S


def test_what_waits_is_bounded_in_bytes_too(hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_WAITING_BYTES", 1000)
    payloads = PayloadLog(hanging, 1.0, ORIGIN)
    for number in range(20):
        payloads.offer(str(number), b"x" * 60, b"x" * 40)
    assert 2 * 9 <= payloads.dropped <= 2 * 10
    payloads.close(0.0)


def test_what_is_written_makes_room(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAX_WAITING", 2)
    monkeypatch.setattr(log, "MAX_WAITING_BYTES", 200)
    with logging_to(file) as payloads:
        for number in range(10):
            payloads.offer(str(number), b'"%s"' % (b"x" * 98), b'"%s"' % (b"x" * 98))
            wait_until(lambda: payloads.written == 2 * (number + 1))  # noqa: B023
    assert payloads.dropped == 0


def test_a_body_that_would_hold_up_the_requests_is_dropped(file: File) -> None:
    fits = b'"%s"' % (b"x" * (log.MAX_BODY_BYTES - 2))
    with logging_to(file) as payloads:
        payloads.offer("a", fits, fits)
        payloads.offer("b", fits + b" ", b"{}")
        payloads.offer("c", b"{}", fits + b" ")
    assert (payloads.written, payloads.dropped) == (2, 4)
    assert {each.attributes["id"] for each in file.kept()} == {"a"}


# --- the file --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media_type", "data", "kept"),
    [
        pytest.param("application/json", b'{"a":\r\n[1,\n 2]}\n', {"a": [1, 2]}, id="line breaks"),
        pytest.param("Application/JSON; charset=utf-8", b"[1]", [1], id="parameters"),
        pytest.param("application/problem+json", b"[1]", [1], id="a JSON of its own"),
        pytest.param("application/json", b'"\\n \xc3\xa9"', "\n é", id="text"),
        pytest.param("application/json", b'"\xff"', b'"\xff"', id="not UTF-8"),
        pytest.param("application/json", b'{"a": NaN}', b'{"a": NaN}', id="not JSON"),
        pytest.param("application/json", b"", b"", id="empty"),
        pytest.param("application/json", b"[" * 10_000, b"[" * 10_000, id="deep"),
        pytest.param("text/plain", b"[1]", b"[1]", id="text that is no JSON"),
    ],
)
def test_json_stands_in_the_line_and_everything_else_in_base64(
    media_type: str, data: bytes, kept: object, file: File
) -> None:
    with logging_to(file) as payloads:
        payloads.offer("r-1", data, None, request_type=media_type)
    (event,) = file.kept()
    assert event.data == kept
    assert event.attributes["datacontenttype"] == media_type


def test_numbers_and_doubled_keys_stay_as_they_were_sent(file: File) -> None:
    sent = b'{"a": 1.10, "a": 123456789012345678901234567890}'
    with logging_to(file) as payloads:
        payloads.offer("r-1", sent, None)
    assert sent in file.path.read_bytes()


def test_only_its_owner_may_read_the_file(file: File) -> None:
    with logging_to(file) as payloads:
        payloads.offer("r-1", b"{}", None)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_full_disk_loses_events_and_leaves_no_torn_line(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    os_write, is_full = os.write, threading.Event()

    def write(descriptor: int, data: bytes) -> int:
        if not is_full.is_set():
            return os_write(descriptor, data)
        if len(data) > 100:
            return os_write(descriptor, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_sink.os, "write", write)
    with logging_to(file) as payloads:
        payloads.offer("before", b"{}", b"{}")
        wait_until(lambda: payloads.written == 2)
        is_full.set()
        payloads.offer("lost", b'"%s"' % (b"x" * 98), None)
        wait_until(lambda: payloads.failed == 1)
        assert file.path.read_bytes().endswith(b"}\n")
        is_full.clear()
        payloads.offer("after", b"{}", b"{}")
    assert [each.attributes["id"] for each in file.kept()] == ["before", "before", "after", "after"]
    assert (payloads.written, payloads.failed, payloads.dropped) == (4, 1, 0)


@pytest.mark.parametrize("torn", [b'{"specv', b'{"specversion": "1.0", "id', b'{"specversion": "1.0"}'])
@pytest.mark.parametrize("whole", [0, 1])
def test_a_line_that_was_being_written_at_a_kill_is_cut_at_the_next_start(
    torn: bytes, whole: int, file: File
) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(b'{"specversion": "1.0", "id": "old", "data": 1}\n' * whole + torn)
    with logging_to(file) as payloads:
        assert len(file.kept()) == whole
        assert torn not in file.path.read_bytes().removeprefix(b'{"specversion": "1.0", "id": "old"')
        payloads.offer("new", b"{}", None)
    assert [each.attributes["id"] for each in file.kept()] == ["old"] * whole + ["new"]


def test_a_line_that_another_server_tore_is_cut_before_the_next_one(file: File) -> None:
    with logging_to(file) as payloads:
        payloads.offer("before", b"{}", None)
        wait_until(lambda: payloads.written == 1)
        with file.path.open("ab") as other:
            other.write(b'{"specversion": "1.0", "id": "to')
        payloads.offer("after", b"{}", None)
    assert [each.attributes["id"] for each in file.kept()] == ["before", "after"]


def test_nothing_is_written_into_the_line_that_another_server_is_writing(file: File) -> None:
    line = b'{"specversion": "1.0", "id": "theirs", "data": 1}\n'
    with logging_to(file) as payloads, file.path.open("ab", 0) as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        other.write(line[:20])
        payloads.offer("ours", b"{}", None)
        # Time for what must not happen; where it does not, no time is too short.
        assert not was_reached(lambda: payloads.written == 1, within_s=0.2)
        other.write(line[20:])
        fcntl.flock(other, fcntl.LOCK_UN)
        wait_until(lambda: payloads.written == 1)
    assert [each.attributes["id"] for each in file.kept()] == ["theirs", "ours"]


WRITER = """
import sys
from coalmine.serving.payloads import Origin, PayloadLog, file_sink
file_sink.MAX_FILE_BYTES = int(sys.argv[3])
payloads = PayloadLog(sys.argv[1], 1.0, Origin("delays", "1.2.0", sys.argv[2], "http://127.0.0.1/"))
print("writing", flush=True)
count = int(sys.argv[4])
number = 0
while number != count:
    payloads.offer(f"{sys.argv[2]}-{number}", b'"%s"' % (b"x" * 2000), None)
    number += 1
    while payloads.written < number - 100:
        pass
payloads.close(60)
"""


@contextlib.contextmanager
def writer(
    file: File, name: str, file_bytes: int = 2**30, count: int = -1
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITER, file.sink, name, str(file_bytes), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_writer_that_is_killed_and_started_again_leaves_nothing_that_a_reader_trips_on(file: File) -> None:
    size = 0
    for attempt in range(3):
        with writer(file, f"writer{attempt}") as process:
            wait_until(lambda: file.path.stat().st_size > size + 100_000)  # noqa: B023
            process.send_signal(signal.SIGKILL)
        size = file.path.stat().st_size
    with logging_to(file) as payloads:
        payloads.offer("last", b"{}", None)
    assert file.path.read_bytes().endswith(b"}\n")
    names = [each.attributes["id"].split("-")[0] for each in file.kept()]
    assert list(dict.fromkeys(names)) == ["writer0", "writer1", "writer2", "last"]


def test_two_servers_share_a_file_whose_size_is_bounded_and_every_line_is_whole(file: File) -> None:
    with writer(file, "blue", 100_000, 300) as blue, writer(file, "green", 100_000, 300) as green:
        assert (blue.wait(PLENTY_S), green.wait(PLENTY_S)) == (0, 0)
    files = sorted(file.path.parent.iterdir())
    assert [each.name for each in files] == [file.path.name, *(f"{file.path.name}.{n}" for n in range(1, 5))]
    assert all(each.stat().st_size <= 100_000 + 64 * 3000 for each in files)
    ids = [each.attributes["id"] for path in reversed(files) for each in File(path).kept()]
    assert len(set(ids)) == len(ids)
    for name in ("blue", "green"):
        numbers = [int(each.split("-")[1]) for each in ids if each.startswith(name)]
        assert numbers == sorted(numbers)
    assert ids[-1] in ("blue-299", "green-299")


def test_a_server_writes_what_waits_before_it_ends_and_counts_it(binary: Built, file: File) -> None:
    body, headers = {"inputs": tensors(binary, [0])}, {"x-request-id": "r-1", "traceparent": TRACE}
    refused = {"inputs": []}
    options = ("--payload-sink", file.sink, "--payload-sample", "1", "--drain-s", "0")
    with running(binary.folder, *options) as server, httpx.Client(base_url=server.url) as client:
        answer = client.post("/v2/models/delays/infer", json=body, headers=headers)
        assert client.post("/v2/models/delays/infer", json=refused).status_code == 400
        assert (answer.headers["traceparent"], answer.headers["x-request-id"]) == (TRACE, "r-1")
        assert 'coalmine_payloads_total{model_name="delays"' in client.get("/metrics").text
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
        source = server.url
    request, response, alone = file.kept()
    assert (request.data, response.data, alone.data) == (body, answer.json(), refused)
    assert {each.attributes["source"] for each in file.kept()} == {source}
    assert {each.attributes["traceparent"] for each in (request, response)} == {TRACE}
    assert alone.attributes["type"] == REQUEST


def test_a_server_whose_sink_cannot_be_opened_does_not_start(binary: Built, tmp_path: Path) -> None:
    with started(binary.folder, "--payload-sink", str(tmp_path)) as server:
        status, said = server.end()
    assert (status, said.count("\n")) == (2, 1)
    assert "Is a directory" in said


def test_a_file_that_somebody_took_away_is_begun_anew(file: File) -> None:
    with logging_to(file) as payloads:
        payloads.offer("before", b"{}", None)
        wait_until(lambda: payloads.written == 1)
        file.path.unlink()
        payloads.offer("after", b"{}", None)
    assert [each.attributes["id"] for each in file.kept()] == ["after"]


def wait_until(holds: Callable[[], bool]) -> None:
    assert was_reached(holds, PLENTY_S)


def was_reached(holds: Callable[[], bool], within_s: float) -> bool:
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.002)
    return True
