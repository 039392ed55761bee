"""Numbers from Prometheus, or from what speaks its HTTP API (Mimir, Thanos, VictoriaMetrics).

An instant query, answered with exactly one finite number, or with all the series that it finds. Everything
else is a fault with a kind and words: a query that is empty is not zero, and where one number was meant,
none of several is the right one.
"""

from __future__ import annotations

import math
import os
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx
import orjson

from coalmine.errors import TelemetryUnavailable
from coalmine.settings import PrometheusSettings

LARGEST_ANSWER = 1 << 25  # bytes; one number takes a hundred, one pod's series 40 kB


class Fault(StrEnum):
    """Why there is no number."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    UNAUTHORISED = "unauthorised"
    REFUSED = "refused"  # the server does not understand the query, or will not run it
    BROKEN = "broken"  # the server fails, or what answers is no Prometheus
    INCOMPLETE = "incomplete"  # answered from a part of the data
    EMPTY = "empty"
    SEVERAL = "several"
    TEXT = "text"
    NOT_FINITE = "not finite"


class QueryFailed(TelemetryUnavailable):
    """fault: what kind; the message has the words."""

    def __init__(self, fault: Fault, words: str) -> None:
        super().__init__(words)
        self.fault = fault


@dataclass(frozen=True)
class Instant:
    """One series at the moment `at_s` at which the query was evaluated."""

    labels: Mapping[str, str]
    value: float
    at_s: float


class Prometheus:
    """A server as coalmine.yaml describes it. Several rollouts may share one; connections are kept."""

    def __init__(self, settings: PrometheusSettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/") + "/api/v1/query"
        self._client: httpx.Client | None = None

    def ask(self, query: str) -> float:
        """The one number that `query` is now, by the server's own clock.

        Raises:
            QueryFailed: there is none.
        """
        status, body = self._post(query)
        return number_in(status, body)

    def find(self, query: str) -> list[Instant]:
        """Every series that `query` finds now, by the server's own clock; none is an answer too.

        Raises:
            QueryFailed: no answer, or one that may lack some.
        """
        status, body = self._post(query)
        return series_in(status, body)

    def _post(self, query: str) -> tuple[int, bytes]:
        form = {"query": query, "timeout": f"{self._settings.timeout_s:g}s"}
        headers = self._headers()
        try:
            with self._connected().stream("POST", self._url, data=form, headers=headers) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise QueryFailed(
                            Fault.SEVERAL,
                            f"Prometheus answers with more than {LARGEST_ANSWER >> 20} MiB: aggregate the "
                            "query, for example with sum(...)",
                        )
                return response.status_code, body
        except httpx.TimeoutException as error:
            raise QueryFailed(
                Fault.TIMEOUT,
                f"Prometheus at {self._settings.url} did not answer within {self._settings.timeout_s:g} s",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise QueryFailed(
                Fault.UNREACHABLE,
                f"Prometheus at {self._settings.url} cannot be reached: {str(error) or type(error).__name__}",
            ) from error

    def _headers(self) -> dict[str, str]:
        token = self._token()
        return {
            **({} if token is None else {"authorization": f"Bearer {token}"}),
            **({} if self._settings.tenant is None else {"x-scope-orgid": self._settings.tenant}),
        }

    def _token(self) -> str | None:
        settings = self._settings
        if settings.token_env is not None:
            token = os.environ.get(settings.token_env, "").strip()
            where = f"the environment variable {settings.token_env}"
        elif settings.token_file is not None:
            where = f"the file {settings.token_file}"
            try:
                token = settings.token_file.expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise QueryFailed(
                    Fault.UNAUTHORISED, f"The token for Prometheus cannot be read from {where}: {error}"
                ) from error
        else:
            return None
        if not token.isascii() or not token.isprintable() or not token:
            raise QueryFailed(Fault.UNAUTHORISED, f"There is no token for Prometheus in {where}")
        return token

    def _connected(self) -> httpx.Client:
        if self._client is None:
            trusted = self._settings.ca_file
            try:
                context = ssl.create_default_context(cafile=None if trusted is None else trusted.expanduser())
            except (OSError, ssl.SSLError) as error:
                raise QueryFailed(
                    Fault.UNREACHABLE, f"`prometheus.ca_file` {trusted} holds no certificates: {error}"
                ) from error
            # Not redirected: a token goes to nobody but the server that coalmine.yaml names.
            self._client = httpx.Client(
                verify=context, timeout=self._settings.timeout_s, follow_redirects=False
            )
            weakref.finalize(self, self._client.close)
        return self._client


def number_in(status: int, body: bytes) -> float:
    """The one finite number in an answer of `/api/v1/query`.

    Raises:
        QueryFailed: there is none; says what there is instead.
    """
    answer = _whole_answer_in(status, body)
    try:
        kind, result = answer["data"]["resultType"], answer["data"]["result"]
        match kind:
            case "scalar":
                return _finite(result[1])
            case "vector":
                return _finite(_only(result)["value"][1])
            case "string":
                raise QueryFailed(
                    Fault.TEXT, f"The query returns text, `{str(result[1])[:80]}`, not a number"
                )
            case "matrix":
                raise QueryFailed(
                    Fault.SEVERAL,
                    "The query returns a range of values, not one: take the range selector out, or put a "
                    "function around it, such as rate(...[1m])",
                )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _nonsense(status, body) from error
    raise _nonsense(status, body)


def series_in(status: int, body: bytes) -> list[Instant]:
    """The series in an answer of `/api/v1/query`.

    Raises:
        QueryFailed: it has none to give.
    """
    answer = _whole_answer_in(status, body)
    try:
        return [
            Instant(each["metric"], float(each["value"][1]), float(each["value"][0]))
            for each in answer["data"]["result"]
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _nonsense(status, body) from error


def _whole_answer_in(status: int, body: bytes) -> dict[str, Any]:
    answer = _answer_in(status, body)
    if answer.get("warnings"):
        raise QueryFailed(
            Fault.INCOMPLETE,
            f"Prometheus answered with a warning, so that the number may be wrong: {answer['warnings'][0]}",
        )
    return answer


def _answer_in(status: int, body: bytes) -> dict[str, Any]:
    """What a server answered that could run the query."""
    try:
        answer: Any = orjson.loads(body)
    except ValueError:
        answer = None
    said = str(answer.get("error", "")) if isinstance(answer, dict) else ""
    match status:
        case 200 if isinstance(answer, dict) and answer.get("status") == "success":
            return answer
        case 401 | 403:
            raise QueryFailed(
                Fault.UNAUTHORISED,
                f"Prometheus answers {status}: it asks for another token or tenant than `prometheus` in "
                f"coalmine.yaml gives{f' ({said})' if said else ''}",
            )
        case 400 | 422 if said:
            raise QueryFailed(Fault.REFUSED, f"Prometheus refuses the query: {said}")
        case 503 | 504 if isinstance(answer, dict) and answer.get("errorType") in ("timeout", "canceled"):
            raise QueryFailed(Fault.TIMEOUT, f"Prometheus gave the query up: {said}")
    raise _nonsense(status, body)


def _nonsense(status: int, body: bytes) -> QueryFailed:
    text = body[:120].decode(errors="replace").strip()
    return QueryFailed(
        Fault.BROKEN,
        f"What answers {status} is no Prometheus, or one in trouble: `{text}`. `prometheus.url` in "
        "coalmine.yaml is what stands before /api/v1",
    )


def _only(series: list[dict[str, Any]]) -> dict[str, Any]:
    match series:
        case []:
            raise QueryFailed(Fault.EMPTY, "The query finds nothing: no series matches it now")
        case [{"histogram": _}]:
            raise QueryFailed(
                Fault.TEXT,
                "The query returns a histogram: ask for a number of it, as histogram_quantile does",
            )
        case [one]:
            return one
    raise QueryFailed(
        Fault.SEVERAL,
        f"The query returns {len(series)} series where one was meant: aggregate it, for example with "
        "sum(...)",
    )


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise QueryFailed(
            Fault.NOT_FINITE, f"The query returns {text}, as a division by zero does, which is no measurement"
        )
    return value
