"""Every credential that coalmine may come by, put where it belongs, and looked for in all that it writes and
says: Git, manifests, slots, journals, reports, logs, notices, a cluster's manifests, an image's record."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster.git_server import serving_git
from tests.operations.test_image import INSIDE, NAME, Tools
from tests.scenarios.lending import LOANS, MODEL_YAML
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Ran, Workplace

PLACES = ("git", "dvc", "webhook", "prometheus", "prefect", "cloud", "index")
# Where people put them; nobody else reads these.
KEPT_IN = {".git/config", ".dvc/config.local"}


class Planted(dict[str, str]):
    """Place to secret."""

    def in_(self, content: bytes) -> set[str]:
        """Whose is in it, in plain words or as a header has it."""
        return {
            place
            for place, secret in self.items()
            if secret.encode() in content or base64.b64encode(f"kim:{secret}".encode()) in content
        }


@pytest.fixture
def planted() -> Planted:
    return Planted({place: f"s3cr3t-{place}-{secrets.token_hex(12)}" for place in PLACES})


class Friend:
    """Prometheus and a webhook in one: notes who asked with what."""

    def __init__(self, port: int, asked: list[tuple[str, str | None]]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked = asked
        self.fails = False

    def paths(self) -> set[str]:
        return {path for path, _ in self.asked}

    def tokens(self) -> set[str | None]:
        return {token for path, token in self.asked if path.startswith("/api/v1")}


@pytest.fixture
def friend() -> Iterator[Friend]:
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            asked.append((self.path, self.headers.get("authorization")))
            result = {"resultType": "scalar", "result": [0, "1"]}
            body = json.dumps({"status": "success", "data": result}).encode()
            self.send_response(500 if friend.fails else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        friend = Friend(server.server_port, asked)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield friend
        server.shutdown()
        thread.join()


@pytest.fixture
def shared(work: Workplace, planted: Planted, monkeypatch: pytest.MonkeyPatch, friend: Friend):
    """`work`, with a Git remote by HTTP and all credentials where its user keeps them."""
    monkeypatch.setenv("HOOK", f"{friend.url}/services/{planted['webhook']}")
    monkeypatch.setenv("PROMETHEUS_TOKEN", planted["prometheus"])
    monkeypatch.setenv("PREFECT_API_KEY", planted["prefect"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", planted["cloud"])
    monkeypatch.setenv("PIP_INDEX_URL", f"https://kim:{planted['index']}@index.example/simple")
    with serving_git(work.top / ".coalmine/remotes") as url:
        with_token = url.replace("://", f"://kim:{planted['git']}@")
        work.git("remote", "set-url", "origin", f"{with_token}/git.git")
        local = work.top / ".dvc/config.local"
        away = f"http://kim:{planted['dvc']}@127.0.0.1:1/dvc"
        local.write_text(f"['remote \"away\"']\n    url = {away}\n    password = {planted['dvc']}\n")
        settings = work.top / "coalmine.yaml"
        prometheus = f"    prometheus: {{url: {friend.url}, token_env: PROMETHEUS_TOKEN}}\n"
        settings.write_text(settings.read_text().rstrip() + f"\n{prometheus}")
        text = (work.top / MODEL_YAML).read_text()
        gates = "  gates:\n    - {gate: query, query: up, at_least: 0}\n"
        notify = "  notify:\n    - {webhook: $HOOK}\n    - {webhook: $HOOK, format: slack}\n"
        (work.top / MODEL_YAML).write_text(text.replace("  gates:\n", gates) + notify)
        work.commit("Gates and notices")
        yield work


def test_no_secret_is_in_anything_that_is_written_or_said(
    shared: Workplace, planted: Planted, friend: Friend, tmp_path: Path
) -> None:
    said: list[Ran] = []

    def run(*words: str, status: int = 0) -> None:
        said.append(shared.run(*words, status=status))

    run("deliver", MODEL, "--version", "1.0.0")
    with asking(shared.url, shared.top / LOANS):
        run("deliver", MODEL, "--version", "1.1.0")
    run("rollback", MODEL)
    _change(shared)
    run("retrain", MODEL)
    for words in (["status"], ["audit", MODEL], ["report", MODEL], ["doctor"], ["status", "--json"]):
        said.append(shared.ended(shared.start(*words)))
    place = ("--router", "gateway_api", "--reconciler", "flux", "--host", "models.example.com")
    prometheus = ("--gateway", "gateways/users", "--prometheus-url", "https://prometheus.example.com")
    here = shared.git("remote", "get-url", "origin")
    shared.git("remote", "set-url", "origin", f"https://kim:{planted['git']}@git.example.com/team/shop.git")
    run("new", "environment", "production", *place, *prometheus)
    flux = (shared.top / "k8s/environments/production/flux.yaml").read_text()
    assert "https://git.example.com/team/shop.git" in flux
    shared.git("remote", "set-url", "origin", here)
    run(*_image_build(tmp_path))

    # Not by luck: each was needed, and used.
    assert friend.paths() >= {f"/services/{planted['webhook']}", "/api/v1/query"}
    assert friend.tokens() == {f"Bearer {planted['prometheus']}"}
    assert planted.in_((shared.top / ".git/config").read_bytes()) == {"git"}
    assert planted.in_((shared.top / ".dvc/config.local").read_bytes()) == {"dvc"}

    assert planted.in_("".join(ran.out + ran.err for ran in said).encode()) == set()
    assert _leaks(shared.top, planted) == {}
    assert _leaks(tmp_path / "tools", planted) == {}
    assert _in_git(shared, planted) == set()


def _change(work: Workplace) -> None:
    """Something to retrain for."""
    work.edit(MODEL_YAML, "LogisticRegression\n", "LogisticRegression\n  params: {C: 0.5}\n")
    work.commit("Another penalty")


def _image_build(folder: Path) -> list[str]:
    """The image's command, with a stand-in for the tool that builds."""
    tools = folder / "tools"
    tools.mkdir()
    (tools / "printed").write_text(json.dumps(INSIDE))
    Tools(tools).install("buildah")
    os.environ["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return ["image", "build", "--push", "--tag", NAME]


def test_no_secret_is_in_what_is_said_when_a_remote_fails(shared: Workplace, planted: Planted) -> None:
    _change(shared)
    dvc = shared.top / ".dvc/config.local"
    dvc.write_text(f"[core]\n    remote = away\n{dvc.read_text()}")
    refused = [shared.run("retrain", MODEL, status=4)]
    dvc.write_text(dvc.read_text().removeprefix("[core]\n    remote = away\n"))
    shared.git("remote", "set-url", "origin", f"http://kim:{planted['git']}@127.0.0.1:1/git.git")
    refused.append(shared.run("retrain", MODEL, status=4))
    refused.append(shared.ended(shared.start("deliver", MODEL, "--version", "1.0.0")))

    text = "".join(ran.out + ran.err for ran in refused)
    assert text.count("127.0.0.1:1") >= 3  # they say which remote
    assert planted.in_(text.encode()) == set(), text
    assert _leaks(shared.top, planted) == {}


def test_no_secret_is_in_what_is_said_when_prometheus_and_a_webhook_fail(
    shared: Workplace, planted: Planted, friend: Friend
) -> None:
    friend.fails = True
    shared.run("deliver", MODEL, "--version", "1.0.0")
    with asking(shared.url, shared.top / LOANS):
        process = shared.start("deliver", MODEL, "--version", "1.1.0")
        events = _awaited_events(shared, "could not be measured")
        shared.run("abort", MODEL)
        ran = shared.ended(process)

    assert f"/services/{planted['webhook']}" in friend.paths()
    assert planted.in_((events + ran.out + ran.err).encode()) == set()
    assert _leaks(shared.top, planted) == {}
    assert _in_git(shared, planted) == set()


def _awaited_events(work: Workplace, words: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        files = (work.top / ".coalmine/rollouts").rglob("events.jsonl")
        text = "".join(file.read_text() for file in files)
        if words in text:
            return text
        time.sleep(0.1)
    raise AssertionError(f"nothing says `{words}`: {text}")


def _leaks(top: Path, planted: Planted) -> dict[str, set[str]]:
    """File to whose secrets are in it, of all files below `top`."""
    found = {}
    for path in top.rglob("*"):
        name = path.relative_to(top).as_posix()
        if path.is_file() and not path.is_symlink() and name not in KEPT_IN:
            leaked = planted.in_(path.read_bytes())
            if leaked:
                found[name] = leaked
    return found


def _in_git(work: Workplace, planted: Planted) -> set[str]:
    """Objects are compressed: each is asked for."""
    objects = work.git("rev-list", "--objects", "--all").splitlines()
    names = "\n".join(line.split()[0] for line in objects)
    content = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=work.top, input=names.encode(), capture_output=True, check=True
    ).stdout
    assert len(content) > 100_000
    return planted.in_(content)
