"""The predictions gate: the candidate must not answer with other scores than stable does.

Scores come as counts of rows at or below bounds, and both arms' users are alike. Compared are the
shares of rows in either tail, beyond several bounds from the middle to the rare: to roll back, any one may
carry the average of their evidence; to promote, every one of them must have ruled out its margin.

Rows are counted where they are answered, in the model servers, so bets rest on the rows that came. A
server that cannot be read is an error, which holds; one that was started again begins to count anew.

The bake is not compared: its hour is another than that in which stable was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from coalmine.rollout.evidence import AnswerCounts, Answers, Arm, Poll
from coalmine.rollout.gates import GateReading, Verdict, unread
from coalmine.rollout.gates.bounds import ENOUGH, nearest
from coalmine.rollout_spec import PredictionsSpec
from coalmine.statistics.comparison import Comparison
from coalmine.statistics.eprocess import Null, TwoArmCounts

_USUAL = PredictionsSpec()
ROLL_BACK = Null(_USUAL.worst_ratio, _USUAL.worst_difference)
PROMOTE_RATIO = 1.15

WANTED_SHARES = (0.5, 0.2, 0.05)  # of the rows in a tail, in both tails
_TAILS = 2 * len(WANTED_SHARES)


@dataclass(frozen=True)
class PredictionsGate:
    """
    known_bounds: by which the servers count; the last has all rows within.
    below, history: rows at or below each bound, in this rollout and before it.
    high, low: for each wanted share the index of the bound of the upper, of the lower tail;
        empty until chosen.
    error: why the servers' counts cannot be used; "" when they can.
    """

    comparison: Comparison
    known_bounds: tuple[float, ...]
    below: TwoArmCounts
    history: TwoArmCounts
    high: tuple[int, ...] = ()
    low: tuple[int, ...] = ()
    error: str = ""
    name: str = "predictions"

    @classmethod
    def start(
        cls,
        roll_back: Null = ROLL_BACK,
        promote_ratio: float = PROMOTE_RATIO,
        history: Answers | None = None,
        polls_per_start: int = 30,
        dispersion: float = 1.0,
        name: str = "predictions",
    ) -> Self:
        """The gate before its first stage; parameters as those of the latency gate."""
        scores = () if history is None else history.scores
        within = tuple(count for _, count in scores)
        nothing = TwoArmCounts(0, 0, (0,) * _TAILS, (0,) * _TAILS)
        return cls(
            Comparison.start(roll_back, promote_ratio, nothing, polls_per_start, dispersion),
            tuple(bound for bound, _ in scores),
            TwoArmCounts(0, 0, (0,) * len(within), (0,) * len(within)),
            TwoArmCounts(0, _all(within), (0,) * len(within), within),
            name=name,
        )

    def for_stage(self, margin: float) -> Self:
        return replace(self, comparison=self.comparison.for_stage(margin))._with_bounds_chosen()

    def observe(self, poll: Poll) -> Self:
        if poll.weight == 1:
            return self
        if poll.unread:
            return replace(self, error=unread(poll))
        if not poll.score_bounds:
            return replace(self, error="the two releases do not count their scores by the same bounds")
        known = replace(self, error="")
        gate = known if poll.score_bounds == self.known_bounds else known._counting_anew(poll.score_bounds)
        if len(poll.answers) < len(Arm):
            return gate
        gate = gate if gate.high else gate._with_bounds_chosen()
        counts = _counts(poll.answers[Arm.CANDIDATE], poll.answers[Arm.STABLE])
        counted = replace(gate, below=gate.below + counts)
        if not gate.high:
            return counted
        comparison = gate.comparison.with_realised_poll(_tails(counts, gate.high, gate.low))
        return replace(counted, comparison=comparison)

    def reading(self) -> GateReading:
        by_event = self.comparison.roll_back.log_e_by_event
        most_moved = by_event.index(max(by_event))
        return GateReading(
            self.name,
            self.comparison.log_e_roll_back,
            min(self.comparison.log_e_promote_by_event, default=0.0),
            self.comparison.rollout.candidate_rate(most_moved),
            self.comparison.rollout.stable_rate(most_moved),
            self.error or self._sentence(most_moved),
            verdict=Verdict.ERROR if self.error else None,
        )

    def _with_bounds_chosen(self) -> Self:
        known = self.below if self.below.stable_requests >= ENOUGH else self.history
        if known.stable_requests < ENOUGH or len(self.known_bounds) < 2:
            return self
        within = known.stable[:-1]
        high = nearest(known.stable_requests, [known.stable_requests - n for n in within], WANTED_SHARES)
        # The lower tail read from its rare end, as the upper one is from its own.
        last = len(within) - 1
        low = tuple(last - i for i in nearest(known.stable_requests, within[::-1], WANTED_SHARES))
        comparison = self.comparison.with_events(
            _tails(self.below, high, low), _tails(self.history, high, low)
        )
        return replace(self, comparison=comparison, high=high, low=low)

    def _counting_anew(self, bounds: tuple[float, ...]) -> Self:
        """For servers that count by other bounds than before."""
        nothing = TwoArmCounts(0, 0, (0,) * len(bounds), (0,) * len(bounds))
        return replace(self, known_bounds=bounds, below=nothing, history=nothing, high=(), low=())

    def _sentence(self, event: int) -> str:
        candidate = self.comparison.rollout.candidate_rate(event)
        stable = self.comparison.rollout.stable_rate(event)
        if candidate is None or stable is None:
            return "too few answers on stable to compare scores with"
        upper = event < len(WANTED_SHARES)
        bound = self.known_bounds[(self.high + self.low)[event]]
        side = "above" if upper else "at most"
        return f"{candidate:.1%} of the candidate's scores are {side} {bound:g}, {stable:.1%} of stable's"


def _counts(candidate: AnswerCounts, stable: AnswerCounts) -> TwoArmCounts:
    return TwoArmCounts(_all(candidate.within), _all(stable.within), candidate.within, stable.within)


def _all(within: Sequence[int]) -> int:
    return within[-1] if within else 0


def _tails(below: TwoArmCounts, high: tuple[int, ...], low: tuple[int, ...]) -> TwoArmCounts:
    """Rows in the upper tails, then in the lower ones."""

    def tails(total: float, within: tuple[float, ...]) -> tuple[float, ...]:
        return (*(total - within[i] for i in high), *(within[i] for i in low))

    return replace(
        below,
        candidate=tails(below.candidate_requests, below.candidate),
        stable=tails(below.stable_requests, below.stable),
    )
