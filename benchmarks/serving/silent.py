"""coalmine.serving with its telemetry replaced by nothing, to see what telemetry costs.

python -m benchmarks.serving.silent, with the server's own options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from coalmine.serving import app
from coalmine.serving.__main__ import main
from coalmine.serving.audience import Audience
from coalmine.serving.binned import BinnedRows
from coalmine.serving.telemetry import Telemetry
from coalmine.serving.tensors import Rows


class Silent(Telemetry):
    def answered(self, audience: Audience, code: int, duration_s: float) -> None:
        pass

    def predicted(self, audience: Audience, outputs: Mapping[str, Sequence[float]]) -> None:
        pass


class Unbinned(BinnedRows):
    def add(self, rows: Rows, outputs: Mapping[str, Sequence[Any]]) -> None:
        pass


if __name__ == "__main__":
    vars(app)["Telemetry"], vars(app)["BinnedRows"] = Silent, Unbinned
    os._exit(main())
