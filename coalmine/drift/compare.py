"""What an environment shows against what Git says: the findings of one look. Pure.

Weights in flight belong to the rollout that is driven: nothing of its route is compared, nor whether its
candidate is up yet. What could not be read is a finding of its own, and no sign of anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from coalmine.drift.facts import CloneFacts, Difference, EnvironmentFacts, FluxFacts, ModelFacts, SlotFacts
from coalmine.drift.findings import Aspect, Finding, Heal, Kind
from coalmine.rollout.ports import SlotHealth, TrafficSplit
from coalmine.slots import Slot, Slots


@dataclass(frozen=True)
class Look:
    """
    findings: all of them. models: those that were looked at. unread: of which model ("": the environment)
    what could not be looked at, or was just moving; whatever was found there before may be there still.
    """

    findings: tuple[Finding, ...]
    models: frozenset[str]
    unread: frozenset[tuple[str, Aspect]] = frozenset()

    @property
    def matches(self) -> bool:
        return not self.findings

    def has_looked_at(self, finding: Finding) -> bool:
        """Whether this look would have found it, were it there."""
        if finding.model and finding.model not in self.models:
            return False
        if finding.kind is Kind.UNREADABLE:
            return True
        aspect = finding.kind.aspect
        return (finding.model, aspect) not in self.unread and ("", aspect) not in self.unread


def compare(facts: EnvironmentFacts) -> Look:
    findings = list(_of_environment(facts))
    unread = {("", aspect) for aspect in facts.unread}
    if facts.stack_down:
        unread |= {("", aspect) for aspect in (Aspect.ROUTE, Aspect.OBJECTS)}
    for model in facts.models:
        findings += _of_model(facts, model)
        aspects = {*model.unread, *model.running.unread, *(_RUNTIME if model.is_moving else ())}
        unread |= {(model.model, aspect) for aspect in aspects}
    return Look(tuple(findings), frozenset(each.model for each in facts.models), frozenset(unread))


_RUNTIME = (Aspect.ROLLOUT, Aspect.ROUTE, Aspect.SERVERS, Aspect.OBJECTS)


# --- the environment ---------------------------------------------------------------------


def _of_environment(facts: EnvironmentFacts) -> Iterator[Finding]:
    for aspect, why in facts.unread.items():
        yield _unreadable("", aspect, why)
    if (clone := facts.clone) is not None:
        yield from _of_clone(clone)
    if facts.flux is not None:
        yield _of_flux(facts.flux)
    if facts.stack_down and any(_meant(model) for model in facts.models):
        yield Finding(
            Kind.STACK_DOWN,
            "",
            "",
            "Envoy and the model servers",
            "no supervisor that runs them",
            f"Start them: coalmine up -e {facts.name}",
        )


def _of_clone(clone: CloneFacts) -> Iterator[Finding]:
    ahead, behind = clone.ahead, clone.behind
    subject = " ".join(filter(None, (clone.upstream, clone.oldest[:12])))
    if ahead and behind:
        yield Finding(
            Kind.CLONE_DIVERGED,
            "",
            subject,
            "this clone and the remote on one line",
            f"{_commits(ahead)} here alone, {_commits(behind)} there alone",
            "The next release or delivery joins them. To do it now: git pull --no-rebase",
        )
    elif behind:
        yield Finding(
            Kind.CLONE_BEHIND,
            "",
            subject,
            "this clone to hold what the remote holds",
            f"{_commits(behind)} there that are not here",
            "Take them: git pull",
        )
    elif ahead:
        yield Finding(
            Kind.NOT_PUSHED,
            "",
            subject,
            "the record on the remote",
            f"{_commits(ahead)} here that nobody else has",
            "Look at them (git log @{push}..) and push: git push --follow-tags",
        )


def _of_flux(flux: FluxFacts) -> Finding:
    kinds = {
        "suspended": Kind.FLUX_SUSPENDED,
        "elsewhere": Kind.FLUX_ELSEWHERE,
        "stopped": Kind.FLUX_STOPPED,
        "stale": Kind.FLUX_STALE,
    }
    said, _, remedy = flux.why.partition(". ")
    return Finding(
        kinds[flux.sort], "", "", "Flux to bring what was pushed", said, remedy or "See: flux get all -A"
    )


# --- one model ---------------------------------------------------------------------------


def _of_model(facts: EnvironmentFacts, seen: ModelFacts) -> Iterator[Finding]:
    yield from _of_record(facts, seen)
    for aspect, why in {**seen.running.unread, **seen.unread}.items():
        yield _unreadable(seen.model, aspect, why)
    slots = seen.moment.slots
    if seen.is_moving or slots is None:
        return
    for finding in _of_what_runs(facts, seen, slots):
        # Nothing is made to run by a record that does not agree with itself.
        yield replace(finding, heal_as=Heal.PERSON) if seen.recorded.differs else finding


def _of_what_runs(facts: EnvironmentFacts, seen: ModelFacts, slots: Slots) -> Iterator[Finding]:
    yield from _of_what_is_under_way(facts.name, seen)
    if facts.stack_down:
        return
    if seen.moment.rollout is None and seen.moment.rollback is None:
        yield from _of_route(facts.name, seen, slots)
    for slot, of_slot in seen.running.slots.items():
        if slot not in seen.recorded.differs:
            yield from _of_slot(facts.name, seen, slots, slot, of_slot)


def _of_record(facts: EnvironmentFacts, seen: ModelFacts) -> Iterator[Finding]:
    model, recorded = seen.model, seen.recorded
    if recorded.unreadable:
        said, _, remedy = recorded.unreadable.rpartition(". ")
        yield Finding(
            Kind.RECORD_UNREADABLE, model, "slots.yaml", "slots as coalmine wrote them", said, remedy
        )
    for slot, difference in recorded.differs.items():
        yield Finding(
            Kind.RECORD_DIFFERS,
            model,
            slot.value,
            f"{difference.what} {difference.expected}",
            difference.seen,
            f"Somebody changed the record. See who, and where: coalmine verify {model} -e {facts.name}",
        )
    for tag, why in recorded.untagged.items():
        yield Finding(
            Kind.TAG_WITHOUT_MANIFEST,
            model,
            tag,
            "the manifest of that release where the tag stands",
            why,
            f"See what the record says of it: coalmine verify {model}. A stray tag is taken away by: "
            f"git push --delete origin {tag} && git tag --delete {tag}",
        )
    if recorded.waiting is not None:
        version, since_s = recorded.waiting
        if facts.at_s - since_s >= facts.not_delivered_after_s:
            yield Finding(
                Kind.NOT_DELIVERED,
                model,
                version,
                f"{version} in {facts.name}, or turned away there",
                f"neither, more than {facts.not_delivered_after_s / 3600:g} hours after its release",
                f"Deliver it: coalmine deliver {model} -e {facts.name} --version {version}",
            )
    for path, words in recorded.lost.items():
        yield Finding(
            Kind.BYTES_LOST,
            model,
            path,
            words,
            "no such object in the DVC remote",
            "No server can be started with it any more. Whoever has it in their DVC cache can push it: "
            f"dvc push models/{model}/dvc.yaml",
        )


def _of_what_is_under_way(environment: str, seen: ModelFacts) -> Iterator[Finding]:
    model, rollout, rollback = seen.model, seen.moment.rollout, seen.moment.rollback
    if rollback is not None:
        where = "are" if rollback.is_moved else "may not be yet"
        yield Finding(
            Kind.ROLLBACK_WAITS,
            model,
            rollback.good,
            f"the rollback from {rollback.bad} to {rollback.good} in Git",
            f"no record of it; its users {where} on {rollback.good}",
            f"Finish it: coalmine rollback {model} -e {environment}",
        )
    elif rollout is not None and not rollout.is_driven:
        yield Finding(
            Kind.RUNNER_GONE,
            model,
            rollout.candidate,
            f"somebody who drives the rollout {rollout.id}",
            "nobody, so that no gate watches its users",
            f"Go on with it: coalmine deliver {model} -e {environment} --version {rollout.candidate}; or "
            f"bring its users back: coalmine abort {model} -e {environment}",
        )


def _of_route(environment: str, seen: ModelFacts, slots: Slots) -> Iterator[Finding]:
    route, model = seen.running.route, seen.model
    if slots.stable is None or slots.stable_release is None or route is None:
        return
    expected = f"everybody on {slots.stable_release.version} ({slots.stable})"
    again = (
        f"To make it so: coalmine deliver {model} -e {environment} --version {slots.stable_release.version}"
    )
    if route.foreign:
        said, _, remedy = route.foreign.partition(". ")
        heal = Heal.PERSON if route.is_owned else Heal.RESTORE
        yield Finding(Kind.ROUTE_FOREIGN, model, "", expected, said, remedy or again, heal)
    elif route.missing or route.split is None:
        yield Finding(
            Kind.ROUTE_MISSING, model, "", expected, route.missing or "no route of the model", again
        )
    elif route.split != TrafficSplit.all_to(slots.stable):
        yield Finding(Kind.ROUTE_WEIGHTS, model, "", expected, _words(route.split, slots), again)
    elif route.is_held:
        yield Finding(
            Kind.ROUTE_HELD,
            model,
            "",
            "a route that Git rules",
            "one that a rollout took and never gave back, so that nobody corrects it",
            again,
        )


def _of_slot(
    environment: str, seen: ModelFacts, slots: Slots, slot: Slot, of_slot: SlotFacts
) -> Iterator[Finding]:
    model, release = seen.model, slots.releases.get(slot)
    if seen.moment.rollout is not None and slot is not slots.stable:
        return  # its runner says how it is, and ends the rollout of one that does not start
    name = f"{model}-{slot}"
    stable = slots.stable_release.version if slots.stable_release is not None else ""
    again = f"To make it so: coalmine deliver {model} -e {environment} --version {stable}"
    if release is None:
        if of_slot.status is not None or of_slot.servers:
            said = next((f"{name} with {_digest(each.digest)}" for each in of_slot.servers), name)
            yield Finding(Kind.SERVER_UNASKED, model, slot.value, "nothing in the slot", said, again)
        return
    expected = f"{release.version} ({_digest(release.model_digest)})"
    if of_slot.changed_files:
        said, _, remedy = of_slot.changed_files.partition(". ")
        yield Finding(Kind.FILES_CHANGED, model, slot.value, f"the files of {expected}", said, remedy)
    if of_slot.status is None or of_slot.status.health is not SlotHealth.READY:
        said = "nothing" if of_slot.status is None else _health(of_slot)
        yield Finding(Kind.SERVER_DOWN, model, slot.value, f"{expected} ready", said, again)
    others = [each for each in of_slot.servers if each.digest not in (None, release.model_digest)]
    if others:
        said = ", ".join(f"{each.name} with {_digest(each.digest)}" for each in others)
        yield Finding(Kind.OTHER_RELEASE, model, slot.value, expected, said, again)
    for kind, differences in (
        (Kind.CONFIGURATION, of_slot.configuration),
        (Kind.IMAGE, of_slot.image),
        (Kind.REPLICAS, () if of_slot.replicas is None else (of_slot.replicas,)),
    ):
        if differences:
            yield _differing(kind, model, slot, differences, again)


def _differing(
    kind: Kind, model: str, slot: Slot, differences: tuple[Difference, ...], remedy: str
) -> Finding:
    expected = "; ".join(f"{each.what} {each.expected}" for each in differences)
    seen = "; ".join(each.seen for each in differences)
    return Finding(kind, model, slot.value, expected, seen, remedy)


def _unreadable(model: str, aspect: Aspect, why: str) -> Finding:
    said, _, remedy = why.partition(". ")
    return Finding(
        Kind.UNREADABLE, model, aspect.value, f"to see {aspect}", said, remedy or "See: coalmine doctor"
    )


def _meant(model: ModelFacts) -> bool:
    return model.moment.slots is not None and bool(model.moment.slots.releases)


# --- words -------------------------------------------------------------------------------


def _commits(number: int) -> str:
    return f"{number} commit{'s' * (number > 1)}"


def _digest(digest: str | None) -> str:
    return "a release that it does not name" if digest is None else f"release {digest[:12]}"


def _health(of_slot: SlotFacts) -> str:
    assert of_slot.status is not None
    health, detail = of_slot.status.health.value, " ".join(of_slot.status.detail.split())
    return f"{health}: {detail}" if detail else health


def _words(split: TrafficSplit, slots: Slots) -> str:
    names = {slot: release.version for slot, release in slots.releases.items()}
    shares = [
        f"{weight} % on {names.get(slot, f'{slot}, which is empty')}"
        for slot, weight in split.weights.items()
        if weight
    ]
    if split.mirror_percent:
        shares.append(f"{split.mirror_percent} % copied")
    if split.match is not None:
        shares.append(f"{split.match.key.name}={split.match.value} to {split.match_to}")
    if split.sticky is not None:
        shares.append(f"drawn by {split.sticky.name}")
    return ", ".join(shares)
