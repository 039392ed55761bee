"""An environment of many models on a cluster: Git with two releases of each, and an API server that holds
what Flux has brought of it. Nothing diverges.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5, sha256
from pathlib import Path

from benchmarks.record.asking import Took
from coalmine.cluster.client import Json
from coalmine.manifest import Manifest, dump_manifest, manifest_path
from coalmine.operations.built import BuiltObjects
from coalmine.operations.cluster_running import COMPARED
from coalmine.operations.workspace import Workspace
from coalmine.reconcilers.kustomize import build
from coalmine.scaffold.environment import Remotes, Wanted, new_environment
from coalmine.scaffold.repository import init
from coalmine.slots import SlotPod, SlotRelease, Slots, dump_slots, slots_path
from tests.journals.fake_rollouts import make_manifest
from tests.simulators.api_server import StateServer
from tests.simulators.brought import applied_by_flux, brought
from tests.simulators.http_api import NAMESPACE, http_api

EXAMPLE, ENVIRONMENT = "credit-risk", "production"
VERSIONS = ("1.0.0", "1.1.0")
IMAGE = f"registry.example.com/m@sha256:{'5' * 64}"
_NOBODY_LISTENS = "http://127.0.0.1:9"  # for Prometheus: pods are taken at the word of their templates


@dataclass(frozen=True)
class Fleet:
    """environment: what a command finds in its own beside everything else. built: what Kustomize took for the
    objects of all models, which a look finds built."""

    environment: Mapping[str, str]
    built: Took


@dataclass(frozen=True)
class _Release:
    """One version of one model. text: its manifest as written."""

    version: str
    commit: str
    digest: str
    text: str


@contextmanager
def fleet(top: Path, models: int) -> Iterator[Fleet]:
    """top: where the clone will be; whoever calls has a name in Git."""
    init(top, examples=(EXAMPLE,))
    names = [f"model-{number:04}" for number in range(models)]
    _write_models(top, names)
    remotes = Remotes("https://git.example.com/m.git", "main", "s3://m/dvc")
    wanted = Wanted(
        router="gateway_api",
        reconciler="flux",
        namespace=NAMESPACE,
        host="models.example.com",
        gateway="gateways/users",
        prometheus_url=_NOBODY_LISTENS,
    )
    new_environment(top, ENVIRONMENT, wanted, remotes)
    _commit(top, "Models, and where they serve")
    released = [_release(top, names, version) for version in VERSIONS]
    for name in names:
        slots = _slots(name, [releases[name] for releases in released])
        _write(top, slots_path(ENVIRONMENT, name), dump_slots(slots))
    head = _commit(top, "Slots")
    objects, built = _built(top, head)
    state = StateServer()
    brought(state, [*objects, *_routes(top, names)], NAMESPACE)
    applied_by_flux(state, ENVIRONMENT, NAMESPACE, head)
    with http_api(state) as api:
        kubeconfig = _kubeconfig(top.with_suffix(".kubeconfig"), api.port)
        yield Fleet({"KUBECONFIG": str(kubeconfig)}, built)


def _built(top: Path, commit: str) -> tuple[Sequence[Json], Took]:
    """As the first look at a commit builds them."""
    workspace = Workspace.open(top)
    kinds = [each.kind for each in COMPARED]
    objects = BuiltObjects(workspace.repository, ENVIRONMENT, workspace.settings.environments, kinds)
    began_s, worked_s = time.monotonic(), _processor_s()
    found = objects.at(commit)
    return found, Took(time.monotonic() - began_s, _processor_s() - worked_s, None, os.getloadavg()[0])


def _routes(top: Path, names: Sequence[str]) -> list[Json]:
    """That of the first model, which a look does not build, for each of them."""
    objects = build(top, slots_path(ENVIRONMENT, names[0]).parent, "the benchmark")
    texts = [json.dumps(each) for each in objects if each["kind"] == "HTTPRoute"]
    return [json.loads(text.replace(names[0], name)) for name in names for text in texts]


def _processor_s() -> float:
    """Of this process and of those that it has ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _write_models(top: Path, names: Sequence[str]) -> None:
    """Each as the example, in its place."""
    text = (top / "models" / EXAMPLE / "model.yaml").read_text(encoding="utf-8")
    for name in names:
        _write(top, Path("models") / name / "model.yaml", text.replace(EXAMPLE, name))


def _release(top: Path, names: Sequence[str], version: str) -> Mapping[str, _Release]:
    """`version` of each model, recorded in one commit, with its bytes in the DVC remote."""
    texts = {}
    for name in names:
        manifest = _manifest(name, version)
        texts[name] = dump_manifest(manifest)
        _write(top, manifest_path(name), texts[name])
        for file in manifest.all_files:
            # Not empty: an empty file counts as none.
            _write(top, Path(".coalmine/remotes/dvc/files/md5") / file.md5[:2] / file.md5[2:], "bytes")
    commit = _commit(top, f"Release {version} of each model")
    tags = "".join(f"create refs/tags/{name}@v{version} {commit}\n" for name in names)
    _git(top, "update-ref", "--stdin", stdin=tags)
    return {
        name: _Release(version, commit, sha256(text.encode()).hexdigest(), text)
        for name, text in texts.items()
    }


def _manifest(name: str, version: str) -> Manifest:
    plain = make_manifest(version)
    digest = md5(f"{name} {version}".encode()).hexdigest()
    file = plain.files[0].model_copy(update={"path": f"models/{name}/model.skops", "md5": digest})
    return plain.model_copy(update={"model": name, "files": (file,)})


def _slots(name: str, releases: Sequence[_Release]) -> Slots:
    """The last of `releases` serves, and the one before stands by."""
    slots = Slots(environment=ENVIRONMENT, model=name)
    for each in releases:
        release = SlotRelease(version=each.version, commit=each.commit, model_digest=each.digest)
        pod = SlotPod(
            version=each.version,
            digest=each.digest,
            image=IMAGE,
            manifest=each.text,
            timeout_s="2.0",
            queue="1024",
        )
        slots = slots.with_candidate(release, pod).with_promotion()
    return slots


def _kubeconfig(file: Path, port: int) -> Path:
    cluster = {"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "it", "user": {}}]}
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "it", **content}))
    return file


def _write(top: Path, path: Path, text: str) -> None:
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    (top / path).write_text(text, encoding="utf-8")


def _commit(top: Path, message: str) -> str:
    """Everything, pushed."""
    _git(top, "add", "--all")
    _git(top, "commit", "--quiet", "--message", message)
    _git(top, "push", "--quiet")
    return _git(top, "rev-parse", "HEAD")


def _git(top: Path, *words: str, stdin: str = "") -> str:
    ran = subprocess.run(["git", *words], cwd=top, input=stdin, capture_output=True, text=True, check=True)
    return ran.stdout.strip()
