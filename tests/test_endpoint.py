from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from coalmine.endpoint import AT_ONCE, Endpoint, Unreachable
from tests.telemetry.told import telling

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(*lives: Serve) -> Iterator[str]:
    """A server that treats its first connection as the first of `lives` says, and so on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)  # for a connection that never comes

        def accept() -> None:
            with contextlib.suppress(TimeoutError):
                for serve in lives:
                    connection, _ = listener.accept()
                    with connection:
                        serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def answer(body: bytes = b"hello", times: int = 1) -> Serve:
    def serve(connection: socket.socket) -> None:
        for _ in range(times):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    return serve


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def say_nothing(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def talk_nonsense(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"220 welcome to another protocol\r\n")


def test_a_connection_is_kept_from_request_to_request() -> None:
    with telling() as told:
        told.answers["/a"] = "hello"
        endpoint = Endpoint(f"127.0.0.1:{told.port}", timeout_s=5)
        answers = [endpoint.get("/a") for _ in range(3)]
        assert {(each.status, each.body, each.connection) for each in answers} == {(200, b"hello", 1)}
        assert endpoint.get("/b").status == 404
        del endpoint


def test_a_connection_that_the_other_end_has_closed_is_made_anew_and_counted() -> None:
    with serving(answer(times=2), answer()) as address:
        endpoint = Endpoint(address, timeout_s=5)
        assert [endpoint.get("/").connection for _ in range(3)] == [1, 1, 2]


def test_what_hangs_is_asked_once_and_is_out_of_reach() -> None:
    with serving(answer_then_hang) as address:
        endpoint = Endpoint(address, timeout_s=0.2)
        endpoint.get("/")
        with pytest.raises(Unreachable, match="no answer in time"):
            endpoint.get("/")


def answer_then_hang(connection: socket.socket) -> None:
    answer()(connection)
    say_nothing(connection)


@pytest.mark.parametrize(
    ("serve", "said"),
    [
        pytest.param(hang_up, "closed connection", id="hangs up"),
        pytest.param(talk_nonsense, "welcome", id="another protocol"),
        pytest.param(answer(b"x" * 101), "larger than 100", id="too much"),
    ],
)
def test_no_answer_is_told_in_words(serve: Serve, said: str) -> None:
    with serving(serve) as address, pytest.raises(Unreachable, match=said):
        Endpoint(address, timeout_s=5, largest=100).get("/")


def test_nobody_listening_is_out_of_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    endpoint = Endpoint(address, timeout_s=5)
    with pytest.raises(Unreachable, match="refused"):
        endpoint.get("/")


def test_many_who_ask_one_server_wait_for_their_turn_and_their_time_begins_with_it() -> None:
    asking, most = 0, 0
    lock = threading.Lock()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal asking, most
            with lock:
                asking += 1
                most = max(most, asking)
            time.sleep(0.1)
            with lock:
                asking -= 1
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """No news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        # Together they take longer than one may wait for its answer.
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: Endpoint(address, timeout_s=0.9).get("/"), range(40)))
        server.shutdown()
    assert [answer.status for answer in answers] == [200] * 40
    assert most == AT_ONCE
