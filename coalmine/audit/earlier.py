"""What earlier rollouts of a model show of its stable release: whether what its gates count comes in bursts.

Read from the closing commits' files, newest first. Stable was another release then, on the same machines
and for the same users, and those are where bursts come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

from coalmine.audit.closing import unpack_polls
from coalmine.audit.rollout_record import POLLS_PACKED, TICKS_PACKED, record_folder
from coalmine.journals.polls import PollRecord
from coalmine.rollout.evidence import Arm
from coalmine.rollout_spec import (
    AgreementSpec,
    ApprovalSpec,
    ErrorsSpec,
    GateSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    WebhookSpec,
    gate_name,
)
from coalmine.statistics.dispersion import dispersion

ROLLOUTS = 5  # the newest
FEWEST_POLLS = 40  # with fewer the spread of failures is itself not known
_RARE = 0.02  # the share of requests slower than the bound, of rows above it, that is looked at, or more

Counts = tuple[float, float]  # of one poll: how many, and how many of them


def dispersions(repository: Path, model: str, gates: Sequence[GateSpec]) -> Mapping[str, float]:
    """By gate, how many requests are worth one independent one; empty where no history is long enough."""
    polls = [poll for poll in _polls(repository, model) if not poll.mirrored and poll.stable.requests]
    if len(polls) < FEWEST_POLLS:
        return {}
    counted = {gate_name(gate): _counted(gate, polls) for gate in gates}
    return {
        name: dispersion([n for n, _ in counts], [x for _, x in counts]).factor
        for name, counts in counted.items()
        if len(counts) >= FEWEST_POLLS
    }


def _polls(repository: Path, model: str) -> list[PollRecord]:
    folders = sorted((repository / record_folder(model, "")).glob("*/"), reverse=True)[:ROLLOUTS]
    files = (folder / name for folder in reversed(folders) for name in (TICKS_PACKED, POLLS_PACKED))
    return [poll for path in files if path.exists() for poll in unpack_polls(path.read_bytes(), str(path))]


def _counted(gate: GateSpec, polls: Sequence[PollRecord]) -> list[Counts]:
    """What `gate` counts of stable, poll by poll."""
    match gate:
        case ErrorsSpec():
            return [(poll.stable.requests, min(poll.stable.failures, poll.stable.requests)) for poll in polls]
        case LatencySpec():
            histograms = [(poll.bounds_s, poll.stable.within) for poll in polls]
            return _beyond_a_rare_bound(histograms)
        case PredictionsSpec():
            answering = [poll for poll in polls if Arm.STABLE in poll.answers]
            return _beyond_a_rare_bound([(p.score_bounds, p.answers[Arm.STABLE].within) for p in answering])
        case QualitySpec():
            answers = [poll.answers[Arm.STABLE] for poll in polls if Arm.STABLE in poll.answers]
            return [(a.labels, min(a.loss, a.labels)) for a in answers if a.labels]
        case AgreementSpec() | QuerySpec() | WebhookSpec() | ApprovalSpec():
            return []
        case other:
            assert_never(other)


def _beyond_a_rare_bound(histograms: Sequence[tuple[tuple[float, ...], tuple[int, ...]]]) -> list[Counts]:
    """How many there were, and how many beyond the last bound that enough exceed, where bounds are alike."""
    newest = histograms[-1][0] if histograms else ()
    alike = [
        within for bounds, within in histograms if within and bounds == newest and len(within) == len(newest)
    ]
    if not alike:
        return []
    total = [sum(column) for column in zip(*alike, strict=True)]
    exceeded = [i for i, within in enumerate(total) if total[-1] - within >= _RARE * total[-1]]
    bound = exceeded[-1] if exceeded else 0
    return [(within[-1], within[-1] - within[bound]) for within in alike]
