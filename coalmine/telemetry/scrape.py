"""What happened to one model's users: from the Envoy that served them, and the servers that answered.

Envoy's counts are what a rollout cannot do without. What the servers say besides (`answers`,
`pairs`) may be missing from a reading, and the reading says why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from urllib.parse import quote

from coalmine.endpoint import Answer, Endpoint, Unreachable
from coalmine.errors import TelemetryUnavailable
from coalmine.rollout.evidence import Answers, Arm, Counters, Pairs, Reading
from coalmine.slots import Slot
from coalmine.telemetry.access_log import COPIES, REQUESTS, SERIES, counters, statistics_of, together
from coalmine.telemetry.answers import ServersAnswers
from coalmine.telemetry.exposition import Sample, parse
from coalmine.telemetry.pairs import ServedPairs

ADMIN_TIMEOUT_S = 2.0
GATHERING_S = 0.001  # what Envoy takes; asked sooner, it would have to be asked again
GATHERED_WITHIN_S = 2.0
CONNECTIONS = 3  # an Envoy that is another one each time is not measured

_ADMIN_BEGUN = "/stats?filter=^http.admin.downstream_rq_total$"
_ADMIN_ENDED = "envoy_http_downstream_rq_time_count"
_STARTED = "/config_dump?mask=bootstrap.node.id,last_updated"


class ScrapeTelemetry:
    """The telemetry of `model`, from the Envoy whose admin interface is at `admin_address`.

    answers, pairs: what to ask the model servers besides; None where no gate needs it.
    """

    def __init__(
        self,
        model: str,
        admin_address: str,
        answers: ServersAnswers | None = None,
        pairs: ServedPairs | None = None,
    ) -> None:
        self._admin = Endpoint(admin_address, ADMIN_TIMEOUT_S)
        self._clusters = {slot: f"{model}-{slot}" for slot in Slot}
        wanted = rf"^({statistics_of(self._clusters.values())}|http\.admin\.downstream_rq_time)$"
        self._path = f"/stats/prometheus?filter={quote(wanted)}"
        self._epoch: tuple[int, str] | None = None
        self._answers, self._pairs = answers, pairs
        self._copies = 0
        self._last_pairs: Pairs | None = None

    def read(self, candidate: Slot) -> Reading:
        """As the port says. `mirrored` counts users' requests and copies together."""
        slots = {Arm.CANDIDATE: candidate, Arm.STABLE: candidate.other}
        epoch, counted = self._counted()
        arms = {arm: counted[self._clusters[slot]][REQUESTS] for arm, slot in slots.items()}
        copies = {arm: counted[self._clusters[slot]][COPIES] for arm, slot in slots.items()}
        missing: list[str] = []
        return Reading(
            at_s=time.time(),
            epoch=epoch,
            arms=arms,
            mirrored={arm: together(arms[arm], copies[arm]) for arm in Arm},
            answers=self._read_answers(slots, missing),
            pairs=self._read_pairs(sum(each.requests for each in copies.values()), missing),
            missing=tuple(missing),
        )

    # --- model servers -----------------------------------------------------------------

    def _read_answers(self, slots: Mapping[Arm, Slot], missing: list[str]) -> dict[Arm, Answers]:
        answers: dict[Arm, Answers] = {}
        if self._answers is None:
            return answers
        for arm, slot in slots.items():
            try:
                answers[arm] = self._answers.read(slot)
            except TelemetryUnavailable as error:
                missing.append(str(error))
        return answers

    def _read_pairs(self, copies: int, missing: list[str]) -> Pairs | None:
        """The servers are asked only while copies come: what they tell is as long as what they served."""
        if self._pairs is None:
            return None
        try:
            if copies != self._copies or self._last_pairs is None:
                self._last_pairs = self._pairs.read()
                self._copies = copies
            return self._last_pairs
        except TelemetryUnavailable as error:
            missing.append(str(error))
            return None

    # --- Envoy -------------------------------------------------------------------------

    def _counted(self) -> tuple[str, dict[str, dict[str, Counters]]]:
        """When Envoy started, and its counts: over one connection, so by one and the same Envoy."""
        for _ in range(CONNECTIONS):
            begun = self._get(_ADMIN_BEGUN)
            if self._epoch is None or self._epoch[0] != begun.connection:
                self._epoch = self._started()
            answer, samples = self._gathered(begun)
            if answer.connection == self._epoch[0] == begun.connection:
                return self._epoch[1], counters(samples, self._clusters.values())
        raise TelemetryUnavailable(
            f"Envoy on {self._admin.address} was started anew again and again while it was read. Its log "
            "says why: .coalmine/local/logs/envoy.log"
        )

    def _started(self) -> tuple[int, str]:
        answer = self._get(_STARTED)
        try:
            return answer.connection, str(json.loads(answer.body)["configs"][0]["last_updated"])
        except (ValueError, KeyError, IndexError) as error:
            raise TelemetryUnavailable(
                f"Envoy on {self._admin.address} does not say since when it runs"
            ) from error

    def _gathered(self, first: Answer) -> tuple[Answer, list[Sample]]:
        """The statistics with everything that had ended when `first` was answered.

        Envoy counts admin requests when they begin, and, among what it gathers, when they end. So
        once it has gathered the end of `first`, it has gathered all that came before.
        """
        try:
            begun = int(first.body.rpartition(b":")[2])
        except ValueError as error:
            raise TelemetryUnavailable(
                f"What answers on {self._admin.address} has no count of its requests: is that Envoy?"
            ) from error
        self._get(_ADMIN_BEGUN)  # at which Envoy gathers; the next request shows it
        deadline = time.monotonic() + GATHERED_WITHIN_S
        while True:
            time.sleep(GATHERING_S)
            answer = self._get(self._path)
            samples = list(parse(answer.body.decode(), (*SERIES, _ADMIN_ENDED)))
            ended = sum(sample.count for sample in samples if sample.series.name == _ADMIN_ENDED)
            if ended >= begun or answer.connection != first.connection:
                return answer, samples
            if time.monotonic() > deadline:
                raise TelemetryUnavailable(
                    f"Envoy on {self._admin.address} did not gather its counts within {GATHERED_WITHIN_S:g} "
                    "s: the machine may be overloaded. Run again."
                )

    def _get(self, path: str) -> Answer:
        try:
            answer = self._admin.get(path)
        except Unreachable as error:
            raise TelemetryUnavailable(
                f"Envoy does not answer on {self._admin.address} ({error}). "
                "Start the local stack: coalmine up"
            ) from error
        if answer.status != 200:
            raise TelemetryUnavailable(
                f"Envoy on {self._admin.address} answers {answer.status} to {path}: {answer.body[:200]!r}"
            )
        return answer
