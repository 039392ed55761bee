"""What the server says on stderr: one JSON object a line, or words for people on a terminal.

Nothing that a user sent is in it, unless it is asked for. Values hide in the messages of
exceptions (`could not convert string to float: 'Jane Doe'`), of warnings and of libraries' own log
records, so these are told by their type and place, file and line, and not by their words. The
same holds for what Python itself would print: an exception that nobody caught, in any thread.

A kind of event is told so many times a minute and then counted, so that a flood of refusals fills
no disk. Rotation is the business of whoever reads stderr.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

TOLD_PER_MINUTE = 20
_MINUTE_S = 60.0
_FRAMES = 20  # the innermost; a recursion without end has a thousand
_CAUSES = 5
_MESSAGE = 2000  # characters

_logger = logging.getLogger("coalmine.serving")
# Attributes of a record: what an event says of itself, and words that may hold values.
_FIELDS, _WORDS = "coalmine_fields", "coalmine_words"


def event(
    name: str,
    level: int = logging.INFO,
    error: BaseException | None = None,
    **fields: str | float | None,
) -> None:
    """One event, such as event("refused", kind="schema", request_id=..., trace_id=...).

    name: lower case with underscores; `kind` in the fields tells events of one name apart when they
        are counted. fields: never what a user sent; those that are None are left out.
    """
    _logger.log(level, name, exc_info=error, extra={_FIELDS: fields})


def configure(model: str, version: str, slot: str, with_values: bool) -> None:
    """From now on everything that this process logs, or warns of, or dies of, is told here.

    with_values: the words of exceptions, warnings and libraries too, with the values in them.
    """
    about = {"model": model, "version": version, "slot": slot}
    lines: _Lines = _ForPeople(about, with_values) if sys.stderr.isatty() else _Json(about, with_values)
    logging.basicConfig(handlers=[_Stderr(sys.stderr, lines)], level=logging.WARNING, force=True)
    _logger.setLevel(logging.INFO)
    warnings.showwarning = _log_warning
    sys.excepthook = lambda _, error, __: _log_death(error)
    threading.excepthook = lambda death: _log_death(death.exc_value)
    sys.unraisablehook = lambda death: _log_death(death.exc_value)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    fields = {"kind": category.__name__, "at": f"{filename}:{lineno}"}
    _logger.warning("warning", extra={_FIELDS: fields, _WORDS: str(message)})


def _log_death(error: BaseException | None) -> None:
    if not isinstance(error, (KeyboardInterrupt, SystemExit)):
        _logger.critical("uncaught", exc_info=error, extra={_FIELDS: {}})


class _Lines(logging.Formatter):
    """A record as what may be told of it; how it is written is the subclasses'."""

    def __init__(self, about: Mapping[str, str], with_values: bool) -> None:
        super().__init__()
        self._about = about
        self._with_values = with_values

    def told(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = getattr(record, _FIELDS, None)
        if fields is None:
            fields = {"kind": record.name, "at": f"{record.pathname}:{record.lineno}"}
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "event": _name(record),
            **self._about,
            **{name: value for name, value in fields.items() if value is not None},
        }
        if self._with_values and (words := _words(record)):
            line["message"] = words[:_MESSAGE]
        if record.exc_info and record.exc_info[1] is not None:
            line["errors"] = [self._error(each) for each in _chain(record.exc_info[1])]
        return line

    def _error(self, error: BaseException) -> dict[str, Any]:
        frames = deque(traceback.walk_tb(error.__traceback__), _FRAMES)
        said: dict[str, Any] = {
            "type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
            "frames": [f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}" for frame, line in frames],
        }
        if self._with_values:
            said["message"] = "".join(traceback.format_exception_only(error)).strip()[:_MESSAGE]
        return said


class _Json(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.told(record), default=str)


class _ForPeople(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        line = self.told(record)
        errors = line.pop("errors", [])
        head = f"{line.pop('time')} {line.pop('level')} {line.pop('event')}"
        told = [" ".join([head, *(f"{name}={_printable(value)}" for name, value in line.items())])]
        for error in errors:
            told.append(f"  {error['type']}{': ' if 'message' in error else ''}{error.get('message', '')}")
            told += [f"    {frame}" for frame in error["frames"]]
        return "\n".join(_printable(each) for each in told)


class _Stderr(logging.StreamHandler[TextIO]):
    """Tells each kind of event so often a minute, and then how many more there were.

    Counts come with the first event after their minute, or when the handler is closed.
    """

    def __init__(self, stream: TextIO, lines: _Lines) -> None:
        super().__init__(stream)
        self.setFormatter(lines)
        self._seen: dict[tuple[str, str], int] = {}
        self._minute_ends_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if not 0 < self._minute_ends_s - record.created <= _MINUTE_S:  # over, or the clock was set
            self._tell_rest()
            self._minute_ends_s = record.created + _MINUTE_S
        kind = _kind(record)
        seen = self._seen[kind] = self._seen.get(kind, 0) + 1
        if seen <= TOLD_PER_MINUTE:
            super().emit(record)

    def close(self) -> None:
        self.acquire()
        try:
            self._tell_rest()
        finally:
            self.release()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A line that cannot be written is lost: the standard's report of it quotes the message."""

    def _tell_rest(self) -> None:
        seen, self._seen = self._seen, {}
        for (name, kind), count in seen.items():
            if count > TOLD_PER_MINUTE:
                fields = {"of": name, "kind": kind or None, "count": count - TOLD_PER_MINUTE}
                record = logging.LogRecord(_logger.name, logging.WARNING, "", 0, "not_told", (), None)
                setattr(record, _FIELDS, fields)
                super().emit(record)


def _kind(record: logging.LogRecord) -> tuple[str, str]:
    fields = getattr(record, _FIELDS, None)
    if fields is None:
        return "library", f"{record.name} {record.pathname}:{record.lineno}"
    return _name(record), str(fields.get("kind") or "")


def _name(record: logging.LogRecord) -> str:
    return str(record.msg) if hasattr(record, _FIELDS) else "library"


def _words(record: logging.LogRecord) -> str:
    """What a library said, or a warning; an event has no more words than its name."""
    if hasattr(record, _FIELDS):
        return str(getattr(record, _WORDS, ""))
    try:
        return record.getMessage()
    except Exception:  # a format that does not fit its arguments
        return str(record.msg)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it came from."""
    for _ in range(_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(value: object) -> str:
    """Without what would steer the terminal."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)
