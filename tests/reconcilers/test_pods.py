"""The table of coalmine.reconcilers.pods, line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from coalmine.reconcilers.pods import (
    LONGEST_WORDS,
    NONE_READY_GRACE_S,
    TRIES,
    UNSCHEDULABLE_GRACE_S,
    digest_of,
    is_available,
    slot_status,
)
from coalmine.rollout.ports import SlotHealth, SlotStatus

Json = dict[str, Any]

NOW_S = 1_800_000_000.0
TRACEBACK = "Traceback (most recent call last):\n  File ...\nValueError: no such column:  pressure\n\n"
LAST_WORDS = "ValueError: no such column: pressure"


# --- what the API server says ----------------------------------------------------------


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(NOW_S - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, status: bool, reason: str = "", message: str = "", since_s: float = 0) -> Json:
    said = {"type": kind, "status": str(status), "reason": reason, "message": message}
    return {**said, "lastTransitionTime": ago(since_s)}


STARTED = condition("Progressing", True, "ReplicaSetUpdated")
ONCE_AVAILABLE = condition("Progressing", True, "NewReplicaSetAvailable")


def deployment(
    *conditions: Json,
    wanted: int = 1,
    replicas: int | None = None,
    updated: int | None = None,
    available: int = 0,
    seen: int = 7,
    **spec: Any,
) -> Json:
    """By default all its pods are there, and have the present template."""
    counts = {
        "replicas": wanted if replicas is None else replicas,
        "updatedReplicas": wanted if updated is None else updated,
        "availableReplicas": available,
    }
    present = {count: number for count, number in counts.items() if number}  # as the API server has it
    return {
        "metadata": {
            "name": "m-blue",
            "namespace": "ns",
            "uid": "d",
            "generation": 7,
            "creationTimestamp": ago(3600),
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": wanted, "template": {"metadata": {}}, **spec},
        "status": {"observedGeneration": seen, **present, "conditions": list(conditions)},
    }


def replica_set(uid: str, revision: str, owner: str = "d") -> Json:
    annotations = {"deployment.kubernetes.io/revision": revision}
    return {"metadata": {"uid": uid, "annotations": annotations, "ownerReferences": [{"uid": owner}]}}


OLD, PRESENT = replica_set("old", "1"), replica_set("present", "2")


def pod(
    *containers: Json,
    init: Json | None = None,
    name: str = "m-blue-1",
    owner: str = "present",
    ready: bool = False,
    unready_s: float = 0,
    conditions: tuple[Json, ...] = (),
    phase: str = "Running",
    **metadata: str,
) -> Json:
    status: Json = {
        "phase": phase,
        "conditions": [*conditions, condition("Ready", ready, since_s=unready_s)],
        "containerStatuses": list(containers),
    }
    if init is not None:
        status["initContainerStatuses"] = [init]
    owned = {"ownerReferences": [{"uid": owner}], "creationTimestamp": ago(60)}
    return {"metadata": {"name": name, **owned, **metadata}, "status": status}


def running(name: str = "server", ready: bool = False, last: Json | None = None, restarts: int = 0) -> Json:
    state: Json = {"running": {"startedAt": ago(1)}}
    return _container(name, state, last, restarts, ready)


def waiting(
    reason: str, message: str = "", name: str = "server", last: Json | None = None, restarts: int = 0
) -> Json:
    return _container(name, {"waiting": {"reason": reason, "message": message}}, last, restarts)


def ended(
    status: int, words: str = "", name: str = "server", reason: str = "Error", restarts: int = 0
) -> Json:
    return _container(name, {"terminated": end(status, words, reason)}, None, restarts)


def end(status: int, words: str = "", reason: str = "Error") -> Json:
    return {"exitCode": status, "reason": reason, "message": words}


def _container(name: str, state: Json, last: Json | None, restarts: int, ready: bool = False) -> Json:
    last_state = {} if last is None else {"terminated": last}
    return {"name": name, "state": state, "lastState": last_state, "restartCount": restarts, "ready": ready}


def unschedulable(for_s: float) -> Json:
    words = "0/1 nodes are available: 1 Insufficient memory."
    scheduled = condition("PodScheduled", False, "Unschedulable", words, since_s=for_s)
    made = pod(conditions=(scheduled,), phase="Pending")
    made["status"]["conditions"] = [scheduled]  # nothing is ready or not before there is a node
    return made


def status_of(of: Json, *pods: Json, replica_sets: tuple[Json, ...] = (OLD, PRESENT)) -> SlotStatus:
    return slot_status(of, replica_sets, pods, NOW_S)


# --- on its way there ------------------------------------------------------------------

INSIDE, OUTSIDE = UNSCHEDULABLE_GRACE_S - 5, UNSCHEDULABLE_GRACE_S + 5
PREPARING = waiting("PodInitializing")

CANNOT_RUN = [
    pytest.param(pod(ended(1, TRACEBACK)), f"server ended with status 1: {LAST_WORDS}", id="server-died"),
    pytest.param(pod(ended(0, "", reason="Completed")), "server ended with status 0", id="server-just-ended"),
    pytest.param(
        pod(running(last=end(1, TRACEBACK), restarts=1)),
        f"server ended with status 1: {LAST_WORDS}",
        id="server-died-and-is-started-again",
    ),
    pytest.param(
        pod(waiting("CrashLoopBackOff", "back-off 10s", last=end(1, TRACEBACK), restarts=2)),
        f"server ended with status 1: {LAST_WORDS}",
        id="crash-loop-says-why-and-not-that-it-waits",
    ),
    pytest.param(
        pod(waiting("CrashLoopBackOff", "back-off 10s restarting failed container")),
        "server: CrashLoopBackOff: back-off 10s restarting failed container",
        id="crash-loop-of-which-nothing-else-is-known",
    ),
    pytest.param(
        pod(ended(137, "", reason="OOMKilled")),
        "server ended with status 137 (OOMKilled)",
        id="out-of-memory",
    ),
    pytest.param(
        pod(PREPARING, init=ended(6, "the digest is not that of the manifest", name="fetch")),
        "fetch ended with status 6: the digest is not that of the manifest",
        id="fetch-refused",
    ),
    pytest.param(
        pod(PREPARING, init=ended(4, "the DVC remote", name="fetch", restarts=TRIES - 1)),
        "fetch ended with status 4: the DVC remote",
        id="remote-away-at-every-try",
    ),
    pytest.param(
        pod(waiting("ErrImagePull", 'failed to resolve\n"host/x:1"')),
        'server: ErrImagePull: failed to resolve "host/x:1"',
        id="no-image",
    ),
    pytest.param(pod(waiting("ImagePullBackOff")), "server: ImagePullBackOff", id="no-image-still"),
    pytest.param(pod(waiting("InvalidImageName")), "server: InvalidImageName", id="no-name-of-an-image"),
    pytest.param(
        pod(PREPARING, init=waiting("CreateContainerConfigError", 'configmap "coalmine" not found', "fetch")),
        'fetch: CreateContainerConfigError: configmap "coalmine" not found',
        id="no-configuration",
    ),
    pytest.param(pod(waiting("RunContainerError")), "server: RunContainerError", id="no-such-command"),
    pytest.param(
        pod(running("proxy", ready=True), ended(1, "no licence")),
        "server ended with status 1: no licence",
        id="beside-a-proxy-that-does-well",
    ),
    pytest.param(
        unschedulable(OUTSIDE),
        "has no node: Unschedulable: 0/1 nodes are available: 1 Insufficient memory.",
        id="no-node-for-too-long",
    ),
]


@pytest.mark.parametrize(("present", "words"), CANNOT_RUN)
def test_a_pod_that_cannot_run_fails_the_slot_in_its_own_words(present: Json, words: str) -> None:
    status = status_of(deployment(STARTED), present)
    assert status.health is SlotHealth.FAILED
    assert status.detail.startswith("pod m-blue-1")
    assert words in status.detail
    assert "\n" not in status.detail


MAY_RUN = [
    pytest.param(pod(waiting("ContainerCreating")), "server: ContainerCreating", id="container-is-made"),
    pytest.param(pod(PREPARING, init=running("fetch")), "fetch runs", id="fetch-runs"),
    pytest.param(
        pod(
            waiting(
                "CreateContainerConfigError",
                "failed to sync configmap cache: timed out waiting for the condition",
            )
        ),
        "server: CreateContainerConfigError: failed to sync configmap cache",
        id="the-kubelet-has-not-read-its-configuration",
    ),
    pytest.param(pod(running(), init=ended(0, name="fetch")), "server is not ready", id="server-loads"),
    pytest.param(
        pod(PREPARING, init=ended(4, "the DVC remote", name="fetch", restarts=TRIES - 2)),
        "m-blue-1",
        id="remote-away",
    ),
    pytest.param(
        pod(PREPARING, init=waiting("CrashLoopBackOff", name="fetch", last=end(4, "the remote"), restarts=1)),
        "again, since it ended with status 4: the remote",
        id="remote-away-and-the-kubelet-waits",
    ),
    pytest.param(
        pod(running(), init=_container("fetch", {"terminated": end(0)}, end(4), 1, ready=True)),
        "server is not ready",
        id="fetched-at-the-second-try",
    ),
    pytest.param(
        pod(running("proxy"), running(ready=True, last=end(1, TRACEBACK), restarts=1)),
        "proxy is not ready",
        id="died-once-and-is-ready-beside-a-proxy-that-is-not",
    ),
    pytest.param(unschedulable(INSIDE), "has no node: Unschedulable: 0/1 nodes", id="no-node-yet"),
    pytest.param(pod(ended(1), deletionTimestamp=ago(1)), "no pod is there yet", id="died-while-deleted"),
    pytest.param(pod(ended(137), phase="Failed"), "no pod is there yet", id="evicted"),
    pytest.param(pod(ended(1), owner="old"), "no pod is there yet", id="died-with-the-template-before"),
    pytest.param(pod(ended(1), owner="another"), "no pod is there yet", id="somebody-elses-with-our-labels"),
]


@pytest.mark.parametrize(("present", "words"), MAY_RUN)
def test_a_pod_that_may_run_yet_leaves_the_slot_starting_and_says_what_it_waits_for(
    present: Json, words: str
) -> None:
    status = status_of(deployment(STARTED), present)
    assert status.health is SlotHealth.STARTING
    assert words in status.detail


def test_one_pod_that_cannot_run_fails_a_slot_whose_other_pods_may() -> None:
    status = status_of(
        deployment(STARTED, wanted=2), pod(running(), name="m-blue-1"), pod(ended(1), name="m-blue-2")
    )
    assert status == SlotStatus(SlotHealth.FAILED, "pod m-blue-2: server ended with status 1")


def test_pods_of_another_deployment_with_our_labels_are_not_ours() -> None:
    sets = (PRESENT, replica_set("theirs", "2", owner="another"))
    status = status_of(deployment(STARTED), pod(ended(1), owner="theirs"), replica_sets=sets)
    assert status.health is SlotHealth.STARTING


def test_the_pods_before_do_not_make_the_present_template_ready() -> None:
    surging = deployment(STARTED, replicas=2, updated=1, available=1)
    before = pod(running(ready=True), name="m-blue-0", owner="old", ready=True)
    status = status_of(surging, before, pod(running()))
    assert status == SlotStatus(SlotHealth.STARTING, "pod m-blue-1: server is not ready")


def test_a_template_that_comes_back_is_not_ready_by_what_it_was() -> None:
    # Its ReplicaSet is there already, and for a moment the condition is that of the template before.
    back = deployment(ONCE_AVAILABLE, replicas=1, updated=0, available=1)
    assert status_of(back, pod(running(ready=True), owner="old", ready=True)).health is SlotHealth.STARTING


def test_pods_that_are_refused_fail_the_slot_in_the_words_of_the_api_server() -> None:
    words = 'pods "m-blue-1" is forbidden: exceeded quota: small'
    refused = condition("ReplicaFailure", True, "FailedCreate", words)
    status = status_of(deployment(STARTED, refused, replicas=0, updated=0))
    assert status == SlotStatus(SlotHealth.FAILED, f"no pod may be made: {words}")


def test_a_deadline_that_is_over_fails_the_slot_with_what_it_waited_for() -> None:
    over = condition("Progressing", False, "ProgressDeadlineExceeded", "it has timed out progressing.")
    status = status_of(deployment(over), pod(running()))
    assert status.health is SlotHealth.FAILED
    assert status.detail.startswith("ProgressDeadlineExceeded: it has timed out progressing.")
    assert status.detail.endswith("server is not ready")


def test_a_deployment_that_is_paused_fails_with_the_command_that_lets_it_go_on() -> None:
    status = status_of(deployment(STARTED, replicas=0, updated=0, paused=True))
    assert status.health is SlotHealth.FAILED
    assert "kubectl -n ns rollout resume deployment/m-blue" in status.detail


# --- ready, and afterwards -------------------------------------------------------------


def test_ready_is_every_pod_with_the_present_template_and_available() -> None:
    assert status_of(deployment(ONCE_AVAILABLE, wanted=3, available=3)) == SlotStatus(SlotHealth.READY)


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(deployment(seen=6, available=1), id="template-not-seen"),
        pytest.param(deployment(replicas=2, available=1), id="old-pod-still-there"),
        pytest.param(deployment(wanted=2, updated=1, available=2), id="not-all-updated"),
        pytest.param(deployment(wanted=2, available=1), id="not-all-available"),
        pytest.param(deployment(wanted=0), id="scaled-to-nothing"),
    ],
)
def test_nothing_less_is_ready_in_full(of: Json) -> None:
    assert not is_available(of)


def test_a_template_that_nobody_has_seen_is_starting_whatever_the_status_says() -> None:
    unseen = deployment(ONCE_AVAILABLE, seen=6, available=1)
    assert status_of(unseen, pod(ended(1))).health is SlotHealth.STARTING


def test_a_slot_that_is_scaled_to_nothing_fails() -> None:
    status = status_of(deployment(ONCE_AVAILABLE, wanted=0))
    assert status == SlotStatus(SlotHealth.FAILED, "the Deployment m-blue is scaled to 0 replicas")


def test_a_slot_that_served_and_lost_one_of_several_pods_is_ready_still_and_says_so() -> None:
    status = status_of(
        deployment(ONCE_AVAILABLE, wanted=3, available=2),
        pod(running(ready=True), name="m-blue-1", ready=True),
        pod(waiting("CrashLoopBackOff", last=end(1, "gone")), name="m-blue-2", unready_s=900),
    )
    assert status.health is SlotHealth.READY
    assert status.detail == "2 of 3 replicas are available: pod m-blue-2: server ended with status 1: gone"


@pytest.mark.parametrize(
    ("unready_s", "health"),
    [(NONE_READY_GRACE_S - 5, SlotHealth.STARTING), (NONE_READY_GRACE_S + 5, SlotHealth.FAILED)],
)
def test_a_slot_that_served_fails_once_no_pod_has_been_ready_for_a_while(
    unready_s: float, health: SlotHealth
) -> None:
    status = status_of(
        deployment(ONCE_AVAILABLE, wanted=2),
        pod(ended(1, "gone"), name="m-blue-1", unready_s=unready_s),
        pod(ended(1), name="m-blue-2", unready_s=900),
    )
    assert status.health is health
    assert status.detail == f"no replica has been ready for {unready_s:.0f} s: pod m-blue-1: {DIED}"


DIED = "server ended with status 1: gone"


def test_a_pod_that_takes_anothers_place_has_the_same_while_from_its_making() -> None:
    fresh = unschedulable(for_s=10)
    fresh["metadata"]["creationTimestamp"] = ago(10)
    assert status_of(deployment(ONCE_AVAILABLE), fresh).health is SlotHealth.STARTING


@pytest.mark.parametrize(
    ("gone_s", "health"),
    [(NONE_READY_GRACE_S - 5, SlotHealth.STARTING), (NONE_READY_GRACE_S + 5, SlotHealth.FAILED)],
)
def test_without_any_pod_the_deployment_says_since_when_none_is_ready(
    gone_s: float, health: SlotHealth
) -> None:
    gone = condition("Available", False, since_s=gone_s)
    assert status_of(deployment(ONCE_AVAILABLE, gone)).health is health


# --- words -----------------------------------------------------------------------------


def test_words_without_an_end_are_cut() -> None:
    status = status_of(deployment(STARTED), pod(ended(1, "x" * 5000)))
    assert len(status.detail) < LONGEST_WORDS + 60


def test_the_release_is_the_digest_of_the_template() -> None:
    of = deployment()
    assert digest_of(of) is None
    of["spec"]["template"]["metadata"] = {"annotations": {"coalmine.dev/digest": "d" * 64}}
    assert digest_of(of) == "d" * 64
