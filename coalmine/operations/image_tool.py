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

_PRINTING = """\
FROM {reference} AS image
USER 0:0
RUN --mount=type=bind,source=script.py,target=/script.py python -I /script.py > /printed
FROM scratch
COPY --from=image /printed /
"""


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
        self,
        context: Path,
        dockerfile: str,
        reference: str,
        arguments: Mapping[str, str],
        options: Sequence[str],
    ) -> str:
        """The id of the image that the file `dockerfile` in `context` gives, named `reference` here.

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
            command = [self.program, "build", "--iidfile", str(file), "--file", str(context / dockerfile)]
            if self._run([*command, "--tag", reference, *given, *options, str(context)]) != 0:
                raise MachineUnready(
                    f"{self.program} could not build {reference}; it says why above. Options of its own go "
                    "after two dashes: coalmine image build -- --network host"
                )
            return file.read_text(encoding="utf-8").strip()

    def printed(self, reference: str, script: Path, options: Sequence[str]) -> str:
        """What the Python file `script` prints inside the image `reference`, which was built here.

        By a build on top of it, whose only outcome is that text: it works wherever the image could be built,
        with the same options, and starts no container that somebody has to end.

        Raises:
            MachineUnready: it did not run.
        """
        with tempfile.TemporaryDirectory() as folder:
            context, out, kept = (Path(folder) / name for name in ("context", "out", "id"))
            context.mkdir()
            shutil.copy(script, context / "script.py")
            (context / "Dockerfile").write_text(_PRINTING.format(reference=reference), encoding="utf-8")
            command = [self.program, "build", "--iidfile", str(kept), "--output", f"type=local,dest={out}"]
            if self._run([*command, *options, str(context)]) != 0:
                raise MachineUnready(
                    f"{self.program} built {reference} and could not look into it; it says why above"
                )
            if self.program != "docker":  # which keeps nothing of such a build
                subprocess.run([self.program, "rmi", kept.read_text(encoding="utf-8")], capture_output=True)
            return (out / "printed").read_text(encoding="utf-8")

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
