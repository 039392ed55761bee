"""A server under test is its whole tree of processes, and nothing of it stays behind."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.serving.process import cores, free_ports, running

WITH_A_BUSY_CHILD = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "while True: pass"])
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def test_a_servers_children_count_and_end_with_it(tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-c", WITH_A_BUSY_CHILD, str(port)]
    with running(command, "/ready", port, {}, tmp_path, tmp_path / "log") as server:
        (child,) = server.process.children()
        while child.cpu_times().user < 0.1:
            pass
        own = server.process.cpu_times()
        assert server.cpu_s() >= own.user + own.system + 0.1
        assert server.memory_mib() > server.process.memory_full_info().pss / 2**20
        assert set(child.cpu_affinity()) == cores()[1]
        assert 0 < server.ready_s < 60
    assert not child.is_running()
    assert not psutil.pid_exists(server.process.pid)


def test_a_server_that_cannot_start_is_reported_with_its_own_words(tmp_path: Path) -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-c", "import sys; sys.exit('the model file is missing')"]

    with (
        pytest.raises(RuntimeError, match="the model file is missing"),
        running(command, "/ready", port, {}, tmp_path, tmp_path / "log"),
    ):
        pass
