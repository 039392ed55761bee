"""The program that builds and publishes images here: docker, podman or buildah, whichever works.

What it prints goes to stderr as it comes: a build takes minutes, and stdout is for the answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coalmine.errors import MachineUnready, Unavailable

PROGRAMS = ("docker", "podman", "buildah")
_EPOCH = "0"  # the time of every file and layer, so that the same files give the same image


@dataclass(frozen=True)
class ImageTool:
    program: str

    @classmethod
    def find(cls) -> ImageTool:
        """The first that answers; a docker without its engine does not.

        Raises:
            MachineUnready: none does; says what each one said.
        """
        said = []
        for program in PROGRAMS:
            if shutil.which(program) is None:
                said.append(f"{program}: not installed")
                continue
            asked = subprocess.run([program, "version"], capture_output=True, text=True)
            if asked.returncode == 0:
                return cls(program)
            said.append(f"{program}: {(asked.stderr.strip().splitlines() or ['does not answer'])[-1]}")
        raise MachineUnready(
            f"Nothing here builds images ({'; '.join(said)}). Install one of them, or start its engine"
        )

    def build(
        self, context: Path, reference: str, arguments: Mapping[str, str], options: Sequence[str]
    ) -> str:
        """The id of the image that the Dockerfile in `context` gives, named `reference` here.

        options: of the program's build command, as they are.

        Raises:
            MachineUnready: the build failed.
        """
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        match self.program:
            case "docker":
                given += ["--build-arg", f"SOURCE_DATE_EPOCH={_EPOCH}"]
            case _:  # layers, so that a node which has the libraries pulls the new code alone
                given += ["--layers", "--timestamp", _EPOCH]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "id"
            command = [self.program, "build", "--iidfile", str(file), "--tag", reference, *given, *options]
            if self._run([*command, str(context)]) != 0:
                raise MachineUnready(
                    f"{self.program} could not build {reference}; it says why above. Options of its own go "
                    "after two dashes: coalmine image build -- --network host"
                )
            return file.read_text(encoding="utf-8").strip()

    def push(self, reference: str) -> str:
        """Publish what `build` made; the digest that its registry knows it by.

        Raises:
            Unavailable: safe to repeat.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "digest"
            wanted = [] if self.program == "docker" else ["--digestfile", str(file)]
            if self._run([self.program, "push", *wanted, reference]) != 0:
                raise Unavailable(
                    f"{self.program} could not push {reference}; it says why above. It is built: log in "
                    f"({self.program} login HOST) if that is what it wants, and run again"
                )
            if wanted:
                return file.read_text(encoding="utf-8").strip()
        name = reference.rpartition(":")[0]
        shown = subprocess.run(
            ["docker", "image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', reference],
            capture_output=True,
            text=True,
        )
        for line in shown.stdout.splitlines():
            repository, _, digest = line.partition("@")
            if repository == name:
                return digest
        raise Unavailable(f"docker pushed {reference} and knows no digest of it: {shown.stderr.strip()}")

    def _run(self, command: Sequence[str]) -> int:
        # BuildKit: the Dockerfile asks for its mounts.
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        return subprocess.run(command, stdout=sys.stderr.fileno(), env=environment).returncode
