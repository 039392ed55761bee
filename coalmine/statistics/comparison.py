"""The candidate against stable on the same counted events: both questions, and the evidence so far.

What gates on counts have in common. A gate says which events to count and puts the evidence
into words; this holds the two e-processes, what their bets rest on, and the rules of a rollout:
roll-back evidence carries over from stage to stage, promote evidence starts anew with each,
and a poll in which an arm had no request shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from coalmine.statistics.eprocess import EProcess, Null, Question, TwoArmCounts, with_poll
from coalmine.statistics.intervals import upper_limit


@dataclass(frozen=True)
class Comparison:
    """Immutable; `log_e_...` is the evidence as of the last poll in which both arms had requests.

    log_e_promote_by_event: of each event by itself, for a gate that every one of them must convince.
    rollout: everything counted since the rollout began.
    history: stable's counts from before the rollout; the bets rest on them too.
    dispersion: how many requests are worth one independent one (coalmine.statistics.dispersion), 1 or
        more, of an arm that has them all; `rollout` and `history` are as counted.
    stable_limits: for each event the 99 % upper confidence limit of stable's rate, fixed when stable
        loses its traffic to the candidate (the bake). Both questions are then asked against it.
        To promote this proves less than a poll of both arms: the stage before has proved the rest.
    """

    roll_back: EProcess
    promote: EProcess
    rollout: TwoArmCounts
    history: TwoArmCounts
    log_e_roll_back: float = 0.0
    log_e_promote: float = 0.0
    log_e_promote_by_event: tuple[float, ...] = (0.0,)
    stable_limits: tuple[float, ...] | None = None
    dispersion: float = 1.0

    @classmethod
    def start(
        cls,
        roll_back: Null,
        promote_ratio: float,
        history: TwoArmCounts,
        polls_per_start: int,
        dispersion: float = 1.0,
    ) -> Self:
        """Before the first stage. Until `for_stage` the margin is 0, the strictest."""
        events = len(history.stable)
        return cls(
            EProcess.start(Question.ROLL_BACK, roll_back, events, polls_per_start),
            EProcess.start(Question.PROMOTE, Null(promote_ratio, 0.0), events, polls_per_start),
            TwoArmCounts(0, 0, (0,) * events, (0,) * events),
            history,
            log_e_promote_by_event=(0.0,) * events,
            dispersion=dispersion,
        )

    def for_stage(self, margin: float) -> Self:
        null = replace(self.promote.null, delta=margin)
        events = len(self.rollout.stable)
        promote = EProcess.start(Question.PROMOTE, null, events, self.promote.polls_per_start)
        nothing = (0.0,) * events
        return replace(
            self, promote=promote, log_e_promote=0.0, log_e_promote_by_event=nothing, stable_limits=None
        )

    @property
    def has_no_stable(self) -> bool:
        """Whether stable has lost its traffic and never had any: any rate of the candidate's is within."""
        return self.stable_limits is not None and min(self.stable_limits) >= 1

    def with_events(self, rollout: TwoArmCounts, history: TwoArmCounts) -> Self:
        """The same evidence, betting from now on on other events, of which this much was counted.

        Each e-process may turn to another event whenever it does so before seeing the poll.
        """
        return replace(self, rollout=rollout, history=history, stable_limits=None)

    def with_poll(self, counts: TwoArmCounts, weight: float, mirrored: bool = False) -> Self:
        """After one more poll; `weight` is the candidate's intended share, 1 when stable has none.

        mirrored: both arms had all the requests, and `weight` is 1/2.
        """
        # Stable has no traffic to be compared with: against what it last was.
        if weight == 1:
            return self._with_candidate_poll(counts)
        worth, share = self._worth(counts, weight, mirrored)
        roll_back, promote = with_poll((self.roll_back, self.promote), worth, share, self._past())
        after = replace(self, roll_back=roll_back, promote=promote, rollout=self.rollout + counts)
        # The e-processes bet on every poll: to leave some out by how the routing fell would break
        # their guarantee. What they say is told, and acted on, only when both arms have spoken.
        return after._told() if counts.candidate_requests and counts.stable_requests else after

    def with_realised_poll(self, counts: TwoArmCounts) -> Self:
        """After a poll whose requests were not drawn at random by one weight: users chosen by a header, or
        a mirrored copy of each. Given how many each arm had, that share takes the weight's place."""
        if not (counts.candidate_requests and counts.stable_requests):
            return self.with_counted(counts)
        share = counts.candidate_requests / (counts.candidate_requests + counts.stable_requests)
        return self.with_poll(counts, share)

    def with_counted(self, counts: TwoArmCounts) -> Self:
        """The same evidence, with one more poll to rest bets on, in which nothing was bet."""
        return replace(self, rollout=self.rollout + counts)

    def _with_candidate_poll(self, counts: TwoArmCounts) -> Self:
        limits = self.stable_limits or self._stable_limits_now()
        past, worth = self._past(), counts / self.dispersion
        after = replace(
            self,
            roll_back=self.roll_back.with_candidate_poll(worth, limits, past),
            promote=self.promote.with_candidate_poll(worth, limits, past),
            rollout=self.rollout + counts,
            stable_limits=limits,
        )
        return after._told() if counts.candidate_requests else after

    def _worth(self, counts: TwoArmCounts, weight: float, mirrored: bool) -> tuple[TwoArmCounts, float]:
        """As many independent requests as these are worth, and the candidate's share of them.

        A burst takes in an arm's requests as long as it lasts, so the excess of the dispersion over 1 is in
        proportion to how many of all requests the arm has. Divided by different factors, the arms stay
        comparable when the weight is divided likewise. With e_c and e_s what a request pays at the null's
        worst point, w e_c + (1 - w) e_s <= 1; then by Jensen's inequality w e_c^a + (1 - w) e_s^b <=
        1 + w a (e_c - 1) + (1 - w) b (e_s - 1), and that is at most 1 where the projection was taken with the
        weights w a and (1 - w) b.
        """
        excess = self.dispersion - 1
        candidate, stable = (1.0, 1.0) if mirrored else (weight, 1 - weight)
        of_candidate, of_stable = 1 + excess * candidate, 1 + excess * stable
        worth = TwoArmCounts(
            counts.candidate_requests / of_candidate,
            counts.stable_requests / of_stable,
            tuple(count / of_candidate for count in counts.candidate),
            tuple(count / of_stable for count in counts.stable),
        )
        share = weight / of_candidate
        return worth, share / (share + (1 - weight) / of_stable)

    def _told(self) -> Self:
        return replace(
            self,
            log_e_roll_back=self.roll_back.log_e,
            log_e_promote=self.promote.log_e,
            log_e_promote_by_event=self.promote.log_e_by_event,
        )

    def _past(self) -> TwoArmCounts:
        return (self.history + self.rollout) / self.dispersion

    def _stable_limits_now(self) -> tuple[float, ...]:
        # A rollout that never gave stable any traffic has only the history to go by.
        known = self.rollout if self.rollout.stable_requests else self.history
        worth = known / self.dispersion
        return tuple(upper_limit(worth.stable, worth.stable_requests).tolist())
