"""Leases of Kubernetes: the right to do something, for one process at a time, on whichever machine it is.

The holder renews its lease every few seconds. One that nobody renewed for `Terms.lasts_s` is over, and the
next may take it. Each one sees that by its own clock, since two machines' clocks differ: the time that
another process wrote is trusted only where the difference cannot matter.

A lease says who may act, and no more: a process that was stopped for a minute learns too late that its lease
is another's. Whatever must not be done twice needs a check of its own where it is done.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from coalmine.cluster.client import Cluster, Json, Stale
from coalmine.cluster.kinds import LEASE
from coalmine.errors import AlreadyRunning, CoalmineError

CLOCKS_DIFFER_BY_S = 30.0  # at most, between machines that anybody looks after


@dataclass(frozen=True)
class Terms:
    """lasts_s: without being renewed. look_every_s: of one who waits for it to be over, or for an answer."""

    lasts_s: float = 15.0
    renewed_every_s: float = 5.0
    look_every_s: float = 1.0


def new_identity(what: str) -> str:
    """A holder that nobody was before: host, process, what it does."""
    return f"{socket.gethostname()}/{os.getpid()}/{what.replace('/', '-')}/{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Lease:
    """One lease as this process sees it.

    holder: its identity; "" when nobody has it. since, renewed: by the holder's clock.
    unrenewed_s: for so long this process has seen it as it is. seen_renewed: whether this process knows that
        it was renewed then, and not long before.
    """

    name: str
    labels: Mapping[str, str]
    holder: str
    since: datetime
    renewed: datetime
    unrenewed_s: float
    seen_renewed: bool

    def is_free(self, terms: Terms) -> bool:
        """Whether another one may take it."""
        if not self.holder or self.unrenewed_s >= terms.lasts_s:
            return True
        return self.age_s >= terms.lasts_s + CLOCKS_DIFFER_BY_S

    def is_held(self, terms: Terms) -> bool:
        """Whether its holder is alive, as far as one look can tell. Neither free nor held: wait and see."""
        return not self.is_free(terms) and (self.seen_renewed or self.age_s < terms.lasts_s)

    @property
    def age_s(self) -> float:
        """Since it was renewed, if the two clocks agree."""
        return (datetime.now(UTC) - self.renewed).total_seconds()

    @property
    def held_by(self) -> str:
        """For people."""
        host, process, what, *_ = [*self.holder.split("/"), "", "", ""]
        return f"{what}, process {process} on {host}, since {self.since:%Y-%m-%dT%H:%M:%SZ}"


class Leases:
    """Those of one namespace. Safe to use from several threads.

    Raises, wherever it asks the cluster:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
    """

    def __init__(self, cluster: Cluster, terms: Terms | None = None) -> None:
        self._cluster = cluster
        self.terms = terms or Terms()

    def look(self, name: str) -> Lease | None:
        """None: nobody ever had it."""
        found = self._cluster.get(LEASE, name)
        return None if found is None else self.seen(found)

    def list(self, labels: Mapping[str, str]) -> list[Lease]:
        return [self.seen(found) for found in self._cluster.list(LEASE, labels)]

    def declare(self, name: str, labels: Mapping[str, str]) -> None:
        """There is such a lease, whoever holds it, and these are its labels."""
        if self._cluster.get(LEASE, name) is None:
            with suppress(Stale):  # somebody else was quicker
                self._cluster.create(LEASE, _body(name, labels))
                return
        self._cluster.merge(LEASE, name, {"metadata": {"labels": dict(labels)}})

    @contextmanager
    def held(
        self,
        name: str,
        identity: str,
        labels: Mapping[str, str],
        refusal: Callable[[Lease], str],
        dead: str = "",
    ) -> Iterator[Held]:
        """Hold `name`, renewed by a thread of its own, and give it back.

        labels: where there is no such lease yet. refusal: what to say when it is another's.
        dead: an identity whose process is known to have ended.

        Raises:
            AlreadyRunning: another one has it.
        """
        held = Held(self, self._cluster, self._taken(name, identity, labels, refusal, dead), refusal)
        held.start()
        try:
            yield held
        finally:
            held.give_back()

    def renewed(self, body: Json, holder: str) -> Json:
        """`body`, renewed now by `holder`; nobody's where that is ""."""
        before: Json = body.get("spec") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {**before, "renewTime": now, "leaseDurationSeconds": max(1, round(self.terms.lasts_s))}
        if not holder:
            spec.pop("holderIdentity", None)
        elif before.get("holderIdentity") != holder:
            taken = before.get("leaseTransitions", -1) + 1
            spec |= {"holderIdentity": holder, "acquireTime": now, "leaseTransitions": taken}
        return {**body, "spec": spec}

    def _taken(
        self,
        name: str,
        identity: str,
        labels: Mapping[str, str],
        refusal: Callable[[Lease], str],
        dead: str,
    ) -> Json:
        while True:
            body = self._cluster.get(LEASE, name)
            with suppress(Stale):  # somebody else was quicker: look who
                if body is None:
                    return self._cluster.create(LEASE, self.renewed(_body(name, labels), identity))
                lease = self.seen(body)
                if lease.holder in (identity, dead) or lease.is_free(self.terms):
                    return self._cluster.replace(LEASE, self.renewed(body, identity))
                if lease.is_held(self.terms):
                    raise AlreadyRunning(refusal(lease))
                # Its clock says that it is over, and that may be wrong: so it must be seen to be.
                time.sleep(self.terms.look_every_s)

    def seen(self, body: Json) -> Lease:
        """`body` as it has just been read."""
        spec = body.get("spec") or {}
        name = body["metadata"]["name"]
        holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or _NEVER
        where = (self._cluster.server, self._cluster.namespace, name)
        sighting = _sightings.note(where, f"{holder} {renewed}", self.terms.lasts_s)
        return Lease(
            name=name,
            labels=body["metadata"].get("labels") or {},
            holder=holder,
            since=_moment(spec.get("acquireTime") or _NEVER),
            renewed=_moment(renewed),
            unrenewed_s=sighting.last_s - sighting.since_s,
            seen_renewed=sighting.is_fresh,
        )


