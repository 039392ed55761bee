"""Without Flux: this process applies what Git says, by server-side apply, when it is asked to.

Nothing repairs in between what another hand changes. What an earlier reconcile made and this one does not
have is deleted: the ConfigMap `<model>-inventory` says what was made, each object with its uid, so that
nothing is deleted which somebody else made under the same name.

An object with `kustomize.toolkit.fluxcd.io/reconcile: disabled`, in Git or in the cluster, is left alone:
while a rollout runs, the route is the rollout's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass

import orjson

from coalmine.cluster.client import (
    FIELD_MANAGER,
    Cluster,
    ClusterRefuses,
    ClusterUnavailable,
    Json,
    Stale,
)
from coalmine.cluster.kinds import CONFIG_MAP, DEPLOYMENT, Kind
from coalmine.errors import Conflict, IntegrityError, ReconcilerUnavailable, SpecError
from coalmine.reconcilers.deployed import Deployed, digests_of
from coalmine.reconcilers.pods import digest_of
from coalmine.rollout.ports import SlotStatus
from coalmine.slots import Slot, Slots

_HANDS_OFF = ("kustomize.toolkit.fluxcd.io/reconcile", "disabled")
_OWNER = re.compile('conflicts? with "([^"]+)"')  # as the API server names who owns a field
_MADE = "made.json"
_ORDER = ("ConfigMap", "Secret", "ServiceAccount", "Service", "Deployment")  # then all others

Key = tuple[str, str, str]  # group, kind, name: the same object in whichever version it is written


@dataclass(frozen=True)
class _Wanted:
    """One object of Git's. live: as it stands in the cluster; None: it is to be made."""

    kind: Kind
    body: Json
    live: Json | None

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def key(self) -> Key:
        return self.kind.group, self.kind.kind, self.name

    @property
    def is_left_alone(self) -> bool:
        return _is_left_alone(self.body) or (self.live is not None and _is_left_alone(self.live))


@dataclass(frozen=True)
class _Made:
    """One object that a reconcile made. uid: empty until it is known, which a kill may prevent."""

    kind: Kind
    name: str
    uid: str

    @property
    def key(self) -> Key:
        return self.kind.group, self.kind.kind, self.name

    def is_that(self, live: Json) -> bool:
        return self.uid in ("", live["metadata"]["uid"])


Inventory = Mapping[Key, _Made]


