from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from coalmine.cluster.kinds import DEPLOYMENT, GIT_REPOSITORY, KUSTOMIZATION, Kind
from coalmine.errors import ReconcilerUnavailable, Unsupported
from coalmine.reconcilers import flux
from coalmine.reconcilers.deployed import digests_of
from coalmine.reconcilers.flux import FluxReconciler, Pushed
from coalmine.reconcilers.flux_state import REQUESTED_AT
from coalmine.rollout.ports import SlotHealth
from coalmine.settings import FluxSettings
from coalmine.slots import Slot, Slots
from tests.contracts.reconciler import BETTER, GOOD, slots
from tests.reconcilers.api_server import RESOURCES, ApiServer, api_server, path_of

Json = dict[str, Any]

NAMESPACE = "flux-system"
COMMITS = [character * 40 for character in "abc"]  # of the branch, oldest first
OLDER, OURS, NEWER = COMMITS
ROLLING_OUT = slots({Slot.BLUE: GOOD, Slot.GREEN: BETTER}).model_copy(update={"candidate": Slot.GREEN})
AT_REST = ROLLING_OUT.model_copy(update={"candidate": None})


def revision(commit: str) -> str:
    return f"main@sha1:{commit}"


@dataclass
class Flux:
    """What Flux's two controllers make of a request. A test changes it.

    remote: the commit at the tip of the branch. slots: what the branch holds from OURS on.
    source_fails, kustomization_fails: reason and message of the condition Ready.
    """

    server: ApiServer
    remote: str = OURS
    slots: Slots = AT_REST
    source_fails: tuple[str, str] | None = None
    kustomization_fails: tuple[str, str] | None = None
    source_runs: bool = True
    kustomization_runs: bool = True
    looks_at_health: bool = False
    asked_meanwhile: bool = False  # by another one, before each answer is out
    asked: list[str] = field(default_factory=list)

    def __call__(self, written: Json) -> None:
        requested = written["metadata"].get("annotations", {}).get(REQUESTED_AT)
        status = written.setdefault("status", {})
        if requested is None or requested == status.get("lastHandledReconcileAt"):
            return
        self.asked.append(written["kind"])
        match written["kind"]:
            case "GitRepository" if self.source_runs:
                self.fetch(status)
                status["lastHandledReconcileAt"] = requested
            case "Kustomization" if self.kustomization_runs:
                self.apply(status)
                if not self.looks_at_health:
                    status["lastHandledReconcileAt"] = requested
            case _:
                pass
        if self.asked_meanwhile:
            later = datetime.fromisoformat(requested) + timedelta(seconds=1)
            written["metadata"]["annotations"][REQUESTED_AT] = later.isoformat()

    def fetch(self, status: Json) -> None:
        if self.source_fails is not None:
            status["conditions"] = [ready("False", *self.source_fails)]
            return
        status["artifact"] = {"revision": revision(self.remote)}
        status["conditions"] = [ready("True", "Succeeded")]

    def apply(self, status: Json) -> None:
        fetched = self.server.at(GIT_REPOSITORY, "coalmine", NAMESPACE)["status"]["artifact"]["revision"]
        failed_before = ("ArtifactFailed", "DependencyNotReady")
        if self.kustomization_fails is None or self.kustomization_fails[0] not in failed_before:
            status["lastAttemptedRevision"] = fetched
        if self.kustomization_fails is not None:
            status["conditions"] = [ready("False", *self.kustomization_fails)]
            return
        deploy(self.server, self.slots if fetched >= revision(OURS) else slots({}))
        status["conditions"] = [ready("True", "ReconciliationSucceeded", f"Applied revision: {fetched}")]
        if self.looks_at_health:
            words = f"Running health checks for revision {fetched} with a timeout of 5m0s"
            progress = {"reason": "Progressing", "message": words}
            status["conditions"] = [
                {"type": "Ready", "status": "Unknown", **progress},
                {"type": "Reconciling", "status": "True", **progress},
                {"type": "Healthy", "status": "Unknown", **progress},
            ]


def ready(status: str, reason: str, message: str = "") -> Json:
    return {"type": "Ready", "status": status, "reason": reason, "message": message}


