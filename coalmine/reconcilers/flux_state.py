"""What Flux's objects say, and what to type: the rules, over objects as the API server has them.

A GitRepository (the source) fetches commits; a Kustomization builds one folder of them and applies it.
Both say in `status.conditions` how that went, and in `status.lastHandledReconcileAt` which request they
have answered. All words here are for people: what is wrong, where, Flux's own words, the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import PurePath

from coalmine.cluster.client import Json
from coalmine.drift.facts import FluxFacts
from coalmine.errors import Unsupported

REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"

# A Kustomization that was tried and fails so fails again until somebody changes a file or a right.
_FINAL = {
    "AccessDenied": "Flux may not do that here",
    "BuildFailed": "the folder does not build",
    "FeatureGateDisabled": "Flux was started without what it needs",
    "InvalidCELExpression": "an expression of it is wrong",
    "PruneFailed": "what Git no longer has cannot be deleted",
    "ReconciliationFailed": "the API server refuses what was built",
}

# A source that is Ready=False with one of these is being fetched: its controller was interrupted and goes on.
_BEING_FETCHED = ("Progressing", "ProgressingWithRetry", "NewRevision")

_HEALTH = "health check"
_NOT_ALLOWED = re.compile("authentication required|authorization failed|unable to authenticate|denied", re.I)


def source_of(kustomization: Json) -> tuple[str, str]:
    """Namespace and name of the GitRepository that `kustomization` builds from.

    Raises:
        Unsupported: it builds from something else.
    """
    source = kustomization["spec"]["sourceRef"]
    if source["kind"] != "GitRepository":
        raise Unsupported(
            f"{named(kustomization)} builds from the {source['kind']} {source['name']}, which nobody can ask "
            "for a commit. coalmine delivers through Git: let `spec.sourceRef` name a GitRepository"
        )
    return source.get("namespace", kustomization["metadata"]["namespace"]), source["name"]


def obstacle(kustomization: Json, source: Json, branch: str) -> str | None:
    """Why it is of no use to ask for what was pushed to `branch`; None: it may be."""
    name, namespace = source["metadata"]["name"], source["metadata"]["namespace"]
    if source["spec"].get("suspend"):
        return (
            f"{named(source)} is suspended, so no commit reaches the cluster. Let it go on: "
            f"flux resume source git {name} -n {namespace}"
        )
    if (followed := _followed(source)) != f"the branch {branch}":
        return (
            f"{named(source)} follows {followed} of {_url(source)}, and coalmine pushes to the branch "
            f"{branch}. Make them one: `spec.ref.branch` there, or `git.branch` in coalmine.yaml"
        )
    if kustomization["spec"].get("suspend"):
        name, namespace = kustomization["metadata"]["name"], kustomization["metadata"]["namespace"]
        return (
            f"{named(kustomization)} is suspended, so nothing is applied. Let it go on: "
            f"flux resume kustomization {name} -n {namespace}"
        )
    return None


def unwell(kustomization: Json, source: Json, branch: str, folder: PurePath) -> str | None:
    """What is wrong with the two as they stand, if they are to bring `folder` of `branch`; None: nothing."""
    if (why := obstacle(kustomization, source, branch) or source_failure(source)) is not None:
        return why
    if not folder.is_relative_to(PurePath(_path(kustomization).lstrip("/"))):
        return (
            f"{named(kustomization)} builds {_path(kustomization)}, and not {folder.as_posix()}, where the "
            "environment is: let `spec.path` be that"
        )
    revision = revision_of(source)
    if is_applied(kustomization, revision):
        return None
    return kustomization_failure(kustomization, revision) or kustomization_waits(kustomization)


def trouble(
    kustomization: Json,
    source: Json,
    branch: str,
    folder: PurePath,
    commit: str,
    is_before: Callable[[str, str], bool],
) -> FluxFacts | None:
    """The same by its sort, and whether what was fetched lags behind `commit`, which was pushed."""
    if source["spec"].get("suspend") or kustomization["spec"].get("suspend"):
        return FluxFacts("suspended", obstacle(kustomization, source, branch) or "")
    why = unwell(kustomization, source, branch, folder)
    revision = revision_of(source)
    if obstacle(kustomization, source, branch) is not None:
        return FluxFacts("elsewhere", why or "")
    if source_failure(source) is not None or kustomization_failure(kustomization, revision) is not None:
        return FluxFacts("stopped", why or "")
    if not folder.is_relative_to(PurePath(_path(kustomization).lstrip("/"))):
        return FluxFacts("elsewhere", why or "")
    fetched = commit_of(revision)
    if fetched != commit and (not fetched or is_before(fetched, commit)):
        return FluxFacts("stale", behind(source, commit))
    return None if why is None else FluxFacts("stale", why)


def is_handled(thing: Json, asked: str) -> bool:
    """Whether the request of `asked` (a time) was answered, or one that took its place: where many ask, there
    is always one more that was not."""
    handled = thing.get("status", {}).get("lastHandledReconcileAt")
    if handled == thing["metadata"].get("annotations", {}).get(REQUESTED_AT):
        return True
    try:
        return datetime.fromisoformat(handled or "") >= datetime.fromisoformat(asked)
    except (ValueError, TypeError):  # somebody asked in words of their own
        return False


def is_at_work(thing: Json) -> bool:
    """Whether it makes progress. To wait for pods to be well is none: that takes all of `spec.timeout`."""
    working = _condition(thing, "Reconciling")
    return working.get("status") == "True" and _HEALTH not in _words(working)


def unhandled(thing: Json, within_s: float) -> str:
    """Why nothing came of a request."""
    working = _condition(thing, "Reconciling")
    if working.get("status") != "True":
        return (
            f"{named(thing)} was asked, and nobody answered within {within_s:.3g} s: Flux's controller of it "
            "does not run, or is overloaded. See: flux check"
        )
    busy = f"{named(thing)} is at work still after {within_s:.3g} s: {_words(working)}"
    if _HEALTH in busy:
        return f"{busy}. Nothing else happens until that ends: set `spec.wait` to false"
    return f"{busy}. A large repository takes its time: run again"


def source_failure(source: Json) -> str | None:
    """Why the commit cannot be fetched; None: something was, or is being fetched."""
    ready = _condition(source, "Ready")
    if ready.get("status") != "False" or ready.get("reason") in _BEING_FETCHED:
        return None
    name, namespace, words = source["metadata"]["name"], source["metadata"]["namespace"], _words(ready)
    said = f"{named(source)} cannot fetch {_followed(source)} of {_url(source)}: {words}"
    if ready.get("reason") == "AuthenticationFailed" or _NOT_ALLOWED.search(words):
        secret = source["spec"].get("secretRef", {}).get("name")
        remedy = f"mend the Secret {namespace}/{secret}" if secret else "name a Secret in `spec.secretRef`"
        return f"{said}. It may not read there: {remedy}"
    return f"{said}. Mend `spec.url` or `spec.ref`, then see: flux reconcile source git {name} -n {namespace}"


def revision_of(source: Json) -> str:
    """What was fetched last, such as `main@sha1:<commit>`; empty: nothing yet."""
    artifact = source.get("status", {}).get("artifact") or {}
    return str(artifact.get("revision", ""))


def commit_of(revision: str) -> str:
    return re.split("[:/]", revision)[-1]


def is_applied(kustomization: Json, revision: str) -> bool:
    """Whether all of `revision` was applied. Whether it is healthy is not asked: the status of a slot says
    so."""
    reason = _condition(kustomization, "Ready").get("reason")
    tried = kustomization.get("status", {}).get("lastAttemptedRevision") == revision
    applied = reason in ("ReconciliationSucceeded", "HealthCheckFailed", "HealthCheckCanceled")
    return tried and (applied or is_looking_at_health(kustomization, revision))


def is_looking_at_health(kustomization: Json, revision: str) -> bool:
    """Whether `revision` was applied, and the Kustomization waits for its pods (`spec.wait`): for as long as
    `spec.timeout` it answers nobody."""
    healthy = _condition(kustomization, "Healthy")
    return healthy.get("status") == "Unknown" and f"revision {revision} " in healthy.get("message", "")


def kustomization_failure(kustomization: Json, revision: str) -> str | None:
    """Why `revision` will not be applied, however long one waits; None: it may be."""
    ready = _condition(kustomization, "Ready")
    reason = ready.get("reason", "")
    stalled = _condition(kustomization, "Stalled").get("status") == "True"
    tried = kustomization.get("status", {}).get("lastAttemptedRevision") == revision
    if ready.get("status") != "False" or reason not in _FINAL or not (tried or stalled):
        return None
    said = f"{named(kustomization)} cannot apply {revision}: {_FINAL[reason]}. {_words(ready)}"
    if reason == "BuildFailed":
        return f"{said}. See it here: kubectl kustomize {_path(kustomization)}"
    return said


def kustomization_waits(kustomization: Json) -> str:
    """Why the newest revision is not applied yet."""
    ready = _condition(kustomization, "Ready")
    name, namespace = kustomization["metadata"]["name"], kustomization["metadata"]["namespace"]
    said = f"{named(kustomization)} has not applied the newest commit: {_words(ready)}"
    match ready.get("reason"):
        case "DependencyNotReady":
            return f"{said}. Mend what it waits for first: flux get kustomizations -n {namespace}"
        case "ArtifactFailed":
            return f"{said}. Is `spec.path` ({_path(kustomization)}) a folder of the repository?"
        case _:
            return f"{said}. See: flux get kustomization {name} -n {namespace}"


def behind(source: Json, commit: str, missing: str = "") -> str:
    """Why what Flux has fetched is neither `commit` nor one that follows it."""
    there = f", where {missing}" if missing else ""
    return (
        f"{named(source)} has {revision_of(source) or 'nothing'} of {_url(source)}{there}; coalmine pushed "
        f"{commit[:12]} to Git's remote here. If the two are one repository, run again: somebody pushed "
        "since, or what was pushed is not shown there yet"
    )


def applied_elsewhere(kustomization: Json, revision: str, missing: str) -> str:
    """Why nothing came of it although the very commit was applied."""
    said = f"{named(kustomization)} has applied {revision}, and yet {missing}"
    if "still there" in missing and not kustomization["spec"].get("prune"):
        return f"{said}: it deletes nothing. Set `spec.prune` to true"
    return (
        f"{said}. Does `spec.path` ({_path(kustomization)}) hold the folder of the model, and is its "
        "namespace the one in coalmine.yaml?"
    )


def named(thing: Json) -> str:
    metadata = thing["metadata"]
    return f"Flux's {thing['kind']} {metadata['namespace']}/{metadata['name']}"


def _followed(source: Json) -> str:
    """What of the repository is fetched. The first that is given counts, as in Flux itself."""
    ref = source["spec"].get("ref") or {}
    for key, what in (("commit", "the commit"), ("name", ""), ("semver", "tags in"), ("tag", "the tag")):
        if key in ref:
            return re.sub("^refs/heads/", "the branch ", f"{what} {ref[key]}".strip())
    return f"the branch {ref.get('branch', 'master')}"


def _url(source: Json) -> str:
    """Without a name and password in it."""
    return re.sub("//[^/@]*@", "//", source["spec"]["url"])


def _path(kustomization: Json) -> str:
    return str(kustomization["spec"].get("path", "./"))


def _condition(thing: Json, name: str) -> Json:
    conditions: list[Json] = thing.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == name), {})


def _words(condition: Json) -> str:
    return " ".join(condition.get("message", "").split()).rstrip(".") or "it does not say why"