class ApplyReconciler:
    """The reconciler of `model` in the namespace of `cluster`. render: the objects that Git has."""

    def __init__(self, cluster: Cluster, model: str, render: Callable[[Slots], Sequence[Json]]) -> None:
        self._cluster = cluster
        self._model = model
        self._render = render
        self._deployed = Deployed(cluster, model)
        self._inventory_name = f"{model}-inventory"

    def reconcile(self, slots: Slots) -> None:
        """Nothing is changed where one of the objects would be refused.

        Raises:
            ReconcilerUnavailable: safe to retry.
            Conflict: another field manager owns what Git sets; it is not forced.
            SpecError: what Git has is not for this namespace, or not what `slots` says.
        """
        self._deployed.ask(slots)
        try:
            wanted = [self._wanted(body) for body in self._render(slots)]
            self._require_slots(slots, wanted)
            changing = sorted(
                (each for each in wanted if not each.is_left_alone), key=lambda each: _place(each.kind)
            )
            taken_back = self._rehearse(changing, slots)
            self._make_true(changing, taken_back, {each.key for each in wanted})
        except (ClusterUnavailable, ClusterRefuses) as error:
            raise ReconcilerUnavailable(str(error)) from error

    def status(self, slot: Slot) -> SlotStatus:
        return self._deployed.status(slot)

    # --- before anything is changed --------------------------------------------------------

    def _wanted(self, body: Json) -> _Wanted:
        """
        Raises:
            SpecError: it belongs to another namespace.
            Unsupported: it belongs to none, or the cluster does not know its kind.
        """
        kind, name = self._cluster.kind(body["apiVersion"], body["kind"]), body["metadata"]["name"]
        namespace = body["metadata"].get("namespace", self._cluster.namespace)
        if namespace != self._cluster.namespace:
            raise SpecError(
                f"k8s/ puts the {kind.kind} {name} into the namespace {namespace}, and coalmine.yaml says "
                f"{self._cluster.namespace}. Make them one, or apply it yourself, once"
            )
        return _Wanted(kind, body, self._cluster.get(kind, name))

    def _require_slots(self, slots: Slots, wanted: Sequence[_Wanted]) -> None:
        built = {each.name: digest_of(each.body) for each in wanted if each.kind.kind == DEPLOYMENT.kind}
        for slot, digest in digests_of(slots).items():
            name = self._deployed.name(slot)
            if built.get(name) == digest:
                continue
            folder = f"k8s/environments/{slots.environment}/{slots.model}"
            raise SpecError(
                f"{folder} builds {_release(built.get(name))} as the Deployment {name}, and its slots.yaml "
                f"says {_release(digest)}. Does kustomization.yaml list slots.yaml and components/slots?"
            )

    def _rehearse(self, changing: Sequence[_Wanted], slots: Slots) -> Set[Key]:
        """Ask for every object without changing any. Returns those of which coalmine itself owns fields
        otherwise than by apply: a router writes weights so.

        Raises:
            Conflict: names each field, and who owns it.
            ClusterRefuses: names each object, and why.
        """
        taken_back, conflicts, refusals = set(), [], []
        for each in changing:
            try:
                self._cluster.apply(each.body, each.kind.plural, dry_run=True)
            except Stale as error:
                if set(_OWNER.findall(str(error))) == {FIELD_MANAGER}:
                    taken_back.add(each.key)
                else:
                    conflicts.append(f"{each.kind.kind} {each.name}: {_words(error)}")
            except ClusterRefuses as error:
                refusals.append(f"{each.kind.kind} {each.name}: {_words(error)}")
        if refusals:
            raise ClusterRefuses(f"The API server refuses what Git has: {'; '.join(refusals)}")
        if conflicts:
            build = f"kubectl kustomize k8s/environments/{slots.environment}/{slots.model}"
            raise Conflict(
                f"Somebody else owns what Git sets: {'; '.join(conflicts)}. Take the fields out of k8s/, or "
                f"take them over: {build} | kubectl -n {self._cluster.namespace} apply --server-side "
                f"--field-manager {FIELD_MANAGER} --force-conflicts -f -"
            )
        return taken_back

    # --- the change ------------------------------------------------------------------------

    def _make_true(self, changing: Sequence[_Wanted], taken_back: Set[Key], in_git: Set[Key]) -> None:
        """Killed anywhere, the inventory names at least all that was made."""
        kept = self._inventory()
        made = dict(kept)
        for each in changing:
            if each.live is None:
                made[each.key] = _Made(each.kind, each.name, "")
            elif each.key in made and not made[each.key].is_that(each.live):
                del made[each.key]
        self._keep(made, instead_of=kept)
        for each in changing:
            applied = self._cluster.apply(each.body, each.kind.plural, force=each.key in taken_back)
            if each.key in made:
                made[each.key] = _Made(each.kind, each.name, applied["metadata"]["uid"])
        gone = [each for key, each in made.items() if key not in in_git]
        for old in sorted(gone, key=lambda each: _place(each.kind), reverse=True):
            if self._is_taken_away(old):
                del made[old.key]
        self._keep(made, instead_of=kept)

    def _is_taken_away(self, old: _Made) -> bool:
        """Whether it is none of ours any more: deleted by us or another, or of another's making by now."""
        live = self._cluster.get(old.kind, old.name)
        if live is None or not old.is_that(live):
            return True
        if _is_left_alone(live):
            return False
        with suppress(Stale):  # made anew since it was read: not ours
            self._cluster.delete(old.kind, old.name, live["metadata"]["uid"])
        return True

    # --- the inventory ---------------------------------------------------------------------

    def _inventory(self) -> dict[Key, _Made]:
        """
        Raises:
            IntegrityError: it was edited by hand.
        """
        found = self._cluster.get(CONFIG_MAP, self._inventory_name)
        if found is None:
            return {}
        try:
            entries = orjson.loads(found["data"][_MADE])
            made = [_Made(Kind(**each["kind"]), each["name"], each["uid"]) for each in entries]
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"The ConfigMap {self._inventory_name} in {self._cluster.namespace} is written by coalmine "
                "and cannot be read. Delete it and run again; what Git no longer has, delete yourself then"
            ) from error
        return {each.key: each for each in made}

    def _keep(self, made: Inventory, *, instead_of: Inventory) -> None:
        if made == instead_of:
            return
        entries = [asdict(each) for _, each in sorted(made.items())]
        labels = {"app.kubernetes.io/name": self._model, "app.kubernetes.io/part-of": "coalmine"}
        inventory = {
            "apiVersion": CONFIG_MAP.api_version,
            "kind": CONFIG_MAP.kind,
            "metadata": {"name": self._inventory_name, "labels": labels},
            "data": {_MADE: orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode()},
        }
        self._cluster.apply(inventory, CONFIG_MAP.plural, force=True)


def _is_left_alone(thing: Json) -> bool:
    annotation, value = _HANDS_OFF
    return bool(thing["metadata"].get("annotations", {}).get(annotation) == value)


def _place(kind: Kind) -> int:
    """When it is applied: what others need comes first."""
    return _ORDER.index(kind.kind) if kind.kind in _ORDER else len(_ORDER)


def _words(error: ClusterRefuses) -> str:
    """The API server's own, without the request that they answer."""
    return str(error).partition(": ")[2]


def _release(digest: str | None) -> str:
    return "nothing" if digest is None else f"the release {digest[:12]}"
