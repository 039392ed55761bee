"""What users ask about, counted into the bins of the release's reference: one row of each request.

The rows of one request are alike and its requests need not be, so that one row each is what a test may
take for independent (coalmine.triggers.drift), and a request of many rows costs what one of a single row
does. Rows are kept as they came until there are some hundred, or somebody looks: counting many at once
takes numpy a fraction of what one takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coalmine.evaluation.reference import Reference, counting
from coalmine.manifest import Tensor
from coalmine.serving.tensors import Rows

_AT_ONCE = 128
_HEAD = """# HELP coalmine_binned_total Requests of all but testers, a row of each, by bin of reference.json
# TYPE coalmine_binned_total counter"""


class BinnedRows:
    """Written by the event loop alone.

    columns: what the model takes, in its order. fixed: labels of every series.
    """

    def __init__(self, reference: Reference, columns: Sequence[Tensor], fixed: Mapping[str, str]) -> None:
        self._names = [each.name for each in columns]
        *features, score = reference.distributions
        self._output = score.name
        self._places = [self._names.index(each.name) for each in features]
        self._count_in = [counting(each) for each in reference.distributions]
        self._counts = [np.zeros(len(each.rows), dtype=np.int64) for each in reference.distributions]
        self._series = [
            _series({**fixed, "of": each.of, "name": each.name}) for each in reference.distributions
        ]
        self._requests = 0
        self._packed: list[bytes] = []
        self._plain: list[list[Any]] = []
        self._scores: list[float] = []

    def add(self, rows: Rows, outputs: Mapping[str, Sequence[Any]]) -> None:
        """rows: a request's, joined; outputs: what was answered to them."""
        chosen = self._requests % rows.count  # each place in its turn: a request may be in an order
        self._requests += 1
        self._scores.append(outputs[self._output][chosen])
        if rows.columns is None:
            assert rows.packed is not None
            self._packed.append(rows.packed)
        else:
            columns = rows.columns
            self._plain.append([columns[name][chosen] for name in self._names])
        if len(self._scores) >= _AT_ONCE:
            self._count()

    def exposition(self) -> bytes:
        """Counters by feature or score, its name, and bin, in Prometheus's text format. Put together here:
        its client takes ten times as long, and a model has hundreds of bins."""
        self._count()
        lines = [_HEAD]
        for series, counts in zip(self._series, self._counts, strict=True):
            lines += [f'{series}bin="{place}"}} {count}' for place, count in enumerate(counts.tolist())]
        return "\n".join([*lines, ""]).encode()

    def _count(self) -> None:
        if self._packed:
            matrix = np.frombuffer(b"".join(self._packed)).reshape(len(self._packed), -1)
            self._count_features(list(matrix.T))
        if self._plain:
            self._count_features(list(zip(*self._plain, strict=True)))
        if self._scores:
            self._counts[-1] += self._count_in[-1](self._scores)
        self._packed, self._plain, self._scores = [], [], []

    def _count_features(self, columns: Sequence[Any]) -> None:
        for place, count, counts in zip(self._places, self._count_in, self._counts, strict=False):
            counts += count(columns[place])


def _series(labels: Mapping[str, str]) -> str:
    written = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"coalmine_binned_total{{{written},"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
