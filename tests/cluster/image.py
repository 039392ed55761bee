"""The images for a test cluster: `python -m tests.cluster.image ARCHIVE`, or `... ARCHIVE pipelines`.

Built by buildah from a new repository's own files, with the package of the DVC remote that the tests
use. Written as an archive, which a cluster without registry imports.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from coalmine.operations.image import build_image
from coalmine.operations.workspace import Workspace
from coalmine.registry.images import KINDS, MODEL_SERVER, ImageKind
from coalmine.scaffold.repository import init

REFERENCE = "coalmine.test/model-server:1"
PIPELINES_REFERENCE = "coalmine.test/pipelines:1"
# How a build without root of its own reaches the package index: as this machine does.
AS_THIS_MACHINE = (
    *("--network", "host", "--isolation", "chroot"),
    *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
)


def build(archive: Path, kind: ImageKind) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "shop"
        init(top, examples=())
        own = top / next(name for name in kind.shipped if name.endswith(".txt"))
        own.write_text(f"{own.read_text()}dvc-http\n")
        _git(top, "commit", "--quiet", "--all", "--message", "The DVC remote is an HTTP server")
        name = f"coalmine.test/{kind.name}"
        built = build_image(Workspace.open(top), print, kind=kind, tag=name, options=AS_THIS_MACHINE)
    archive.unlink(missing_ok=True)
    subprocess.run(["buildah", "tag", built.reference, f"{name}:1"], check=True)
    subprocess.run(
        ["buildah", "push", "--quiet", f"{name}:1", f"docker-archive:{archive}:{name}:1"], check=True
    )


def _git(top: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=top, check=True)


if __name__ == "__main__":
    wanted = sys.argv[2] if len(sys.argv) > 2 else MODEL_SERVER.name
    build(Path(sys.argv[1]), next(kind for kind in KINDS if kind.name == wanted))
