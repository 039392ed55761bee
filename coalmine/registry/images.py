"""k8s/images.yaml: the published images, by digest: what releases are served by, and what trains them.
A machine writes it when one is published.

An image ships code and libraries, no model. It fits every commit that would ship the same, so that
a release of new data alone needs no new one: entries are found by what they ship.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from coalmine.errors import IntegrityError, NotFound
from coalmine.manifest import Manifest
from coalmine.registry.repository import Repository
from coalmine.yaml_loader import YAML_LOADER

PATH = Path("k8s/images.yaml")


@dataclass(frozen=True)
class ImageKind:
    """shipped: of the repository, what the image is made of; the Dockerfile first. Of coalmine it ships its
    version."""

    name: str
    shipped: tuple[str, ...]

    @property
    def dockerfile(self) -> str:
        return self.shipped[0]

    @property
    def sbom(self) -> Path:
        """The bill of materials of the newest one that was published; of those before, its history."""
        return Path("k8s/sbom") / f"{self.name}.cdx.json"


MODEL_SERVER = ImageKind(
    "model-server", ("Dockerfile", "requirements-serving.lock", "requirements-serving.txt", "pipelines")
)
# Trains models and drives rollouts: the repository's code comes by Git commit.
PIPELINES = ImageKind(
    "pipelines", ("Dockerfile.pipelines", "requirements-pipelines.lock", "requirements-pipelines.txt")
)
KINDS = (MODEL_SERVER, PIPELINES)


class Image(BaseModel):
    """An image in an image registry. commit: what it was built from. sbom: the sha256 of its bill of
    materials, as its commit recorded it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contents: str
    commit: str
    coalmine: str
    repository: str  # host and path, as `docker push` takes it
    digest: str  # sha256:... of its manifest
    kind: str = MODEL_SERVER.name
    sbom: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


class _Images(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    images: tuple[Image, ...] = ()  # the newest last


def contents_of(repository: Repository, commit: str, coalmine: str, kind: ImageKind = MODEL_SERVER) -> str:
    """What an image of `commit` with this version of coalmine ships, as one digest.

    Raises:
        NotFound: `commit` has no image, since it lacks one of the files.
    """
    tree = repository.git("ls-tree", commit, "--", *kind.shipped)
    there = {line.partition("\t")[2] for line in tree.splitlines()}
    absent = [name for name in kind.shipped if name not in there]
    if absent:
        raise NotFound(
            f"commit {commit[:12]} of {repository.top} has no {', '.join(absent)}, of which the image is "
            "made. `coalmine init` writes them into a new repository: take them from one, and commit them"
        )
    return hashlib.sha256(f"{tree}\ncoalmine=={coalmine}\n".encode()).hexdigest()


def image_for(repository: Repository, manifest: Manifest) -> Image | None:
    """The newest published image that ships the release's code; None when there is none."""
    try:
        contents = contents_of(repository, manifest.code, manifest.environment.get("coalmine", ""))
    except NotFound:
        return None
    return find(read_images(repository), contents)


def find(images: tuple[Image, ...], contents: str) -> Image | None:
    return next((image for image in reversed(images) if image.contents == contents), None)


def read_images(repository: Repository) -> tuple[Image, ...]:
    """As the last commit has them.

    Raises:
        IntegrityError: a machine writes this file; a broken one was edited by hand.
    """
    try:
        text = repository.read(repository.head(), PATH)
    except NotFound:
        return ()
    try:
        return _Images.model_validate(yaml.load(text, Loader=YAML_LOADER)).images
    except (yaml.YAMLError, ValidationError) as error:
        raise IntegrityError(
            f"{PATH} is written by coalmine and cannot be read: {error}. "
            f"Take the last good one back: git checkout HEAD~1 -- {PATH}"
        ) from error


def dump_images(images: tuple[Image, ...]) -> str:
    head = "# Written by `coalmine image build --push`: the image of each code, by digest.\n"
    return head + yaml.safe_dump(_Images(images=images).model_dump(mode="json"), sort_keys=False)
