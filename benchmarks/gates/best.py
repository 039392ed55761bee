"""Each peer in its best configuration: the least exposure among those that roll back at most 1 % of good
candidates. Chosen on seeds of its own, for one load and one base rate at a time: more than its operator
knows, and more than coalmine is given."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from benchmarks.gates.cases import FINE_STEPS, GOOD_HALF, TIMES, WORSE, key
from benchmarks.gates.experiment import Case, Result, run_all
from benchmarks.gates.outcome import Ended, Method
from benchmarks.gates.peers import STAGES, Argo, Flagger, Kayenta, ZTest

MOST_FALSE = 0.01
_RUNS_GOOD, _RUNS_WORSE = 300, 50

_LIMITS = (0.01, 0.015, 0.02, 0.03, 0.05)


def _flaggers() -> Iterator[Method]:
    for interval_s, threshold, limit, stages in itertools.product(
        (10.0, 30.0, 60.0), (1, 2, 3, 5, 10), _LIMITS, (STAGES, FINE_STEPS)
    ):
        yield Flagger(interval_s, threshold, limit, stages)


def _argos() -> Iterator[Method]:
    for limit, interval_s, most_failed in itertools.product((0, 1, 2, 3, 5), (10.0, 30.0, 60.0), _LIMITS):
        yield Argo(limit, interval_s, 300.0, most_failed)


def _kayentas() -> Iterator[Method]:
    for confidence, tolerance, every_s in itertools.product(
        (0.95, 0.98, 0.99, 0.999), (0.25, 0.5, 1.0), (60.0, 300.0)
    ):
        yield Kayenta(confidence, tolerance, every_s)


def _z_tests() -> Iterator[Method]:
    for z in (2.326, 3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0):
        yield ZTest(z)


FAMILIES = {"Flagger": _flaggers, "Argo": _argos, "Kayenta": _kayentas, "z-test": _z_tests}


def best_of_each(seed: int, load: int) -> dict[str, Method]:
    """By family; one without a configuration under the constraint is left out."""
    methods = {name: list(family()) for name, family in FAMILIES.items()}
    everyone = [method for family in methods.values() for method in family]
    good = GOOD_HALF[load]
    false = run_all({m.name: Case(good, m, _RUNS_GOOD) for m in everyone}, seed)
    admitted = [m for m in everyone if false[m.name].share(Ended.ROLLED_BACK) <= MOST_FALSE]
    cases = {key(WORSE[t, load], m): Case(WORSE[t, load], m, _RUNS_WORSE) for t in TIMES for m in admitted}
    found = run_all(cases, seed)
    best: dict[str, Method] = {}
    for name, family in methods.items():
        own = [m for m in family if m in admitted]
        if own:
            best[name] = min(own, key=lambda m: _exposure(found, m, load))
    return best


def _exposure(found: dict[str, Result], method: Method, load: int) -> float:
    """The geometric mean over the regressions, so that none of them outweighs the others."""
    means = [float(found[key(WORSE[t, load], method)].excess.mean()) for t in TIMES]
    return math.exp(sum(math.log(mean + 0.1) for mean in means) / len(means))
