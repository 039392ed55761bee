"""What a cluster keeps of a model's newest rollout: its state, and all that was seen and told so far.

    m-rollout            about.json, plan.json, state.json with its outbox, and the outboxes of the saves
                         before, packed. Whoever drives the rollout is named in it: nobody else may write
    m-rollout-ticks-0    the outboxes of the first saves, packed; never changed again. Then -1, -2, ...

The outboxes of all saves, in order, are all the ticks and events of the rollout. A ConfigMap ends at 1 MiB,
is written whole, and etcd keeps each of the writes of the last minutes: so what grows is moved out of the one
that is written at each tick.
"""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coalmine.cluster.client import Cluster, ClusterUnavailable, Json, Stale
from coalmine.cluster.kinds import CONFIG_MAP
from coalmine.errors import AlreadyRunning, Conflict, IntegrityError
from coalmine.journals.cluster_objects import (
    ROLLOUT,
    config_map,
    labels,
    rollout_name,
    rollout_of,
    segment_name,
)
from coalmine.journals.journal import ENDINGS, STATE_FILE

WRITER = "coalmine.dev/written-by"  # an annotation: the identity that has the lease
SEGMENT_BYTES = 16_384  # packed; some forty ticks
TRIED_FOR_S = 3.0  # a write that a restarting API server refuses
TRY_AGAIN_S = 0.3

_EARLIER, _CLOSED, _TAKEN = "outboxes.jsonl.gz", "closed", "asks-taken"


@dataclass(frozen=True)
class Kept:
    """What `m-rollout` holds. Law: `from_body(to_body(kept)) == kept`.

    files: small ones of the rollout's folder, by name. saved: the last state, with its outbox.
    earlier: the outboxes of the saves before it that no segment has, each as a line of JSON.
    closed: the last tick of each segment. taken: how many of the asks the state holds.
    writer: who may write; "" before the first one. version: as it was read.
    """

    rollout: str
    files: Mapping[str, str]
    saved: Mapping[str, Any] | None = None
    earlier: tuple[str, ...] = ()
    closed: tuple[int, ...] = ()
    taken: int = 0
    writer: str = ""
    version: str = field(default="", compare=False)

    def with_saved(self, state: Mapping[str, Any], taken: int) -> Kept:
        outbox = _outbox(self.saved)
        earlier = (*self.earlier, json.dumps(outbox, ensure_ascii=False)) if outbox["ticks"] else self.earlier
        return replace(self, saved=state, earlier=earlier, taken=taken)

    @property
    def has_ended(self) -> bool:
        """Its last events say so, which may not be in the folder of any machine yet."""
        return any(event["kind"] in ENDINGS for event in _outbox(self.saved)["events"])


