"""schemathesis makes requests out of /openapi.json, right ones and wrong ones, and checks the answers:
no server error, and nothing in them that the document does not say.

COALMINE_SCHEMATHESIS_CASES asks for more of them: 10000 take a quarter of an hour, and twice
that on a busy machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.serving.clients.environments import HERE, python_of
from tests.serving.releases import Built
from tests.serving.server_process import running

CASES = int(os.environ.get("COALMINE_SCHEMATHESIS_CASES", "100"))
INFINITE = 4  # operations that take a body, and so never run out of cases


@pytest.mark.slow
@pytest.mark.timeout(300 + CASES)
def test_what_openapi_says_is_so(compiled: Built, environments: Path, tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr, running(compiled.folder, stderr=stderr) as server:
        ended = subprocess.run(
            [
                *(python_of("schemathesis", environments).with_name("st"), "--no-color"),
                *("--config-file", HERE / "schemathesis.toml"),
                *("run", f"{server.url}/openapi.json"),
                *("--phases", "coverage,fuzzing"),
                *("--checks", "all"),
                *("--exclude-checks", "positive_data_acceptance"),
                *("--max-examples", str(-(-CASES // INFINITE))),
                *("--generation-database", "none"),
                *("--seed", "1"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
    assert ended.returncode == 0, ended.stdout
    assert '"failed"' not in log.read_text()
    counted = re.search(r"(\d+) generated, (\d+) passed", ended.stdout)
    assert counted is not None, ended.stdout
    assert int(counted[2]) >= CASES
