"""Around one release: it is foreseen, told of once, approved in somebody's name, and computed again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from coalmine.cli import ROLLED_BACK
from coalmine.errors import IntegrityError, NotFound
from tests.local.harness import eventually
from tests.scenarios.lending import LOANS
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace

# Two cores that others use too train three releases first.
pytestmark = pytest.mark.timeout(600)

MODEL_YAML = f"models/{MODEL}/model.yaml"


@contextmanager
def inbox() -> Iterator[tuple[str, list[Any]]]:
    """A service that takes notices in."""
    bodies: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", bodies
    finally:
        server.shutdown()
        server.server_close()


def test_a_release_that_waits_for_a_person_is_foreseen_told_of_approved_and_computed_again(
    serving: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with inbox() as (url, notices), asking(serving.url, serving.top / LOANS) as users:
        monkeypatch.setenv("RELEASES_WEBHOOK", url)
        approval = "    - {gate: approval, before: bake}\n"
        serving.edit(
            MODEL_YAML, "  gates:\n", f"  notify: [{{webhook: $RELEASES_WEBHOOK}}]\n  gates:\n{approval}"
        )
        serving.commit("Ask a person")
        users.await_requests(50)

        foreseen = serving.run("plan", MODEL, "--json").json
        assert foreseen["source"].startswith("measured for 10 s")
        assert foreseen["foreseen"]["users"]["requests_per_s"] > 1
        assert foreseen["foreseen"]["not_foreseen"] == ["approval"]

        delivery = serving.start("deliver", MODEL, "--version", "1.1.0", "--json")
        eventually(lambda: "needs approval: " in serving.run("status").out, "it waits for a person", 120)
        assert f"coalmine approve {MODEL}" in serving.run("status").out
        serving.run("approve", MODEL)
        ended = serving.ended(delivery).json
    assert ended["promoted"]
    rollout = ended["rollout"]

    told = [(notice["told"], notice["over"]) for notice in notices]
    assert told == [
        ("started", False), ("advanced", False), ("advanced", False), ("needs-you", False),
        ("needs-you", True), ("advanced", False), ("promoted", False),
    ]  # fmt: skip
    assert "Approved by Kim" in notices[4]["sentence"]
    assert {notice["rollout"] for notice in notices} == {rollout}
    assert serving.run("status", "--json").json[0]["undelivered"] == []

    equal = serving.run("replay", rollout, "--json").json
    assert equal["difference"] is None
    assert equal["source"] == f"commit {serving.head()[:12]}"
    (serving.top / "other.yaml").write_text("rollout: {stages: [10], poll_s: 0.25}\n")
    other = serving.run("replay", rollout, "--plan", "other.yaml").out
    assert "on the record cannot say: this plan would be in the stage “10 %”" in other
    unknown = serving.run("replay", "20000101T000000-v9.9.9", status=NotFound.exit_code)
    assert rollout in unknown.err
    page = serving.run("report", MODEL).out.strip()
    assert "Approved by Kim" in (serving.top / page).read_text(encoding="utf-8")


def test_a_journal_that_was_edited_while_nothing_was_recorded_yet_is_found_out(serving: Workplace) -> None:
    with asking(serving.url, serving.top / LOANS):
        rollout = serving.run("deliver", MODEL, "--json", status=ROLLED_BACK).json["rollout"]
    assert "Equal: " in serving.run("replay", rollout).out
    # As if the closing commit had never been: the journal of this machine is all that is left.
    serving.git("reset", "--quiet", "--hard", "HEAD~1")
    assert "Equal: " in serving.run("replay", rollout).out
    ticks = serving.top / f".coalmine/rollouts/local/{MODEL}/{rollout}/ticks.jsonl"
    lines = [json.loads(line) for line in ticks.read_text().splitlines()]
    next(line for line in lines if "poll" in line)["poll"]["candidate"]["failures"] += 1
    ticks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    edited = serving.run("replay", rollout, status=IntegrityError.exit_code)
    assert "NOT EQUAL" in edited.out
    assert "recorded: " in edited.out
