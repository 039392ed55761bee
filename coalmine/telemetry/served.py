"""Which release each server says that it serves, by digest: a number of its own /metrics.

A server of an older version of coalmine does not say.
"""

from __future__ import annotations

from collections.abc import Iterable

from coalmine.endpoint import Endpoint, Unreachable
from coalmine.errors import TelemetryUnavailable
from coalmine.telemetry.answers import LARGEST_ANSWER, SERVER_TIMEOUT_S
from coalmine.telemetry.exposition import parse
from coalmine.telemetry.prometheus import Instant

_RELEASE = "coalmine_release"


def served_at(port: int) -> str | None:
    """By the server that listens at `port` of this machine.

    Raises:
        TelemetryUnavailable: nobody answers there, or no model server.
    """
    try:
        answer = Endpoint(f"127.0.0.1:{port}", SERVER_TIMEOUT_S, LARGEST_ANSWER).get("/metrics")
    except Unreachable as error:
        raise TelemetryUnavailable(f"it gives no /metrics ({error})") from error
    if answer.status != 200:
        raise TelemetryUnavailable(f"it answers {answer.status} to /metrics")
    samples = list(parse(answer.body.decode(errors="replace"), (_RELEASE,)))
    return samples[0].series.labels.get("digest") if samples else None


def query(namespace: str) -> str:
    """For all the pods of a namespace at once."""
    return f'{_RELEASE}{{namespace="{namespace}"}}'


def served_by_pod(found: Iterable[Instant]) -> dict[str, str]:
    """Pod to digest."""
    return {each.labels["pod"]: each.labels.get("digest", "") for each in found if "pod" in each.labels}