def deploy(server: ApiServer, wanted: Slots) -> None:
    for slot, digest in digests_of(wanted).items():
        if digest is None:
            server.objects.pop(path_of(DEPLOYMENT, f"m-{slot}"), None)
            continue
        template = {"metadata": {"annotations": {"coalmine.dev/digest": digest}}}
        server.put(DEPLOYMENT, {"metadata": {"name": f"m-{slot}"}, "spec": {"template": template}})


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux, "_POLL_S", 0.005)
    monkeypatch.setattr(flux, "_ASK_AGAIN_S", 0.02)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with api_server() as served:
        yield served


@pytest.fixture
def controllers(server: ApiServer) -> Flux:
    """Flux as it stands before the commit is pushed: installed, and at OLDER."""
    metadata = {"name": "coalmine", "namespace": NAMESPACE}
    source = {"url": "https://robot:secret@git.example/shop.git", "ref": {"branch": "main"}}
    server.put(GIT_REPOSITORY, {"metadata": metadata, "spec": source})
    builds = {"sourceRef": {"kind": "GitRepository", "name": "coalmine"}, "path": "./k8s/x", "prune": True}
    server.put(KUSTOMIZATION, {"metadata": metadata, "spec": builds})
    server.on_write = made = Flux(server)
    return made


def reconciler(server: ApiServer, within_s: float = 0.2) -> FluxReconciler:
    def is_before(commit: str, other: str) -> bool:
        return commit in COMMITS and COMMITS.index(commit) < COMMITS.index(other)

    settings = FluxSettings(kustomization="coalmine")
    return FluxReconciler(server.cluster(), "m", settings, Pushed("main", lambda: OURS, is_before), within_s)


def refusal(server: ApiServer, wanted: Slots = AT_REST) -> str:
    with pytest.raises(ReconcilerUnavailable) as refused:
        reconciler(server).reconcile(wanted)
    return str(refused.value)


def spec(server: ApiServer, kind: str) -> Json:
    of = GIT_REPOSITORY if kind == "source" else KUSTOMIZATION
    found: Json = server.at(of, "coalmine", NAMESPACE)["spec"]
    return found


# --- what is taken up ------------------------------------------------------------------


def test_the_source_is_asked_before_the_kustomization(server: ApiServer, controllers: Flux) -> None:
    reconciler(server).reconcile(AT_REST)
    assert controllers.asked == ["GitRepository", "Kustomization"]


