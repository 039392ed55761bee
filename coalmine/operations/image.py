"""The images, of what serves and of what trains: built from a commit, published, and recorded in Git by
digest, with a bill of materials.

They ship libraries, and the model server's `pipelines/` too, whose transformers the models need; models
and data come by digest. An image is built from what the commit holds, not from the working tree.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from coalmine.durable import replace_text
from coalmine.errors import InputError, MachineUnready
from coalmine.operations import image_contents
from coalmine.operations.image_tool import ImageTool
from coalmine.operations.sbom import bill_of_materials
from coalmine.operations.workspace import Tell, Workspace
from coalmine.registry import images
from coalmine.registry.commits import Change, publish
from coalmine.registry.images import MODEL_SERVER, Image, ImageKind

_WHEELS = "wheels"  # of the build's folder: where the Dockerfile finds a coalmine that no index has


@dataclass(frozen=True)
class Built:
    """digest: of the image's manifest in its registry; before it is published, the image's own id."""

    reference: str
    digest: str
    commit: str
    published: bool


def build_image(
    workspace: Workspace,
    tell: Tell,
    *,
    kind: ImageKind = MODEL_SERVER,
    tag: str | None = None,
    push: bool = False,
    options: Sequence[str] = (),
) -> Built:
    """Build the image `kind` of what is checked out; with `push`, publish and record it.

    It is named by the newest commit that changed something that it ships.

    tag: the image's name without a tag of its own, which is the commit; default: the folder's name, and
        behind it the kind, but for the model server's.
    options: of the tool's build command, as they are.

    Published already with the same contents, nothing is built. Where coalmine runs from a checkout,
    its version does not tell what it is: the image is built anew, and recorded if it has changed.

    Raises:
        InputError: `push` without `tag`.
        RepositoryUnready: what the image ships is changed in no commit; as `require_record` says.
        NotFound: the repository has no Dockerfile.
        MachineUnready: no docker, podman or buildah that works, or the build failed.
        Unavailable: the image or its record could not be pushed; run again.
    """
    if push:
        if tag is None:
            which = "" if kind == MODEL_SERVER else f" --image {kind.name}"
            raise InputError(
                f"Say where the image goes: coalmine image build{which} --push --tag HOST/TEAM/NAME"
            )
        workspace.require_record()
    repository = workspace.repository
    repository.require_clean(kind.shipped)
    # Not HEAD: a later commit of data, or of this record, is the same image under the same name.
    commit = repository.git("log", "-1", "--format=%H", "HEAD", "--", *kind.shipped) or repository.head()
    coalmine = importlib.metadata.version("coalmine")
    contents = images.contents_of(repository, commit, coalmine, kind)
    folder = workspace.top.name.lower()
    name = tag or (folder if kind == MODEL_SERVER else f"{folder}-{kind.name}")
    published = [image for image in images.read_images(repository) if image.repository == name]
    there = images.find(tuple(published), contents)
    if push and there is not None and _origin() is None:
        tell(f"Published already, from commit {there.commit[:12]}: nothing that it ships has changed.")
        _record(workspace, there, kind, None, tell)
        return Built(there.reference, there.digest, there.commit, published=True)
    tool = ImageTool.find()
    reference = f"{name}:{commit}"
    with tempfile.TemporaryDirectory(prefix="coalmine-image-") as temporary:
        context = Path(temporary)
        repository.export(commit, kind.shipped, context)
        arguments = {
            "COALMINE": _requirement(context, coalmine),
            "REVISION": commit,
            "SOURCE": _source(workspace),
        }
        tell(f"Building {reference} with {tool.program}.")
        base = (context / kind.dockerfile).read_text(encoding="utf-8")
        digest = tool.build(context, kind.dockerfile, reference, arguments, options)
    if push:
        if not is_pinned(base):
            tell(
                f"The base of {kind.dockerfile} may change under its name: write its digest there "
                "(docs/supply.md: The base)."
            )
        inside = json.loads(tool.printed(reference, Path(image_contents.__file__), options))
        digest = tool.push(reference)
        sbom = bill_of_materials(inside, name, digest, coalmine)
        image = Image(
            contents=contents,
            commit=commit,
            coalmine=coalmine,
            repository=name,
            digest=digest,
            kind=kind.name,
            sbom=hashlib.sha256(sbom.encode()).hexdigest(),
        )
        _record(workspace, image, kind, sbom, tell)
    return Built(reference, digest, commit, push)


def is_pinned(dockerfile: str) -> bool:
    """Whether the base that `dockerfile` starts from, `ARG BASE`, is named by digest."""
    return re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE) is not None


def _record(workspace: Workspace, image: Image, kind: ImageKind, sbom: str | None, tell: Tell) -> None:
    """The image in Git, so that deliveries of this code name it, and its `sbom` beside it. Again, it pushes
    what was left here; None: as it was recorded."""
    there = images.read_images(workspace.repository)
    if image not in there:
        others = (
            each for each in there if (each.repository, each.contents) != (image.repository, image.contents)
        )
        there = (*others, image)
    replace_text(workspace.top / images.PATH, images.dump_images(there))
    paths = [images.PATH]
    if sbom is not None or (workspace.top / kind.sbom).exists():
        paths.append(kind.sbom)
    if sbom is not None:
        (workspace.top / kind.sbom).parent.mkdir(parents=True, exist_ok=True)
        replace_text(workspace.top / kind.sbom, sbom)
    which = "" if kind == MODEL_SERVER else f" {kind.name}"
    subject = f"Publish the image{which} of {image.commit[:12]}"
    change = Change(tuple(paths), subject, trailers={"Image": image.reference})
    git = workspace.settings.git
    recorded = publish(workspace.repository, change, git.remote, git.branch)
    tell(f"Recorded {image.reference} as {recorded[:12]}.")


# --- coalmine itself -------------------------------------------------------------------


def _requirement(context: Path, version: str) -> str:
    """What the build installs as coalmine: this one. From an index where it came from there; else a
    wheel of it, put into `context`.

    Raises:
        MachineUnready: the wheel it came from is gone, or none can be made of its checkout.
    """
    origin = _origin()
    if origin is None:
        return f"coalmine=={version}"
    wheels = context / _WHEELS
    wheels.mkdir()
    if origin.is_dir():
        # hatchling makes the same wheel of the same files, whenever it is asked.
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
        made = subprocess.run([*command, str(wheels)], cwd=origin, capture_output=True, text=True)
        if made.returncode != 0:
            raise MachineUnready(
                f"coalmine runs from the checkout {origin}, and no wheel can be made of it: "
                f"{made.stderr.strip()}. If hatchling is missing: pip install hatchling"
            )
    elif origin.is_file():
        shutil.copy(origin, wheels)
    else:
        raise MachineUnready(
            f"coalmine was installed from {origin}, which is gone: the image cannot have the same. Put it "
            "back, or install coalmine from an index"
        )
    (wheel,) = wheels.iterdir()
    return wheel.relative_to(context).as_posix()


def _origin() -> Path | None:
    """The checkout or wheel that this coalmine was installed from; None: an index (PEP 610)."""
    recorded = importlib.metadata.distribution("coalmine").read_text("direct_url.json")
    url = urlsplit(json.loads(recorded)["url"]) if recorded else None
    return Path(unquote(url.path)) if url is not None and url.scheme == "file" else None


# --- the repository --------------------------------------------------------------------


def _source(workspace: Workspace) -> str:
    """The Git remote's address, without what only its users should know; empty for a folder."""
    found = workspace.repository.try_git("remote", "get-url", workspace.settings.git.remote)
    url = urlsplit(found.text)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl() if url.scheme and url.netloc else ""
