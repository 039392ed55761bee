"""The objects that Git has for an environment, built once for each state of the files that they are built of.

Kustomize takes a quarter of a second for one model, and for many at once more than so many times as long: 50
take 5 seconds, 200 take 38. So the environment is built in parts, on all cores: a few of its resources at a
time, by its own kustomization.yaml without the others. What came out is kept under .coalmine/built, by the
Git ids of all that went in. An environment whose parts do not build without one another is one part.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from queue import SimpleQueue

import orjson
import yaml

from coalmine.cluster.client import Json
from coalmine.durable import replace_bytes
from coalmine.errors import SpecError
from coalmine.reconcilers.kustomize import K8S, build
from coalmine.registry.repository import Repository
from coalmine.settings import STATE
from coalmine.yaml_loader import YAML_LOADER

AT_ONCE = 8  # resources of one part: the start of Kustomize is shared, and a release builds few others again
_ENVIRONMENTS, _FILE = K8S / "environments", "kustomization.yaml"


@dataclass(frozen=True)
class _Part:
    """id: of all that it is built of. resources: of the environment's kustomization.yaml; None: all."""

    id: str
    resources: Sequence[str] | None


class BuiltObjects:
    """environment: one of `environments`, whose folders do not use one another's files. kinds: of objects
    that are wanted; the others are left out."""

    def __init__(
        self, repository: Repository, environment: str, environments: Collection[str], kinds: Collection[str]
    ) -> None:
        self._repository = repository
        self._folder = _ENVIRONMENTS / environment
        self._environments = environments
        self._kinds = kinds
        self._files = repository.top / STATE / "built" / environment
        self._known: dict[str, Sequence[Json]] = {}

    def at(self, commit: str) -> Sequence[Json]:
        """
        Raises:
            SpecError: k8s/ does not build.
            MachineUnready: nothing here builds it, or what was built cannot be kept.
        """
        whole = _Part(self._id_of(self._repository.git("rev-parse", f"{commit}:{K8S}")), None)
        is_one = whole.id in self._known or self._file(whole.id).exists()
        parts = [whole] if is_one else self._parts(commit, whole)
        try:
            known = self._built(commit, parts)
        except SpecError:
            if parts == [whole]:
                raise
            parts = [whole]
            known = self._built(commit, parts)
        self._known = known
        self._keep_only(known)
        return [each for part in parts for each in known[part.id]]

    # --- what it is built of ---------------------------------------------------------------

    def _parts(self, commit: str, whole: _Part) -> list[_Part]:
        own = self._ids(commit, self._folder)
        if _FILE not in own:
            return [whole]
        resources = _resources(self._repository.read(commit, self._folder / _FILE))
        ids = {each: own[name] for each in resources if (name := str(PurePosixPath(each))) in own}
        of_parts = {str(PurePosixPath(each)) for each in ids}
        top, beside = self._ids(commit, K8S), self._ids(commit, _ENVIRONMENTS)
        shared = [
            sorted((name, id) for name, id in own.items() if name not in of_parts),
            sorted((name, id) for name, id in top.items() if name != _ENVIRONMENTS.name),
            sorted((name, id) for name, id in beside.items() if name not in self._environments),
        ]
        here, elsewhere = list(ids), [each for each in resources if each not in ids]
        groups = [here[start : start + AT_ONCE] for start in range(0, len(here), AT_ONCE)]
        groups += [elsewhere] if elsewhere else []
        return [_Part(self._id_of([*shared, [(each, ids.get(each)) for each in of]]), of) for of in groups]

    def _ids(self, commit: str, folder: Path) -> dict[str, str]:
        """Name of each entry of `folder` to its Git id."""
        listed = self._repository.git("ls-tree", "-z", f"{commit}:{folder.as_posix()}")
        entries = (entry.partition("\t") for entry in listed.split("\0") if entry)
        return {name: about.split()[2] for about, _, name in entries}

    def _id_of(self, files: object) -> str:
        return sha256(repr([sorted(self._kinds), files]).encode()).hexdigest()

    # --- to build --------------------------------------------------------------------------

    def _built(self, commit: str, parts: Sequence[_Part]) -> dict[str, Sequence[Json]]:
        """Part's id to its objects."""
        known = {part.id: self._known.get(part.id) or self._read(part.id) for part in parts}
        missing = [part for part in parts if known[part.id] is None]
        if missing:
            for part, objects in zip(missing, self._all_of(commit, missing), strict=True):
                known[part.id] = objects
                replace_bytes(self._file(part.id), orjson.dumps(objects))
        return {id: objects for id, objects in known.items() if objects is not None}

    def _all_of(self, commit: str, parts: Sequence[_Part]) -> list[list[Json]]:
        workers = min(len(parts), os.cpu_count() or 1)
        with tempfile.TemporaryDirectory(prefix="coalmine-k8s-") as name:
            free: SimpleQueue[Path] = SimpleQueue()
            for number in range(workers):  # each has files of its own to write to
                top = Path(name, str(number))
                top.mkdir()
                self._repository.export(commit, [K8S], top)
                free.put(top)

            def build_one(part: _Part) -> list[Json]:
                top = free.get()
                try:
                    return self._build(top, part, f"commit {commit[:12]}")
                finally:
                    free.put(top)

            pool = ThreadPoolExecutor(workers, "kustomize")
            try:
                return list(pool.map(build_one, parts))
            finally:
                pool.shutdown(cancel_futures=True)  # where one does not build, the rest are not waited for

    def _build(self, top: Path, part: _Part, where: str) -> list[Json]:
        if part.resources is not None:
            file = top / self._folder / _FILE
            content = yaml.load(file.read_bytes(), Loader=YAML_LOADER)
            file.write_text(yaml.safe_dump({**content, "resources": list(part.resources)}), encoding="utf-8")
        return [each for each in build(top, self._folder, where) if each["kind"] in self._kinds]

    # --- what was built --------------------------------------------------------------------

    def _file(self, id: str) -> Path:
        return self._files / f"{id}.json"

    def _read(self, id: str) -> list[Json] | None:
        """None: it was not built here, or what was kept of it is damaged."""
        with suppress(OSError, orjson.JSONDecodeError):
            found: list[Json] = orjson.loads(self._file(id).read_bytes())
            return found
        return None

    def _keep_only(self, ids: Collection[str]) -> None:
        for file in self._files.glob("*.json"):
            if file.stem not in ids:
                file.unlink(missing_ok=True)


def _resources(kustomization: bytes) -> list[str]:
    """Nothing where it has none, or cannot be read: then Kustomize will say so."""
    with suppress(yaml.YAMLError):
        content = yaml.load(kustomization, Loader=YAML_LOADER)
        if isinstance(content, dict) and isinstance(found := content.get("resources"), list):
            return [each for each in found if isinstance(each, str)]
    return []
