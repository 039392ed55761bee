"""docs/tutorial.md does what it says: every command block runs, in one shell, in a new folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import reserved_port

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
NOT_RUN = "<!-- not run"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```sh\n(?P<commands>.*?)^```$", re.DOTALL | re.MULTILINE)
PORT = "8800"  # as `coalmine init` writes it
ENDS_WITHIN_S = 540  # a minute and a half on a machine of its own


def commands(tutorial: str) -> list[str]:
    return [
        block["commands"] for block in BLOCK.finditer(tutorial) if not block["before"].startswith(NOT_RUN)
    ]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A new user's: a name for Git, coalmine on the path, and nothing left running afterwards."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n  name = Dana Reyes\n  email = dana@example.com\n")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "GIT_CONFIG_GLOBAL": str(settings),
        "OMP_NUM_THREADS": "1",
    }
    yield environment
    (tmp_path / "stop").touch()
    shop = tmp_path / "shop"
    if shop.exists():
        subprocess.run(["coalmine", "down"], cwd=shop, env=environment, capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_leads_to_a_promoted_second_release(tmp_path: Path, environment: dict[str, str]) -> None:
    port = reserved_port()
    blocks = commands(TUTORIAL.read_text(encoding="utf-8"))
    first, rest = "\n".join(blocks).replace(f":{PORT}", f":{port}").split("cd shop\n")
    move = f"perl -pi -e 's/:{PORT}/:{port}/' coalmine.yaml\n"
    log = tmp_path / "said.txt"
    script = f"set -euo pipefail\n{first}cd shop\n{move}{rest}"
    with log.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = shell.wait(timeout=ENDS_WITHIN_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)  # the users and the delivery, if they are still there
    said = log.read_text()
    assert ended == 0, said
    assert '"joined":1' in said
    assert "late-parcels 1.1.0 was promoted: every gate passed, and the bake." in said
    assert re.search(r"^\d[\d,]{3,} requests, 0 failed$", said, re.MULTILINE), said
    assert "late-parcels: everybody is on 1.0.0 again" in said
    assert _leftovers(tmp_path) == []


def test_what_the_tutorial_shows_is_run() -> None:
    """Blocks of another kind would be skipped in silence."""
    kinds = re.findall(r"^```(\w+)$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(kinds) == {"sh", "text"}
    assert kinds.count("sh") == len(commands(TUTORIAL.read_text(encoding="utf-8"))) + 1


def _leftovers(folder: Path) -> list[str]:
    """Processes that still name `folder` in their command line."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in shown.splitlines() if str(folder) in line and "ps -eo" not in line]
