"""An environment of many models on a cluster: Git with two releases of each, and an API server that holds
what Flux has brought of it. Nothing diverges.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path

from coalmine.manifest import Manifest, dump_manifest, manifest_path
from coalmine.operations.built import BuiltObjects
from coalmine.registry.repository import Repository
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


@contextmanager
def fleet(top: Path, models: int) -> Iterator[Mapping[str, str]]:
    """
    top: where the clone will be; whoever calls has a name in Git. Yields what a command there finds in its
    environment beside everything else.
    """
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
    releases = [_release(top, names, version) for version in VERSIONS]
    for name in names:
        _write(top, slots_path(ENVIRONMENT, name), dump_slots(_slots(name, releases)))
    head = _commit(top, "Slots")
    state = StateServer()
    built = BuiltObjects(
        Repository.open(top), ENVIRONMENT, {ENVIRONMENT}, ("Deployment", "ConfigMap", "HTTPRoute")
    )
    brought(state, built.at(head), NAMESPACE)
    applied_by_flux(state, ENVIRONMENT, NAMESPACE, head)
    with http_api(state) as api:
        yield {"KUBECONFIG": str(_kubeconfig(top.with_suffix(".kubeconfig"), api.port))}


def _write_models(top: Path, names: Sequence[str]) -> None:
    """Each as the example, in its place."""
    text = (top / "models" / EXAMPLE / "model.yaml").read_text(encoding="utf-8")
    for name in names:
        _write(top, Path("models") / name / "model.yaml", text.replace(EXAMPLE, name))


def _release(top: Path, names: Sequence[str], version: str) -> tuple[str, Mapping[str, Manifest]]:
    """`version` of each model, recorded in one commit, with its bytes in the DVC remote; the commit."""
    manifests = {name: _manifest(name, version) for name in names}
    for name, manifest in manifests.items():
        _write(top, manifest_path(name), dump_manifest(manifest))
        for file in manifest.all_files:
            _write(
                top, Path(".coalmine/remotes/dvc/files/md5") / file.md5[:2] / file.md5[2:], "bytes"
            )  # empty files count as none
    commit = _commit(top, f"Release {version} of each model")
    tags = "".join(f"create refs/tags/{name}@v{version} {commit}\n" for name in names)
    _git(top, "update-ref", "--stdin", stdin=tags)
    return commit, manifests


def _manifest(name: str, version: str) -> Manifest:
    plain = make_manifest(version)
    digest = md5(f"{name} {version}".encode()).hexdigest()
    file = plain.files[0].model_copy(update={"path": f"models/{name}/model.skops", "md5": digest})
    return plain.model_copy(update={"model": name, "files": (file,)})


def _slots(name: str, releases: Sequence[tuple[str, Mapping[str, Manifest]]]) -> Slots:
    """The last of `releases` serves, and the one before stands by."""
    slots = Slots(environment=ENVIRONMENT, model=name)
    for commit, manifests in releases:
        manifest = manifests[name]
        release = SlotRelease(version=manifest.version, commit=commit, model_digest=manifest.digest)
        pod = SlotPod(
            version=manifest.version,
            digest=manifest.digest,
            image=IMAGE,
            manifest=dump_manifest(manifest),
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
