"""The model server's image for a test cluster: `python -m tests.cluster.image ARCHIVE`.

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
from coalmine.scaffold.repository import init

REFERENCE = "coalmine.test/model-server:1"
# How a build without root of its own reaches the package index: as this machine does.
AS_THIS_MACHINE = (
    *("--network", "host", "--isolation", "chroot"),
    *("--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"),
)


def build(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "shop"
        init(top, examples=())
        own = top / "requirements-serving.txt"
        own.write_text(f"{own.read_text()}dvc-http\n")
        _git(top, "commit", "--quiet", "--all", "--message", "The DVC remote is an HTTP server")
        workspace = Workspace.open(top)
        built = build_image(workspace, print, tag="coalmine.test/model-server", options=AS_THIS_MACHINE)
    archive.unlink(missing_ok=True)
    subprocess.run(["buildah", "tag", built.reference, REFERENCE], check=True)
    subprocess.run(
        ["buildah", "push", "--quiet", REFERENCE, f"docker-archive:{archive}:{REFERENCE}"], check=True
    )


def _git(top: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=top, check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
