"""coalmine.serving with its telemetry replaced by nothing, to see what telemetry costs.

python -m benchmarks.serving.silent, with the server's own options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from coalmine.serving import app
from coalmine.serving.__main__ import main
from coalmine.serving.audience import Audience
from coalmine.serving.telemetry import Telemetry


class Silent(Telemetry):
    def answered(self, audience: Audience, code: int, duration_s: float) -> None:
        pass

    def predicted(self, audience: Audience, outputs: Mapping[str, Sequence[float]]) -> None:
        pass


if __name__ == "__main__":
    vars(app)["Telemetry"] = Silent
    os._exit(main())