class ClusterStore:
    """Of one model, in the namespace of `cluster`.

    Raises, wherever it asks the cluster:
        ClusterUnavailable, ClusterRefuses: as `Cluster`.
        IntegrityError: what is there was edited or damaged.
    """

    def __init__(self, cluster: Cluster, model: str) -> None:
        self._cluster = cluster
        self._model = model
        self._name = rollout_name(model)

    def read(self) -> Kept | None:
        body = self._cluster.get(CONFIG_MAP, self._name)
        return None if body is None else self._kept(body)

    def put(self, fresh: Kept, before: Kept | None) -> None:
        """`fresh` in the place of another rollout, as that was read.

        Raises:
            Stale: somebody wrote there meanwhile.
        """
        self._written(replace(fresh, version="" if before is None else before.version))

    def claim(self, rollout: str, writer: str) -> Kept:
        """From now on nobody but `writer` writes: whoever did before is refused, however late it comes.

        Raises:
            Conflict: another rollout is in its place.
        """
        while True:
            kept = self.read()
            if kept is None or kept.rollout != rollout:
                raise Conflict(self._gone(rollout, kept))
            try:
                return self._written(replace(kept, writer=writer))
            except Stale:
                continue

    def write(self, kept: Kept) -> Kept:
        """`kept`, as it is there then. Tried for a few seconds; a write that was taken and never answered
        is done over.

        Raises:
            AlreadyRunning: another one may write by now.
        """
        until_s = time.monotonic() + TRIED_FOR_S
        while True:
            try:
                kept = self._with_small_rest(kept)
                try:
                    return self._written(kept)
                except Stale:
                    kept = self._onto_what_is_there(kept)
            except ClusterUnavailable:
                if time.monotonic() > until_s:
                    raise
                time.sleep(TRY_AGAIN_S)

    def leave(self, rollout: str, name: str, text: str) -> None:
        """The file `name` beside the state, whoever writes that; nothing if `rollout` is not there."""
        kept = self.read()
        if kept is not None and kept.rollout == rollout:
            change = {"metadata": {"resourceVersion": kept.version}, "data": {name: text}}
            self._cluster.merge(CONFIG_MAP, self._name, change)

    def outboxes(self, kept: Kept, from_tick: int) -> list[Json]:
        """Those of every save so far, from that of `from_tick` on."""
        lines: list[str] = []
        for number, last in enumerate(kept.closed):
            if last >= from_tick:
                lines += self._segment(kept, number)
        found = [json.loads(line) for line in (*lines, *kept.earlier)] + [_outbox(kept.saved)]
        return [outbox for outbox in found if outbox["ticks"] and _last_tick(outbox) >= from_tick]

    def drop_others(self, rollout: str) -> None:
        """The segments of rollouts before `rollout`."""
        first = segment_name(self._model, 0).removesuffix("0")
        for body in self._cluster.list(CONFIG_MAP, labels(self._model)):
            if body["metadata"]["name"].startswith(first) and rollout_of(body) != rollout:
                self._cluster.delete(CONFIG_MAP, body["metadata"]["name"], body["metadata"]["uid"])

    # --- writing ---------------------------------------------------------------------------

    def _written(self, kept: Kept) -> Kept:
        write = self._cluster.replace if kept.version else self._cluster.create
        body = write(CONFIG_MAP, self._body(kept))
        return replace(kept, version=body["metadata"]["resourceVersion"])

    def _onto_what_is_there(self, kept: Kept) -> Kept:
        """`kept`, to be written over what its own writer, or one who left a file, wrote meanwhile.

        Raises:
            AlreadyRunning: somebody else may write by now.
        """
        there = self.read()
        if there is None:  # deleted by hand, and nobody else has begun
            return replace(kept, version="")
        if (there.rollout, there.writer) == (kept.rollout, kept.writer):
            return replace(kept, version=there.version, files=there.files)
        raise AlreadyRunning(
            f"Rollout {kept.rollout} of {self._model} is no longer driven from here: ConfigMap {self._name} "
            f"in {self._cluster.namespace} is of {there.rollout} now, driven by {there.writer or 'nobody'}. "
            "Follow it with `coalmine status`"
        )

    def _with_small_rest(self, kept: Kept) -> Kept:
        """What has grown too large for each write, in a segment of its own."""
        packed = _pack(kept.earlier)
        if len(packed) <= SEGMENT_BYTES:
            return kept
        name = segment_name(self._model, len(kept.closed))
        body = config_map(name, self._model, kept.rollout, packed={_EARLIER: _text(packed)})
        body["immutable"] = True
        try:
            self._cluster.create(CONFIG_MAP, body)
        except Stale:
            # Of an earlier rollout, or of a write that ended before `m-rollout` named it: nobody reads it.
            self._cluster.delete(CONFIG_MAP, name)
            self._cluster.create(CONFIG_MAP, body)
        return replace(kept, earlier=(), closed=(*kept.closed, _last_tick(json.loads(kept.earlier[-1]))))

    # --- as it lies there ------------------------------------------------------------------

    def _body(self, kept: Kept) -> Json:
        data = {**kept.files, _CLOSED: json.dumps(kept.closed), _TAKEN: str(kept.taken)}
        if kept.saved is not None:
            data[STATE_FILE] = json.dumps(kept.saved, ensure_ascii=False)
        packed = {_EARLIER: _text(_pack(kept.earlier))} if kept.earlier else {}
        body = config_map(self._name, self._model, kept.rollout, data, packed)
        if kept.writer:
            body["metadata"]["annotations"] = {WRITER: kept.writer}
        if kept.version:
            body["metadata"]["resourceVersion"] = kept.version
        return body

    def _kept(self, body: Json) -> Kept:
        try:
            data = dict(body.get("data") or {})
            saved = data.pop(STATE_FILE, None)
            return Kept(
                rollout=body["metadata"]["labels"][ROLLOUT],
                closed=tuple(json.loads(data.pop(_CLOSED))),
                taken=int(data.pop(_TAKEN)),
                files=data,
                saved=None if saved is None else json.loads(saved),
                earlier=_unpack(body),
                writer=(body["metadata"].get("annotations") or {}).get(WRITER, ""),
                version=body["metadata"]["resourceVersion"],
            )
        except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error) as error:
            raise self._damaged(self._name, error) from error

    def _segment(self, kept: Kept, number: int) -> tuple[str, ...]:
        name = segment_name(self._model, number)
        body = self._cluster.get(CONFIG_MAP, name)
        try:
            if body is None or rollout_of(body) != kept.rollout:
                raise ValueError(f"it is not of rollout {kept.rollout}")
            return _unpack(body)
        except (KeyError, ValueError, OSError, EOFError, zlib.error) as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, error: Exception) -> IntegrityError:
        return IntegrityError(
            f"ConfigMap {name} in {self._cluster.namespace} is written by coalmine and cannot be read "
            f"({type(error).__name__}: {error}), so that the rollout cannot go on from where it was. Restore "
            f"it, or delete {self._name} and deliver again: a new rollout then starts from its first stage"
        )

    def _gone(self, rollout: str, kept: Kept | None) -> str:
        there = "is gone" if kept is None else f"is of rollout {kept.rollout} now"
        return (
            f"Rollout {rollout} of {self._model} is over: ConfigMap {self._name} in "
            f"{self._cluster.namespace} {there}. Look: coalmine status"
        )


def _outbox(saved: Mapping[str, Any] | None) -> Json:
    return {"events": [], "ticks": [], **((saved or {}).get("outbox") or {})}


def _last_tick(outbox: Json) -> int:
    number: int = outbox["ticks"][-1]["sequence"]
    return number


def _pack(lines: tuple[str, ...]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def _unpack(body: Json) -> tuple[str, ...]:
    packed = (body.get("binaryData") or {}).get(_EARLIER)
    if packed is None:
        return ()
    return tuple(gzip.decompress(base64.b64decode(packed)).decode().split("\n")[:-1])


def _text(packed: bytes) -> str:
    return base64.b64encode(packed).decode()