def test_where_somebody_always_asks_anew_ones_own_request_is_answered_all_the_same(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.asked_meanwhile = True
    reconciler(server).reconcile(AT_REST)
    assert controllers.asked == ["GitRepository", "Kustomization"]


def test_a_commit_of_somebody_else_on_top_is_as_good(server: ApiServer, controllers: Flux) -> None:
    controllers.remote = NEWER
    reconciler(server).reconcile(AT_REST)


def test_a_commit_that_nobody_here_knows_is_judged_by_what_it_brings(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.remote = "f" * 40
    reconciler(server).reconcile(AT_REST)


def test_what_the_remote_does_not_show_at_once_is_asked_for_again(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.remote = OLDER
    fetch = controllers.fetch

    def later(status: Json) -> None:
        fetch(status)
        controllers.remote = OURS

    controllers.fetch = later  # type: ignore[method-assign]
    reconciler(server).reconcile(AT_REST)
    assert controllers.asked == ["GitRepository", "GitRepository", "Kustomization"]


@pytest.mark.parametrize("reason", ["Progressing", "ProgressingWithRetry", "NewRevision"])
def test_a_source_whose_controller_was_interrupted_has_not_failed(
    server: ApiServer, controllers: Flux, reason: str
) -> None:
    fetch = controllers.fetch
    controllers.source_fails = (reason, "reconciliation in progress")
    fetched = {"artifact": {"revision": revision(OLDER)}}
    server.at(GIT_REPOSITORY, "coalmine", NAMESPACE)["status"] = fetched

    def later(status: Json) -> None:
        fetch(status)
        controllers.source_fails = None

    controllers.fetch = later  # type: ignore[method-assign]
    reconciler(server).reconcile(AT_REST)
    assert controllers.asked == ["GitRepository", "GitRepository", "Kustomization"]


def test_an_older_commit_with_the_same_pods_is_not_taken_for_ours(
    server: ApiServer, controllers: Flux
) -> None:
    # A promotion changes roles and no pods: given back now, the route would move the users back.
    deploy(server, AT_REST)
    controllers.remote = OLDER
    assert f"has main@sha1:{OLDER} of https://git.example/shop.git; coalmine pushed bbbb" in refusal(server)


def test_a_kustomization_that_looks_at_health_for_minutes_has_taken_up(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.looks_at_health = True
    reconciler(server).reconcile(AT_REST)


def test_a_candidate_that_is_not_healthy_is_taken_up_all_the_same(
    server: ApiServer, controllers: Flux
) -> None:
    apply = controllers.apply

    def unhealthy(status: Json) -> None:
        apply(status)
        status["conditions"] = [ready("False", "HealthCheckFailed", "Deployment/ns/m-green: timeout")]

    controllers.apply = unhealthy  # type: ignore[method-assign]
    reconciler(server).reconcile(AT_REST)


def test_a_status_speaks_of_what_was_asked_for_although_it_did_not_come(
    server: ApiServer, controllers: Flux
) -> None:
    deploy(server, slots({Slot.GREEN: GOOD}))
    controllers.source_runs = False
    asked = reconciler(server)
    with pytest.raises(ReconcilerUnavailable):
        asked.reconcile(slots({Slot.GREEN: BETTER}))
    status = asked.status(Slot.GREEN)
    assert status.health is SlotHealth.STARTING
    assert status.detail == "the Deployment m-green still has release 111111111111, not 222222222222"


# --- states of Flux, and what to type --------------------------------------------------

Change = Callable[[ApiServer, Flux], None]


def set_in(kind: str, **fields: Any) -> Change:
    return lambda server, _: spec(server, kind).update(fields)


def fails(part: str, reason: str, message: str) -> Change:
    return lambda _, controllers: setattr(controllers, f"{part}_fails", (reason, message))


def at(commit: str) -> Change:
    return lambda _, controllers: setattr(controllers, "remote", commit)


def down(part: str) -> Change:
    return lambda _, controllers: setattr(controllers, f"{part}_runs", False)


def brings(wanted: Slots) -> Change:
    return lambda _, controllers: setattr(controllers, "slots", wanted)


def absent(kind: Kind) -> Change:
    def take_away(server: ApiServer, _: Flux) -> None:
        del server.objects[path_of(kind, "coalmine", NAMESPACE)]

    return take_away


SOURCE, KUSTOMIZED = "Flux's GitRepository flux-system/coalmine", "Flux's Kustomization flux-system/coalmine"
STATES = [
    pytest.param(
        set_in("source", suspend=True),
        f"{SOURCE} is suspended",
        "flux resume source git coalmine -n flux-system",
        id="source-suspended",
    ),
    pytest.param(
        set_in("kustomization", suspend=True),
        f"{KUSTOMIZED} is suspended",
        "flux resume kustomization coalmine -n flux-system",
        id="kustomization-suspended",
    ),
    pytest.param(
        set_in("source", ref={"branch": "production"}),
        f"{SOURCE} follows the branch production of https://git.example/shop.git, and coalmine pushes to the "
        "branch main",
        "`git.branch` in coalmine.yaml",
        id="another-branch",
    ),
    pytest.param(
        set_in("source", ref=None), "follows the branch master", "`spec.ref.branch`", id="no-branch-named"
    ),
    pytest.param(
        set_in("source", ref={"branch": "main", "tag": "v1"}),
        "follows the tag v1",
        "`spec.ref.branch`",
        id="pinned",
    ),
    pytest.param(
        fails("source", "AuthenticationFailed", "secret 'git' not found"),
        f"{SOURCE} cannot fetch the branch main of https://git.example/shop.git: secret 'git' not found",
        "`spec.secretRef`",
        id="no-secret",
    ),
    pytest.param(
        fails("source", "GitOperationFailed", "unable to clone: authentication required"),
        "authentication required",
        "It may not read there: name a Secret",
        id="not-allowed-to-read",
    ),
    pytest.param(
        fails("source", "GitOperationFailed", "unable to clone: repository not found"),
        "unable to clone: repository not found",
        "flux reconcile source git coalmine -n flux-system",
        id="no-such-repository",
    ),
    pytest.param(
        fails("kustomization", "BuildFailed", "kustomize build failed: no such\n file"),
        f"{KUSTOMIZED} cannot apply main@sha1:{OURS}: the folder does not build. kustomize build failed: no "
        "such file",
        "kubectl kustomize ./k8s/x",
        id="does-not-build",
    ),
    pytest.param(
        fails("kustomization", "ReconciliationFailed", "Deployment/ns/m-blue dry-run failed: immutable"),
        "the API server refuses what was built",
        "m-blue dry-run failed: immutable",
        id="refused-by-the-api-server",
    ),
    pytest.param(
        fails("kustomization", "PruneFailed", "m-green: forbidden"),
        "what Git no longer has cannot be deleted",
        "m-green: forbidden",
        id="cannot-prune",
    ),
    pytest.param(
        fails("kustomization", "DependencyNotReady", "dependency 'flux-system/infra' is not ready"),
        "dependency 'flux-system/infra' is not ready",
        "flux get kustomizations -n flux-system",
        id="waits-for-another-one",
    ),
    pytest.param(
        fails("kustomization", "ArtifactFailed", "kustomization path not found: stat /tmp/x"),
        "kustomization path not found",
        "Is `spec.path` (./k8s/x) a folder of the repository?",
        id="no-such-folder",
    ),
    pytest.param(
        at(OLDER), f"has main@sha1:{OLDER}", "If the two are one repository, run again", id="behind"
    ),
    pytest.param(
        brings(slots({Slot.BLUE: GOOD})),
        f"has applied main@sha1:{OURS}, and yet the Deployment m-green is not there yet",
        "is its namespace the one in coalmine.yaml?",
        id="applied-elsewhere",
    ),
    pytest.param(
        down("source"),
        f"{SOURCE} was asked, and nobody answered within 0.2 s",
        "flux check",
        id="source-down",
    ),
    pytest.param(
        down("kustomization"),
        f"{KUSTOMIZED} was asked, and nobody answered within 0.2 s",
        "flux check",
        id="kustomization-down",
    ),
    pytest.param(
        absent(KUSTOMIZATION),
        "There is no Kustomization coalmine in the namespace flux-system",
        "kubectl get kustomizations.kustomize.toolkit.fluxcd.io -A",
        id="no-kustomization",
    ),
    pytest.param(
        absent(GIT_REPOSITORY),
        f"{KUSTOMIZED} builds from the GitRepository flux-system/coalmine, and there is none",
        "kubectl get gitrepositories.source.toolkit.fluxcd.io -A",
        id="no-source",
    ),
]


@pytest.mark.parametrize(("change", "words", "remedy"), STATES)
def test_what_is_wrong_with_flux_is_named_with_its_words_and_the_remedy(
    server: ApiServer, controllers: Flux, change: Change, words: str, remedy: str
) -> None:
    change(server, controllers)
    said = refusal(server)
    assert words in said
    assert remedy in said
    assert "secret@" not in said
    assert "\n" not in said


def test_without_flux_it_says_what_to_install_or_to_write_instead(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(RESOURCES, KUSTOMIZATION.path)
    said = refusal(server)
    assert "has no Flux" in said
    assert "`reconciler: apply`" in said


@pytest.mark.parametrize("kind", ["OCIRepository", "Bucket"])
def test_a_source_that_nobody_can_push_a_commit_to_is_unsupported(
    server: ApiServer, controllers: Flux, kind: str
) -> None:
    spec(server, "kustomization")["sourceRef"]["kind"] = kind
    with pytest.raises(Unsupported, match=f"builds from the {kind} coalmine"):
        reconciler(server).reconcile(AT_REST)
    assert controllers.asked == []


@pytest.mark.usefixtures("controllers")
def test_a_source_in_another_namespace_is_found_there(server: ApiServer) -> None:
    source = server.objects.pop(path_of(GIT_REPOSITORY, "coalmine", NAMESPACE))
    spec(server, "kustomization")["sourceRef"] |= {"name": "shop", "namespace": "sources"}
    metadata = {"name": "shop", "namespace": "sources"}
    server.put(GIT_REPOSITORY, {"metadata": metadata, "spec": {**source["spec"], "suspend": True}})
    said = refusal(server)
    assert "GitRepository sources/shop is suspended" in said
    assert "flux resume source git shop -n sources" in said


def test_an_emptied_slot_that_stays_since_nothing_is_pruned_is_said_so(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.slots = AT_REST
    spec(server, "kustomization")["prune"] = False
    said = refusal(server, slots({Slot.BLUE: GOOD}))
    assert "the Deployment m-green is still there: it deletes nothing. Set `spec.prune` to true" in said


def test_a_kustomization_that_is_busy_with_the_health_of_another_commit_says_how_to_be_rid_of_that(
    server: ApiServer, controllers: Flux
) -> None:
    controllers.kustomization_runs = False
    words = f"Running health checks for revision {revision(OLDER)} with a timeout of 5m0s"
    working = {"type": "Reconciling", "status": "True", "message": words}
    server.at(KUSTOMIZATION, "coalmine", NAMESPACE)["status"] = {"conditions": [working]}
    said = refusal(server)
    assert words in said
    assert "set `spec.wait` to false" in said


@pytest.fixture
def at_work(server: ApiServer, controllers: Flux) -> Flux:
    controllers.kustomization_runs = False
    working = {"type": "Reconciling", "status": "True", "message": "Building manifests"}
    server.at(KUSTOMIZATION, "coalmine", NAMESPACE)["status"] = {"conditions": [working]}
    return controllers


def test_flux_that_is_at_work_is_waited_for(server: ApiServer, at_work: Flux) -> None:
    def answer() -> None:
        at_work.kustomization_runs = True
        at_work(server.at(KUSTOMIZATION, "coalmine", NAMESPACE))

    later = threading.Timer(1.0, answer)
    later.start()
    reconciler(server, within_s=0.2).reconcile(AT_REST)
    later.join()


def test_but_not_for_ever(server: ApiServer, at_work: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flux, "AT_WORK_FOR_S", 0.3)
    assert "is at work still after 0.5 s: Building manifests" in refusal(server)
    assert at_work.asked == ["GitRepository", "Kustomization"]


def test_the_failure_of_an_older_commit_is_not_taken_for_ours(server: ApiServer, controllers: Flux) -> None:
    apply = controllers.apply
    failures = iter([("BuildFailed", "of the one before"), None])

    def at_first_not_ours(status: Json) -> None:
        """Its controller may see the source a moment later than we do."""
        controllers.kustomization_fails = next(failures)
        apply(status)
        if controllers.kustomization_fails is not None:
            status["lastAttemptedRevision"] = revision(OLDER)

    controllers.apply = at_first_not_ours  # type: ignore[method-assign]
    reconciler(server).reconcile(AT_REST)


def test_the_success_of_an_older_commit_is_not_taken_for_ours(server: ApiServer, controllers: Flux) -> None:
    apply = controllers.apply
    looks = iter([OLDER, OURS])

    def a_moment_behind(status: Json) -> None:
        source = server.at(GIT_REPOSITORY, "coalmine", NAMESPACE)["status"]["artifact"]
        source["revision"] = revision(next(looks))
        apply(status)
        source["revision"] = revision(OURS)

    controllers.apply = a_moment_behind  # type: ignore[method-assign]
    reconciler(server).reconcile(AT_REST)


# --- a rollout goes on without Flux ----------------------------------------------------


@pytest.mark.usefixtures("controllers")
def test_a_rollout_that_goes_on_needs_no_flux_where_its_slots_run_already(server: ApiServer) -> None:
    deploy(server, ROLLING_OUT)
    spec(server, "source")["suspend"] = True
    reconciler(server).reconcile(ROLLING_OUT)


@pytest.mark.usefixtures("controllers")
def test_at_rest_flux_must_have_the_commit_whatever_runs(server: ApiServer) -> None:
    deploy(server, AT_REST)
    spec(server, "source")["suspend"] = True
    assert "is suspended" in refusal(server, AT_REST)


@pytest.mark.usefixtures("controllers")
def test_a_candidate_that_is_not_there_yet_needs_flux(server: ApiServer) -> None:
    deploy(server, slots({Slot.BLUE: GOOD}))
    spec(server, "source")["suspend"] = True
    assert "is suspended" in refusal(server, ROLLING_OUT)
