from __future__ import annotations

import pytest

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Counters
from coalmine.telemetry.access_log import BOUNDS_MS, COPIES, REQUESTS, SERIES, counters
from coalmine.telemetry.exposition import parse

KNOWN = 'envoy_cluster_membership_total{envoy_cluster_name="m-blue"} 1\n'
SERIES_OF_ONE = 'envoy_coalmine_requests_ms_count{cluster="m-blue",status="200",flags="-"}'


def counted(exposition: str) -> dict[str, Counters]:
    return counters(parse(exposition, SERIES), ["m-blue"])["m-blue"]


@pytest.mark.parametrize(
    ("exposition", "said"),
    [
        pytest.param(f"{SERIES_OF_ONE} NaN", "no count", id="NaN"),
        pytest.param(f"{SERIES_OF_ONE} +Inf", "no count", id="infinite"),
        pytest.param(f"{SERIES_OF_ONE} -1", "no count", id="negative"),
        pytest.param(f"{SERIES_OF_ONE} 1.5", "no count", id="fraction"),
        pytest.param(f"{SERIES_OF_ONE} many", "no number", id="words"),
        pytest.param(f"{SERIES_OF_ONE} 1\n{SERIES_OF_ONE} 2", "twice", id="one series twice"),
        pytest.param("<html>no statistics</html>", "line that is none", id="something else"),
    ],
)
def test_what_is_no_count_is_never_taken_for_one(exposition: str, said: str) -> None:
    with pytest.raises(TelemetryUnavailable, match=said):
        counted(KNOWN + exposition)


def test_counting_by_other_bounds_is_refused() -> None:
    bucket = 'envoy_coalmine_requests_ms_bucket{cluster="m-blue",status="200",flags="-",le="4"} 1\n'
    with pytest.raises(TelemetryUnavailable, match="other bounds"):
        counted(KNOWN + bucket)


@pytest.mark.parametrize("histogram", [REQUESTS, COPIES])
def test_a_cluster_that_envoy_knows_and_nobody_has_used_has_counted_zero(histogram: str) -> None:
    zero = counted(KNOWN)[histogram]
    assert (zero.requests, zero.failures) == (0, 0)
    assert zero.durations == tuple((bound / 1000, 0) for bound in BOUNDS_MS)


def test_copies_are_not_counted_with_the_users() -> None:
    both = counted(KNOWN + f"{SERIES_OF_ONE} 3\n" + SERIES_OF_ONE.replace("requests", "copies") + " 5\n")
    assert (both[REQUESTS].requests, both[COPIES].requests) == (3, 5)
