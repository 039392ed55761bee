"""What a slot's Deployment and pods say of the slot: the rules, over objects as the API server has them.

A slot fails as soon as its pods say why, in seconds, and not at the Deployment's deadline. The first
line that fits decides:

    the Deployment                                              the slot
    ----------------------------------------------------------  -------------------------------------
    its controller has not seen the present template yet        STARTING
    `replicas: 0`                                               FAILED
    all pods have the present template and are available        READY
    that was so once, with this template, and
        a pod is available still                                READY; detail says how many
        no pod has been ready for up to `NONE_READY_GRACE_S`    STARTING
        none for longer                                         FAILED, in the pod's words
    it is on its way there, and
        a pod with the present template cannot run (below)      FAILED, in the pod's words
        pods are refused: quota, admission (ReplicaFailure)     FAILED, in the API server's words
        its deadline is over (Progressing is False)             FAILED, in the pod's words
        it is paused                                            FAILED
        none of these                                           STARTING; detail says what it waits for

    a pod that is not ready                                     cannot run
    ----------------------------------------------------------  -------------------------------------
    is being deleted, or was evicted                            never: another one takes its place
    a container waits with a reason of `_CANNOT`                at once
    an init container ended with a status other than 0          at once (*)
    another container ended, whatever its status                at once (*): a server does not end
    no node takes it                                            after `UNSCHEDULABLE_GRACE_S`

(*) Status 4 is coalmine's own for "run again later" (`Unavailable`: the DVC remote does not answer), and
the kubelet does run it again: such a container has `TRIES` tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from coalmine.cluster.client import Json
from coalmine.errors import Unavailable
from coalmine.rollout.ports import SlotHealth, SlotStatus

DIGEST = "coalmine.dev/digest"  # annotation of the pod template: the release that the pods serve

NONE_READY_GRACE_S = 30.0  # a server that died is back by then, if it comes back by itself
UNSCHEDULABLE_GRACE_S = 120.0  # where nodes come on demand, one takes a minute or two
TRIES = 3
LONGEST_WORDS = 300  # characters of one pod's words

_REVISION = "deployment.kubernetes.io/revision"
_CANNOT = {
    "CrashLoopBackOff",
    # its image
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    # what it is given, and its command
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
# ... but for this: a kubelet that has not yet read the ConfigMaps and Secrets of its pod, and tries again.
_BUSY = "failed to sync "


def slot_status(
    deployment: Json, replica_sets: Sequence[Json], pods: Sequence[Json], now_s: float
) -> SlotStatus:
    """By the table above. replica_sets, pods: the slot's, whatever their template."""
    name = deployment["metadata"]["name"]
    if not _is_seen(deployment):
        return SlotStatus(SlotHealth.STARTING, f"the Deployment {name} was changed a moment ago")
    if _wanted(deployment) == 0:
        return SlotStatus(SlotHealth.FAILED, f"the Deployment {name} is scaled to 0 replicas")
    if is_available(deployment):
        return SlotStatus(SlotHealth.READY)
    present = _with_present_template(deployment, replica_sets, pods)
    if _was_available(deployment):
        return _of_one_that_served(deployment, present, now_s)
    return _of_one_that_starts(deployment, present, now_s)


def is_available(deployment: Json) -> bool:
    """Whether the slot is READY in full: for this one, nobody needs to look at the pods."""
    wanted = _wanted(deployment)
    counts = (_count(deployment, of) for of in ("replicas", "updatedReplicas", "availableReplicas"))
    return _is_seen(deployment) and wanted > 0 and all(count == wanted for count in counts)


def digest_of(deployment: Json) -> str | None:
    """The release that the Deployment's pods are to serve."""
    annotations = deployment["spec"]["template"].get("metadata", {}).get("annotations", {})
    digest: str | None = annotations.get(DIGEST)
    return digest


# --- the Deployment --------------------------------------------------------------------


