"""The gate `webhook`: an address that is told where the rollout stands, and says what it thinks.

    POST {"model", "version", "rollout", "environment", "candidate", "stage", "weights"}

    2xx        pass, unless the body is JSON with a `verdict` of its own: pass, fail or wait
    409        fail
    the rest   could not be measured: it holds, and never rolls back. A typing error in the URL, an expired
               certificate or a restart of what answers says nothing about the candidate.

A body may have a `sentence` for people beside its verdict. Redirections are not followed.
"""

from __future__ import annotations

import json
import ssl
import threading
import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from coalmine.rollout.gates import Verdict
from coalmine.rollout.ports import Asked, CheckResult
from coalmine.rollout_spec import WebhookSpec

LARGEST_ANSWER = 1 << 16  # bytes
LONGEST_SENTENCE = 500  # characters

_VERDICTS = {"pass": Verdict.PASS, "fail": Verdict.FAIL, "wait": Verdict.INCONCLUSIVE}
_MEANT = {
    Verdict.PASS: "It says that all is well.",
    Verdict.FAIL: "It says that this release should go back.",
    Verdict.INCONCLUSIVE: "It asks to wait.",
}


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """What this system trusts: a megabyte, which all webhooks of a process share."""
    return ssl.create_default_context()


@dataclass(frozen=True)
class AskedAbout:
    """Which rollout a webhook is asked about."""

    model: str
    version: str
    rollout: str
    environment: str


class WebhookCheck:
    def __init__(self, spec: WebhookSpec, about: AskedAbout) -> None:
        self._spec = spec
        self._about = about
        # An address may hold a secret: people are told its host alone.
        self._host = urlsplit(spec.url).netloc.rpartition("@")[2]
        self._asking: threading.Thread | None = None
        self._client = httpx.Client(verify=_trusted(), timeout=spec.timeout_s)
        weakref.finalize(self, self._client.close)

    def look(self, asked: Asked) -> CheckResult:
        """In `timeout_s` at most, whatever the other side does: connecting, looking a name up and an answer
        that drips byte by byte have no common limit otherwise."""
        if self._asking is not None and self._asking.is_alive():
            return self._unknown("has not answered the last time yet")
        said: list[CheckResult] = []
        self._asking = threading.Thread(
            target=lambda: said.append(self._post(self._body(asked))),
            name=f"webhook {self._host}",
            daemon=True,
        )
        self._asking.start()
        self._asking.join(self._spec.timeout_s)
        return said[0] if said else self._unknown(f"did not answer within {self._spec.timeout_s:g} s")

    def _body(self, asked: Asked) -> bytes:
        content = {
            "model": self._about.model,
            "version": self._about.version,
            "rollout": self._about.rollout,
            "environment": self._about.environment,
            "candidate": asked.candidate.value,
            "stage": asked.stage,
            "weights": {slot.value: weight for slot, weight in sorted(asked.weights.items())},
        }
        return json.dumps(content).encode()

    def _post(self, body: bytes) -> CheckResult:
        headers = {"content-type": "application/json"}
        try:
            with self._client.stream("POST", self._spec.url, content=body, headers=headers) as response:
                answer = b""
                for chunk in response.iter_bytes():
                    answer += chunk
                    if len(answer) > LARGEST_ANSWER:
                        return self._unknown(f"answers with more than {LARGEST_ANSWER >> 10} KiB")
                return self._result(response.status_code, answer)
        except httpx.TimeoutException:
            return self._unknown(f"did not answer within {self._spec.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            return self._unknown(f"cannot be asked: {str(error) or type(error).__name__}")

    def _result(self, status: int, body: bytes) -> CheckResult:
        if not (200 <= status < 300 or status == 409):
            return self._unknown(f"answers {status}; 2xx would be a pass, 409 a failure")
        try:
            answer = answer_in(body)
        except ValueError as error:
            return self._unknown(f"answers {status} with what says nothing: {error}")
        verdict = Verdict.FAIL if status == 409 else _VERDICTS[answer.verdict]
        return CheckResult(verdict, answer.sentence or _MEANT[verdict])

    def _unknown(self, what: str) -> CheckResult:
        return CheckResult(Verdict.ERROR, f"The webhook at {self._host} {what}.")


class WebhookAnswer(BaseModel):
    """What may stand in an answer; other keys are not looked at."""

    verdict: Literal["pass", "fail", "wait"] = "pass"
    sentence: str = Field("", max_length=LONGEST_SENTENCE)


def answer_in(body: bytes) -> WebhookAnswer:
    """A body that is no JSON object is no answer in itself: then the status is.

    Raises:
        ValueError: a verdict that none is, or a sentence that is too long.
    """
    try:
        content = json.loads(body)
    except ValueError:
        return WebhookAnswer()
    if not isinstance(content, dict):
        return WebhookAnswer()
    try:
        answer = WebhookAnswer.model_validate(content)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}") from error
    return answer.model_copy(update={"sentence": " ".join(answer.sentence.split())})
