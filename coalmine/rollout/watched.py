"""Ports that tell a watch what goes wrong with them, for the runner's own numbers.

They behave as the ports that they wrap, whichever methods those have.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast

from coalmine.errors import CoalmineError
from coalmine.rollout.ports import Journal, Reconciler, Record, Telemetry, TrafficRouter
from coalmine.rollout.runner import Ports
from coalmine.rollout.state import Phase


class PortWatch(Protocol):
    """Called from many threads."""

    def port_failed(self, port: str, error: CoalmineError) -> None:
        """`port` (router, telemetry, ...) raised `error`."""

    def saved(self, phase: Phase) -> None:
        """A state with `phase` is in the journal."""


def watched(ports: Ports, watch: PortWatch) -> Ports:
    return replace(
        ports,
        router=cast(TrafficRouter, _Watched("router", ports.router, watch)),
        telemetry=cast(Telemetry, _Watched("telemetry", ports.telemetry, watch)),
        reconciler=cast(Reconciler, _Watched("reconciler", ports.reconciler, watch)),
        record=cast(Record, _Watched("record", ports.record, watch)),
        journal=cast(Journal, _WatchedJournal("journal", ports.journal, watch)),
    )


class _Watched:
    def __init__(self, name: str, port: object, watch: PortWatch) -> None:
        self._name = name
        self._port = port
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        @functools.wraps(method)
        def told(*arguments: Any, **named: Any) -> Any:
            try:
                return method(*arguments, **named)
            except CoalmineError as error:
                self._watch.port_failed(self._name, error)
                raise

        return told


class _WatchedJournal(_Watched):
    def save(self, state: Mapping[str, Any]) -> None:
        self.__getattr__("save")(state)
        self._watch.saved(Phase(state["state"]["phase"]))