def _of_one_that_served(deployment: Json, present: Sequence[Json], now_s: float) -> SlotStatus:
    available, wanted = _count(deployment, "availableReplicas"), _wanted(deployment)
    words = next(_said(present, now_s), "")
    if available > 0:
        return SlotStatus(SlotHealth.READY, _joined(f"{available} of {wanted} replicas are available", words))
    none_for_s = now_s - _last_ready_s(deployment, present)
    health = SlotHealth.FAILED if none_for_s > NONE_READY_GRACE_S else SlotHealth.STARTING
    return SlotStatus(health, _joined(f"no replica has been ready for {max(none_for_s, 0):.0f} s", words))


def _of_one_that_starts(deployment: Json, present: Sequence[Json], now_s: float) -> SlotStatus:
    for pod in present:
        if (why := _cannot_run(pod, now_s)) is not None:
            return SlotStatus(SlotHealth.FAILED, why)
    conditions = _conditions(deployment)
    refused = conditions.get("ReplicaFailure", {})
    if refused.get("status") == "True":
        return SlotStatus(SlotHealth.FAILED, f"no pod may be made: {_one_line(refused.get('message', ''))}")
    waits_for = next(_said(present, now_s), "no pod is there yet")
    progressing = conditions.get("Progressing", {})
    if progressing.get("status") == "False":
        reason = f"{progressing.get('reason')}: {_one_line(progressing.get('message', ''))}"
        return SlotStatus(SlotHealth.FAILED, _joined(reason, waits_for))
    if deployment["spec"].get("paused"):
        name = deployment["metadata"]["name"]
        remedy = f"kubectl -n {deployment['metadata']['namespace']} rollout resume deployment/{name}"
        return SlotStatus(SlotHealth.FAILED, f"the Deployment {name} is paused. Let it go on: {remedy}")
    return SlotStatus(SlotHealth.STARTING, waits_for)


def _is_seen(deployment: Json) -> bool:
    """Whether `status` speaks of the present template, not of the one before."""
    seen: int = deployment.get("status", {}).get("observedGeneration", 0)
    return seen >= int(deployment["metadata"]["generation"])


def _was_available(deployment: Json) -> bool:
    """Whether all pods of the present template were available once. The condition alone does not tell: it
    stays for a moment when a template that was there before comes back."""
    reason = _conditions(deployment).get("Progressing", {}).get("reason")
    is_alone = _count(deployment, "updatedReplicas") == _count(deployment, "replicas")
    return reason == "NewReplicaSetAvailable" and is_alone


def _wanted(deployment: Json) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _count(deployment: Json, of: str) -> int:
    return int(deployment.get("status", {}).get(of, 0))  # a count of none is left out


def _last_ready_s(deployment: Json, pods: Sequence[Json]) -> float:
    """When the last pod ceased to be ready. One that takes another's place never was: it counts from its
    making."""
    if not pods:
        return _since_s(_conditions(deployment).get("Available"), deployment)
    return max(_since_s(_conditions(pod).get("Ready"), pod) for pod in pods)


def _with_present_template(
    deployment: Json, replica_sets: Sequence[Json], pods: Sequence[Json]
) -> Sequence[Json]:
    """Those that count: pods of the present template that nobody takes away."""
    revision = deployment["metadata"].get("annotations", {}).get(_REVISION)
    owners = {
        each["metadata"]["uid"]
        for each in replica_sets
        if _is_owned_by(each, {deployment["metadata"]["uid"]})
        and each["metadata"].get("annotations", {}).get(_REVISION) == revision
    }
    return [
        pod
        for pod in pods
        if _is_owned_by(pod, owners)
        and "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")
    ]


def _is_owned_by(thing: Json, owners: set[str]) -> bool:
    return any(owner["uid"] in owners for owner in thing["metadata"].get("ownerReferences", []))


# --- a pod -----------------------------------------------------------------------------


