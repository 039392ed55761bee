from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from coalmine.serving import logs
from coalmine.serving.logs import TOLD_PER_MINUTE, event
from tests.serving.in_process import Client
from tests.serving.releases import Built, tensors

JANE = "Jane Doe"
ABOUT = {"model": "delays", "version": "1.2.0", "slot": "blue"}

Said = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for module, name in ((warnings, "showwarning"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What stands on stderr since the last call, each line being an object."""
    return _configured(monkeypatch, with_values=False)


@pytest.fixture
def said_with_values(monkeypatch: pytest.MonkeyPatch) -> Said:
    return _configured(monkeypatch, with_values=True)


def _configured(monkeypatch: pytest.MonkeyPatch, with_values: bool) -> Said:
    stderr = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        logs.configure(**ABOUT, with_values=with_values)

    def said() -> list[dict[str, Any]]:
        lines = stderr.getvalue().splitlines()
        stderr.truncate(0)
        stderr.seek(0)
        return [json.loads(line) for line in lines]

    return said


def a_model_fails() -> ValueError:
    try:
        float(JANE)
    except ValueError as error:
        return error
    raise AssertionError


# --- what a line holds -------------------------------------------------------------------


def test_an_event_is_one_object_with_its_time_and_whose_it_is(said: Said) -> None:
    event("refused", kind="schema", request_id="r-1", trace_id=None, rows=3)
    (line,) = said()
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "level": "info",
        "event": "refused",
        **ABOUT,
        "kind": "schema",
        "request_id": "r-1",
        "rows": 3,
    }


def test_the_time_is_utc_as_rfc_3339_has_it(said: Said) -> None:
    logging.getLogger().handlers[0].handle(record("refused", created_s=86_400.25))
    assert said()[0]["time"] == "1970-01-02T00:00:00.250Z"


def test_an_event_of_several_lines_stays_one_line(said: Said) -> None:
    event("refused", kind="a\nb")
    (line,) = said()
    assert line["kind"] == "a\nb"


# --- no values ---------------------------------------------------------------------------


def test_a_models_exception_is_told_by_type_and_place_without_the_value_in_its_message(said: Said) -> None:
    event("model_failed", logging.ERROR, a_model_fails(), request_id="r-1")
    (line,) = said()
    assert "Jane" not in str(line)
    (error,) = line["errors"]
    assert error["type"] == "ValueError"
    place, function = error["frames"][-1].rsplit(" ", 1)
    assert function == "a_model_fails"
    assert place.startswith(f"{__file__}:")
    assert place.rsplit(":", 1)[1].isdigit()


class Unlucky:
    """A model that fails on input that its schema allows."""

    def __init__(self, model: Any) -> None:
        self.classes_ = model.classes_

    def predict_proba(self, _: object) -> object:
        raise a_model_fails()


def test_nor_does_a_request_on_which_the_model_fails_leave_its_values_in_the_log(
    binary: Built, said: Said
) -> None:
    client = Client(binary, Unlucky(binary.model))
    answer = client.infer(json={"inputs": tensors(binary, [0])})
    assert answer.status_code == 500
    failed, refused = said()
    assert (failed["event"], failed["errors"][0]["type"]) == ("model_failed", "ValueError")
    assert (refused["event"], refused["kind"]) == ("refused", "model")
    assert refused["request_id"] == answer.headers["x-request-id"]
    assert "Jane" not in f"{failed}{refused}{answer.text}"


def test_so_are_the_exceptions_that_it_came_from(said: Said) -> None:
    try:
        try:
            raise KeyError(JANE)
        except KeyError as cause:
            raise RuntimeError(f"no such customer: {JANE}") from cause
    except RuntimeError as error:
        event("model_failed", logging.ERROR, error)
    (line,) = said()
    assert [each["type"] for each in line["errors"]] == ["RuntimeError", "KeyError"]
    assert "Jane" not in str(line)


def test_an_exception_deep_in_a_recursion_is_told_by_its_innermost_frames(said: Said) -> None:
    def deeper(level: int) -> None:
        if level:
            deeper(level - 1)
        raise ValueError(JANE)

    try:
        deeper(500)
    except ValueError as error:
        event("model_failed", logging.ERROR, error)
    (line,) = said()
    assert len(line["errors"][0]["frames"]) == 20
    assert all(frame.endswith(" deeper") for frame in line["errors"][0]["frames"])


def say_formatted() -> None:
    logging.getLogger("library").error("no such customer: %s", JANE)


def say_in_the_message() -> None:
    logging.getLogger("library").error(f"no such customer: {JANE}")


def say_with_an_exception() -> None:
    logging.getLogger("library").error("failed", exc_info=a_model_fails())


def say_what_cannot_be_formatted() -> None:
    logging.getLogger("library").error("%d customers", JANE)


def warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"{JANE} is new", stacklevel=1)


@pytest.mark.parametrize(
    ("says", "kind", "with_values"),
    [
        pytest.param(say_formatted, "library", "no such customer: Jane Doe", id="arguments"),
        pytest.param(say_in_the_message, "library", "no such customer: Jane Doe", id="message"),
        pytest.param(say_with_an_exception, "library", "failed", id="exception"),
        pytest.param(say_what_cannot_be_formatted, "library", "%d customers", id="wrong arguments"),
        pytest.param(warn, "UserWarning", "Jane Doe is new", id="warning"),
    ],
)
def test_what_a_library_says_is_told_by_its_place_and_by_its_words_only_when_asked_for(
    says: Callable[[], None], kind: str, with_values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _configured(monkeypatch, with_values=False)
    says()
    (line,) = said()
    assert "Jane" not in str(line)
    assert line["kind"] == kind
    assert line["at"].startswith(f"{__file__}:")

    said = _configured(monkeypatch, with_values=True)
    says()
    (line,) = said()
    assert line["message"] == with_values


def test_a_library_that_only_informs_is_not_told(said: Said) -> None:
    logging.getLogger("library").info("hello")
    assert said() == []


def test_the_words_of_an_exception_are_there_when_asked_for_and_bounded(said_with_values: Said) -> None:
    event("model_failed", logging.ERROR, a_model_fails())
    event("model_failed", logging.ERROR, ValueError("x" * 1_000_000))
    first, second = said_with_values()
    assert first["errors"][0]["message"] == "ValueError: could not convert string to float: 'Jane Doe'"
    assert len(second["errors"][0]["message"]) == 2000


def test_a_line_that_cannot_be_written_is_lost_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        told = ""
        writes = 0

        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            self.writes += 1
            if self.writes == 1:
                raise OSError(28, "No space left on device")
            self.told += text
            return len(text)

        def flush(self) -> None:
            pass

    full = FullDisk()
    monkeypatch.setattr(sys, "stderr", full)
    logs.configure(**ABOUT, with_values=False)
    say_formatted()
    assert (full.writes, full.told) == (1, "")


DEATHS = {
    "main": "float('Jane Doe')",
    "thread": "t = threading.Thread(target=float, args=('Jane Doe',)); t.start(); t.join()",
    "destructor": "class D:\n    def __del__(self): float('Jane Doe')\nD()",
    "task": "import asyncio\nasync def main():\n    asyncio.ensure_future(fail())\n"
    "    await asyncio.sleep(0)\n    await asyncio.sleep(0)\n"
    "async def fail(): float('Jane Doe')\nasyncio.run(main())",
}


@pytest.mark.parametrize("where", DEATHS)
def test_an_exception_that_nobody_caught_is_a_line_without_its_message(where: str) -> None:
    ran = in_process(DEATHS[where])
    (line,) = [json.loads(each) for each in ran.stderr.splitlines()]
    assert line["errors"][0]["type"] == "ValueError"
    assert "Jane" not in ran.stderr


def test_ctrl_c_is_no_failure() -> None:
    assert in_process("raise KeyboardInterrupt").stderr == ""


# --- not too many ------------------------------------------------------------------------


def record(name: str, created_s: float, kind: str = "schema") -> logging.LogRecord:
    made = logging.LogRecord("coalmine.serving", logging.INFO, "", 0, name, (), None)
    made.created = created_s
    made.coalmine_fields = {"kind": kind}
    return made


def test_a_flood_is_told_a_few_times_a_minute_and_counted(said: Said) -> None:
    handler = logging.getLogger().handlers[0]
    for moment in range(1000):
        handler.handle(record("refused", 100.0 + moment / 100))
    handler.handle(record("refused", 100.0, kind="too_large"))
    assert [line["kind"] for line in said()] == ["schema"] * TOLD_PER_MINUTE + ["too_large"]

    handler.handle(record("ended", 161.0))
    counted, after = said()
    assert (counted["event"], counted["of"], counted["kind"]) == ("not_told", "refused", "schema")
    assert counted["count"] == 1000 - TOLD_PER_MINUTE
    assert after["event"] == "ended"

    handler.handle(record("refused", 162.0))
    assert [line["event"] for line in said()] == ["refused"]


def test_a_librarys_flood_is_told_by_its_place(said: Said) -> None:
    for _ in range(3 * TOLD_PER_MINUTE):
        say_formatted()
    say_in_the_message()
    assert len(said()) == TOLD_PER_MINUTE + 1


def test_a_clock_that_is_set_back_silences_nobody(said: Said) -> None:
    handler = logging.getLogger().handlers[0]
    for _ in range(TOLD_PER_MINUTE):
        handler.handle(record("refused", 1_000_000.0))
    handler.handle(record("refused", 5.0))
    assert len(said()) == TOLD_PER_MINUTE + 1


def test_the_last_count_is_told_at_the_end(said: Said) -> None:
    for _ in range(TOLD_PER_MINUTE + 5):
        event("refused", kind="schema")
    logging.getLogger().handlers[0].close()
    *_, last = said()
    assert (last["event"], last["count"]) == ("not_told", 5)


# --- on a terminal -----------------------------------------------------------------------


def test_on_a_terminal_people_read_it() -> None:
    ours, theirs = pty.openpty()
    script = (
        f"logs.event('refused', kind='schema', request_id={'a' + chr(27) + '[2J'!r})\n"
        "try:\n    float('Jane Doe')\nexcept ValueError as error:\n"
        "    logs.event('model_failed', logging.ERROR, error)"
    )
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        in_process(script, stderr=theirs)
        os.close(theirs)
        text = b""
        while chunk := read_terminal(terminal):
            text += chunk
    first, second, third, fourth = text.decode().splitlines()
    assert first.split(" ", 1)[1] == (
        r'info refused model=delays version=1.2.0 slot=blue kind=schema request_id="a\u001b[2J"'
    )
    assert second.endswith("error model_failed model=delays version=1.2.0 slot=blue")
    assert third == "  ValueError"
    assert fourth == "    <string>:4 <module>"


def read_terminal(terminal: Any) -> bytes:
    try:
        return bytes(terminal.read(65536))
    except OSError:  # how Linux says that nobody holds the other end any more
        return b""


def in_process(script: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    setup = "import logging, threading; from coalmine.serving import logs"
    lines = f"{setup}; logs.configure('delays', '1.2.0', 'blue', False)\n{script}"
    return subprocess.run(
        [sys.executable, "-c", lines],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
        timeout=60,
        check=False,
    )
