"""A container as Kubernetes would run it: root read-only, nobody's user, no rights, by runc."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Image:
    """An image of buildah's store, unpacked."""

    def __init__(self, reference: str, root: Path) -> None:
        self.reference = reference
        self.root = root

    @property
    def config(self) -> dict[str, Any]:
        shown = _buildah("inspect", "--type", "image", self.reference)
        config: dict[str, Any] = json.loads(shown)["OCIv1"]["config"]
        return config


@contextmanager
def unpacked(reference: str) -> Iterator[Image]:
    container = _buildah("from", "--pull-never", reference)
    try:
        yield Image(reference, Path(_buildah("mount", container)))
    finally:
        _buildah("rm", container)


class Container:
    """`command` in a container on this machine's network.

    volumes: from the place in the container to a folder here, ":ro" at its end for reading only.
    """

    def __init__(self, image: Image, bundle: Path, command: list[str], volumes: Mapping[str, str]) -> None:
        bundle.mkdir()
        config = _spec(image, bundle, command, volumes)
        (bundle / "config.json").write_text(json.dumps(config))
        self._name = f"coalmine-{uuid.uuid4().hex[:12]}"
        self.process = subprocess.Popen(
            ["runc", "run", "--bundle", str(bundle), self._name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, within_s: float = 60.0) -> tuple[int, str]:
        """Exit status and words, once it has ended by itself."""
        said, _ = self.process.communicate(timeout=within_s)
        return self.process.returncode, said

    def signal(self, name: str) -> None:
        subprocess.run(["runc", "kill", self._name, name], capture_output=True, check=False)


@contextmanager
def started(
    image: Image, bundle: Path, command: list[str], volumes: Mapping[str, str]
) -> Iterator[Container]:
    container = Container(image, bundle, command, volumes)
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.signal("KILL")
        container.process.communicate()


def _spec(image: Image, bundle: Path, command: list[str], volumes: Mapping[str, str]) -> dict[str, Any]:
    (bundle / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    spec: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    uid, _, gid = image.config["User"].partition(":")
    spec["root"] = {"path": str(image.root), "readonly": True}
    process = spec["process"]
    process["terminal"] = False
    process["args"] = command
    process["user"] = {"uid": int(uid), "gid": int(gid)}
    process["env"] = image.config["Env"]
    process["cwd"] = image.config.get("WorkingDir") or "/"
    process["capabilities"] = {}
    assert process["noNewPrivileges"]
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    spec["linux"].pop("resources", None)
    spec["mounts"] = [each for each in spec["mounts"] if each["type"] != "cgroup"]
    for place, folder in {"/tmp": str(bundle / "tmp"), **volumes}.items():
        source, _, mode = folder.partition(":")
        Path(source).mkdir(exist_ok=True)
        if mode != "ro":
            Path(source).chmod(0o777)
        options = ["bind", mode or "rw"]
        spec["mounts"].append({"destination": place, "type": "bind", "source": source, "options": options})
    return spec


def _buildah(*words: str) -> str:
    done = subprocess.run(["buildah", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"buildah {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()
