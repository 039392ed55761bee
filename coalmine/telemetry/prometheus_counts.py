"""What happened to one model's users on a cluster: the model servers' own counts, from Prometheus.

One query finds all that the pods counted, as of the last scrape of each, and `lives` adds it up. Failures
that no server can count are the proxies' (`proxies`), where they tell the slots apart. The epoch is the
life of this object: no difference is taken across the start of another runner.

Each pod is scraped at a moment of its own, and `Reading.late_s` says how far these lie apart. Counts
are told once every pod that takes requests was scraped again, and until then stay as they were told: looks
between two scrapes would show the gates one arm without the other, which proves nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.slots import Slot
from coalmine.telemetry.lives import UNKNOWN_S, Lives, Total
from coalmine.telemetry.pairs import ServedPairs
from coalmine.telemetry.pods import ReadyPod
from coalmine.telemetry.prometheus import Instant
from coalmine.telemetry.proxies import Proxies, Unreached
from coalmine.telemetry.server_series import COPIES, USERS, Seen, query, seen

APART_S = 5.0  # beyond it, false alarms from scrapes that lie apart are no longer rare (docs/telemetry.md)

Find = Callable[[str], Sequence[Instant]]
"""All series that a query finds now. Raises TelemetryUnavailable."""
ReadyPods = Callable[[], Sequence[ReadyPod]]
"""The pods that take the model's requests now. Raises TelemetryUnavailable."""


@dataclass(frozen=True)
class _Told:
    """What was counted when every pod had been scraped again. unreached: what no server counted.
    at_s, late_s: as of `Reading`."""

    totals: Mapping[Slot, Total]
    unreached: Mapping[Slot, int]
    at_s: float
    late_s: float

    def requests(self, *audiences: str) -> int:
        return sum(total.counters(audiences, frozenset()).requests for total in self.totals.values())


class PrometheusTelemetry:
    """The telemetry of `model` in `namespace`.

    ready: without it nobody knows whether a slot without counts has no pods, or is not scraped.
    proxies: who counts what never reached a pod; None where nobody does by slot.
    answered: whether to read what the servers answered and how right it was, which costs a query half as
        large again. pairs: how the slots answered the same requests. Both where a gate needs them.
    """

    def __init__(
        self,
        model: str,
        namespace: str,
        find: Find,
        ready: ReadyPods,
        proxies: Proxies | None = None,
        *,
        answered: bool = False,
        pairs: ServedPairs | None = None,
    ) -> None:
        self._model = model
        self._find, self._ready = find, ready
        self._proxies = proxies
        self._unreached = None if proxies is None else Unreached(proxies, model)
        others = () if proxies is None else (proxies.select(model, namespace),)
        self._query = query(model, namespace, *others, answered=answered)
        self._answered, self._pairs = answered, pairs
        self._lives = Lives()
        self._epoch = secrets.token_hex(8)
        self._told: _Told | None = None
        self._is_copying = False
        self._last_pairs: Pairs | None = None
        self._said: set[str] = set()

    def read(self, candidate: Slot) -> Reading:
        """As the port says. One query, and one look at the pods."""
        found = seen(self._find(self._query))
        told = self._told_now(found)
        slots = {Arm.CANDIDATE: candidate, Arm.STABLE: candidate.other}
        missing = [each for each in self._limits(told) if each not in self._said]
        self._said.update(missing)
        known = [total.bounds_s for total in told.totals.values() if total.is_known]
        bounds_s = frozenset.intersection(*known) if known else frozenset()

        def counters(*audiences: str) -> dict[Arm, Counters]:
            return {
                arm: told.totals[slot].counters(audiences, bounds_s, told.unreached[slot])
                for arm, slot in slots.items()
            }

        return Reading(
            at_s=told.at_s,
            epoch=self._epoch,
            arms=counters(USERS),
            mirrored=counters(USERS, COPIES),
            answers=self._answers(told, slots, missing),
            pairs=self._read_pairs(missing),
            missing=tuple(missing),
            late_s=told.late_s,
        )

    # --- what was counted --------------------------------------------------------------

    def _told_now(self, found: Seen) -> _Told:
        """More than before once every pod was scraped again."""
        self._lives.take(found)
        if self._unreached is not None:
            self._unreached.take(found.others)
        waits = self._waits_for_a_pod(found.now_s)
        if self._told is None or (self._lives.are_further and not waits):
            self._told = self._tell(self._told, found.now_s)
        return self._told

    def _waits_for_a_pod(self, now_s: float) -> bool:
        """Whether a pod takes requests whose scrape is still to come.

        Raises:
            TelemetryUnavailable: it does not come, or nothing was told before that could stand meanwhile.
        """
        unscraped = [pod for pod in self._ready() if not self._lives.has_scrape_of(pod.name)]
        for pod in unscraped:
            for_s = max(0.0, min(pod.for_s, self._lives.last_scrape_s(pod.name, now_s)))
            if for_s > UNKNOWN_S or self._told is None:
                raise TelemetryUnavailable(
                    f"Prometheus has had no counts of pod {pod.name} for {for_s:.0f} s, while it is ready: "
                    "it has yet to scrape it, or does not, or without the labels `namespace` and `pod`. "
                    "k8s/components/monitoring has a PodMonitor"
                )
        return bool(unscraped)

    def _tell(self, before: _Told | None, now_s: float) -> _Told:
        self._lives.tell()
        scrapes = self._lives.scrapes() or [now_s]
        told = _Told(
            {slot: self._lives.total(slot) for slot in Slot},
            {slot: 0 if self._unreached is None else self._unreached.of(slot) for slot in Slot},
            # By this machine's clock, whatever that of Prometheus shows.
            at_s=time.time() - (now_s - max(scrapes)),
            late_s=max(scrapes) - min(scrapes),
        )
        self._is_copying = before is not None and told.requests(COPIES) > before.requests(COPIES)
        return told

    def _limits(self, told: _Told) -> Iterator[str]:
        """What the counts do not show here. Each is said once."""
        unseen = "What never reached a pod, such as a refused connection, is not counted: "
        if self._proxies is None or self._unreached is None:
            yield f"{unseen}nothing here counts it for each slot."
        elif not self._unreached.has_spoken and told.requests(USERS):
            proxies = f"{self._proxies.technology}'s proxies for {self._model}"
            yield f"{unseen}Prometheus has nothing of {proxies}. Does it scrape them?"
        if told.late_s > APART_S:
            yield (
                f"Pods are scraped more than {APART_S:g} s apart: failures that begin in both slots at once "
                "may look like the candidate's. Scrape them every 2 s, as k8s/components/monitoring does."
            )

    # --- what was answered -------------------------------------------------------------

    def _answers(self, told: _Told, slots: Mapping[Arm, Slot], missing: list[str]) -> dict[Arm, Answers]:
        answers: dict[Arm, Answers] = {}
        for arm, slot in slots.items() if self._answered else ():
            if told.totals[slot].is_known:
                answers[arm] = told.totals[slot].answers(self._epoch)
            else:
                missing.append(f"no pod of {self._model} in slot {slot} has counted anything yet")
        return answers

    def _read_pairs(self, missing: list[str]) -> Pairs | None:
        """The servers are asked only while copies come: what they tell is as long as what they served."""
        if self._pairs is None:
            return None
        try:
            if self._is_copying or self._last_pairs is None:
                self._last_pairs = self._pairs.read()
            return self._last_pairs
        except TelemetryUnavailable as error:
            missing.append(str(error))
            return None