class Held(threading.Thread):
    """A lease that this process has taken, and renews until it is given back or another one has it."""

    def __init__(self, leases: Leases, cluster: Cluster, body: Json, refusal: Callable[[Lease], str]) -> None:
        super().__init__(name=f"lease {body['metadata']['name']}", daemon=True)
        self.identity: str = body["spec"]["holderIdentity"]
        self._leases = leases
        self._cluster = cluster
        self._body = body
        self._refusal = refusal
        self._lost_to: Lease | None = None
        self._writing = threading.Lock()
        self._ending = threading.Event()

    def require(self) -> None:
        """
        Raises:
            AlreadyRunning: it is another's by now.
        """
        if self._lost_to is not None:
            raise AlreadyRunning(self._refusal(self._lost_to))

    def run(self) -> None:
        terms = self._leases.terms
        pause_s = terms.renewed_every_s
        while not self._ending.wait(pause_s) and self._lost_to is None:
            try:
                self.renew()
                pause_s = terms.renewed_every_s
            except CoalmineError:
                # Nobody else has it before it is over; whoever acts under it meets the same error.
                pause_s = terms.look_every_s

    def renew(self) -> None:
        """Unless it was given back, or lost."""
        self._write(self.identity)

    def give_back(self) -> None:
        self._ending.set()
        with suppress(CoalmineError):  # it will be over when nobody renews it
            self._write("")

    def _write(self, holder: str) -> None:
        """Renew it, or give it back with `holder` "", unless it is another's."""
        with self._writing:
            while self._lost_to is None and not (holder and self._ending.is_set()):
                try:
                    self._body = self._cluster.replace(LEASE, self._leases.renewed(self._body, holder))
                    return
                except Stale:
                    self._body = self._as_it_is()

    def _as_it_is(self) -> Json:
        there = self._cluster.get(LEASE, self._body["metadata"]["name"])
        if there is None:  # deleted by hand, and nobody else's
            fresh = _body(self._body["metadata"]["name"], self._body["metadata"]["labels"])
            return self._cluster.create(LEASE, self._leases.renewed(fresh, self.identity))
        if there["spec"].get("holderIdentity") != self.identity:
            self._lost_to = self._leases.seen(there)
        return there


# --- what the API server has -----------------------------------------------------------

_NEVER = "1970-01-01T00:00:00.000000Z"


def _body(name: str, labels: Mapping[str, str]) -> Json:
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {}}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# --- what this process saw -------------------------------------------------------------

_Where = tuple[str, str, str]  # server, namespace, name


@dataclass(frozen=True)
class _Sighting:
    """what: holder and time. since_s, last_s: when it was seen so first and last."""

    what: str
    since_s: float
    last_s: float
    is_fresh: bool


class _Sightings:
    """Since when each lease has been seen unchanged, on this process's own clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[_Where, _Sighting] = {}

    def note(self, where: _Where, what: str, within_s: float) -> _Sighting:
        """It is `what` now; fresh, if it was something else `within_s` ago."""
        now_s = time.monotonic()
        with self._lock:
            before = self._seen.get(where)
            if before is not None and before.what == what:
                seen = replace(before, last_s=now_s)
            else:
                is_fresh = before is not None and now_s - before.last_s < within_s
                seen = _Sighting(what, now_s, now_s, is_fresh)
            self._seen[where] = seen
            return seen


# Of the whole process: whoever takes a lease need not wait for what another part of it has seen already.
_sightings = _Sightings()
