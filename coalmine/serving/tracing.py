"""The trace that a request belongs to, by the W3C's `traceparent` header, read and passed on.

https://www.w3.org/TR/trace-context/, section 3.2: `version-traceid-parentid-flags` in lower-case hex,
ids not all zero, version ff forbidden, version 00 without anything behind its flags. A higher
version is read by its first 55 characters, and what follows a dash behind them is left alone.

The trace stands in log lines and payload events, and both headers go back with the answer as they
came; `tracestate` is never looked into, and belongs to a `traceparent` that can be read. The server
makes no span of its own: it calls nobody, so such a span would only repeat what the proxy's says, and
an exporter is one more thing that can fail or wait beside a request.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# A tail is of any form in a later version; this long is still a header and not an attack.
_TAIL = r"(?:-[!-~]{0,256})?"
_IDS = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_match = re.compile(rf"(?:00{_IDS}|(?!00|ff)[0-9a-f]{{2}}{_IDS}{_TAIL})\Z").match


class TraceContext(NamedTuple):
    """traceparent: the header as it came. trace_id: 32 hex digits."""

    traceparent: str
    trace_id: str


def parse(traceparent: str | None) -> TraceContext | None:
    """None: no header, or none that the standard allows; its trace begins anew elsewhere then."""
    if traceparent is None or _match(traceparent) is None:
        return None
    return TraceContext(traceparent, traceparent[3:35])