def _said(pods: Sequence[Json], now_s: float) -> Iterator[str]:
    """What keeps each pod that is not ready from it; first those that cannot run."""
    unready = [pod for pod in pods if _conditions(pod).get("Ready", {}).get("status") != "True"]
    yield from (why for pod in unready if (why := _cannot_run(pod, now_s)) is not None)
    yield from (_waits_for(pod) for pod in unready)


def _cannot_run(pod: Json, now_s: float) -> str | None:
    """Why waiting does not help, in its own words; None: it is ready, or may become so."""
    scheduled = _conditions(pod).get("PodScheduled", {})
    if scheduled.get("reason") == "Unschedulable":
        for_s = now_s - _since_s(scheduled, pod)
        return _nowhere(pod) if for_s > UNSCHEDULABLE_GRACE_S else None
    for is_init, container in _containers(pod):
        if (why := _container_cannot(container, is_init)) is not None:
            return f"pod {pod['metadata']['name']}: {why}"
    return None


def _container_cannot(container: Json, is_init: bool) -> str | None:
    name, state = container["name"], container.get("state", {})
    if container.get("ready"):
        return None
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if ended is not None and (ended["exitCode"] != 0 or not is_init):
        tries = int(container.get("restartCount", 0)) + ("terminated" in state)
        if ended["exitCode"] == Unavailable.exit_code and tries < TRIES:
            return None
        return f"{name} {_ending(ended)}"
    waiting = state.get("waiting", {})
    if waiting.get("reason") in _CANNOT and not waiting.get("message", "").startswith(_BUSY):
        return _joined(f"{name}: {waiting['reason']}", _one_line(waiting.get("message", "")))
    return None


def _waits_for(pod: Json) -> str:
    name = pod["metadata"]["name"]
    scheduled = _conditions(pod).get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _nowhere(pod)
    for is_init, container in _containers(pod):
        state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
        again = f" again, since it {_ending(last)}" if last else ""
        if "waiting" in state:
            words = f"{container['name']}: {state['waiting'].get('reason', 'waits')}{again}"
            return _joined(f"pod {name}: {words}", _one_line(state["waiting"].get("message", "")))
        if "running" in state and (is_init or not container.get("ready")):
            return f"pod {name}: {container['name']} {'runs' if is_init else 'is not ready'}{again}"
    return f"pod {name} is being prepared"


def _nowhere(pod: Json) -> str:
    scheduled = _conditions(pod)["PodScheduled"]
    words = _one_line(scheduled.get("message", ""))
    return _joined(f"pod {pod['metadata']['name']} has no node: {scheduled.get('reason')}", words)


def _containers(pod: Json) -> Iterator[tuple[bool, Json]]:
    """In the order in which they start; whether each is an init container."""
    status = pod.get("status", {})
    yield from ((True, container) for container in status.get("initContainerStatuses", []))
    yield from ((False, container) for container in status.get("containerStatuses", []))


def _ending(ended: Json) -> str:
    reason = ended.get("reason", "")
    why = "" if reason in ("", "Error", "Completed") else f" ({reason})"
    return _joined(f"ended with status {ended['exitCode']}{why}", _last_line(ended.get("message", "")))


# --- words -----------------------------------------------------------------------------


def _conditions(thing: Json) -> dict[str, Json]:
    return {each["type"]: each for each in thing.get("status", {}).get("conditions", [])}


def _since_s(condition: Json | None, thing: Json) -> float:
    """Since when `condition` of `thing` is as it is."""
    stamp = thing["metadata"]["creationTimestamp"] if condition is None else condition["lastTransitionTime"]
    return datetime.fromisoformat(stamp).timestamp()


def _last_line(text: str) -> str:
    """Where a log ends with a traceback, the error stands in its last line."""
    return _one_line(next((line for line in reversed(text.splitlines()) if line.strip()), ""))


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]}..."


def _joined(what: str, words: str) -> str:
    return f"{what}: {words}" if words else what
