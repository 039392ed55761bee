from __future__ import annotations

import pytest

from coalmine.serving.tracing import TraceContext, parse

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(f"00-{TRACE}-{PARENT}-01", id="sampled"),
        pytest.param(f"00-{TRACE}-{PARENT}-00", id="not sampled"),
        pytest.param(f"00-{TRACE}-{PARENT}-ff", id="flags that are not known yet"),
        pytest.param(f"00-{'0' * 31}1-{'0' * 15}1-00", id="ids of almost only zeros"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01", id="a later version of the same form"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-", id="a later version with a dash behind it"),
        pytest.param(f"01-{TRACE}-{PARENT}-01-what_will-be", id="a later version with more behind it"),
    ],
)
def test_a_trace_is_read_and_its_header_kept_as_it_came(traceparent: str) -> None:
    assert parse(traceparent) == TraceContext(traceparent, TRACE if TRACE in traceparent else "0" * 31 + "1")


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(None, id="no header"),
        pytest.param("", id="empty"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01", id="the forbidden version"),
        pytest.param(f"ff-{TRACE}-{PARENT}-01-more", id="the forbidden version with a tail"),
        pytest.param(f"00-{'0' * 32}-{PARENT}-01", id="trace id of zeros"),
        pytest.param(f"cc-{'0' * 32}-{PARENT}-01", id="trace id of zeros in a later version"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="parent id of zeros"),
        pytest.param(f"00-{TRACE.upper()}-{PARENT}-01", id="trace id in upper case"),
        pytest.param(f"00-{TRACE}-{PARENT.upper()}-01", id="parent id in upper case"),
        pytest.param(f"CC-{TRACE}-{PARENT}-01", id="version in upper case"),
        pytest.param(f"00-{TRACE}-{PARENT}-0A", id="flags in upper case"),
        pytest.param(f"00-{TRACE[:-1]}-{PARENT}-01", id="trace id too short"),
        pytest.param(f"00-{TRACE}0-{PARENT}-01", id="trace id too long"),
        pytest.param(f"00-{TRACE}-{PARENT[:-1]}-01", id="parent id too short"),
        pytest.param(f"00-{TRACE}-{PARENT}-1", id="flags too short"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-", id="version 00 with a dash behind it"),
        pytest.param(f"00-{TRACE}-{PARENT}-01-more", id="version 00 with more behind it"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01.more", id="a later version, its tail without a dash"),
        pytest.param(f"cc-{TRACE}-{PARENT}-0", id="a later version, too short"),
        pytest.param(f"cc-{TRACE}-{PARENT}-01-{'x' * 10_000}", id="a tail without end"),
        pytest.param(f"0-{TRACE}-{PARENT}-01", id="version too short"),
        pytest.param(f"00-{TRACE}-{PARENT}-01\n", id="a newline at the end"),
        pytest.param(f" 00-{TRACE}-{PARENT}-01", id="a space before it"),
        pytest.param(f"00_{TRACE}_{PARENT}_01", id="other dashes"),
        pytest.param(f"00-{TRACE[:-1]}٣-{PARENT}-01", id="a digit of another script"),
    ],
)
def test_what_the_standard_does_not_allow_is_no_trace(traceparent: str | None) -> None:
    assert parse(traceparent) is None
