from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coalmine.operations.local_environment import serving_options
from coalmine.spec import Payloads, Serving

TOP = Path("/home/me/ours")


@pytest.mark.parametrize(
    ("serving", "options"),
    [
        pytest.param(Serving(), "--timeout-s 2.0 --queue 1024", id="defaults"),
        pytest.param(Serving(timeout_s=0.25, queue=8), "--timeout-s 0.25 --queue 8", id="limits"),
        pytest.param(
            Serving(payloads=Payloads(sink="payloads/late.jsonl")),
            "--timeout-s 2.0 --queue 1024 --payload-sink /home/me/ours/payloads/late.jsonl "
            "--payload-sample 0.01",
            id="a file, from the top of the repository",
        ),
        pytest.param(
            Serving(payloads=Payloads(sink="/var/log/late.jsonl", sample=1)),
            "--timeout-s 2.0 --queue 1024 --payload-sink /var/log/late.jsonl --payload-sample 1.0",
            id="a file elsewhere",
        ),
        pytest.param(
            Serving(payloads=Payloads(sink="https://broker/events", sample=0.123456789)),
            "--timeout-s 2.0 --queue 1024 --payload-sink https://broker/events --payload-sample 0.123456789",
            id="a service",
        ),
    ],
)
def test_what_model_yaml_says_of_serving_reaches_the_server(serving: Serving, options: str) -> None:
    assert serving_options(serving, TOP) == options.split()


def test_the_server_takes_every_option_that_it_is_given(tmp_path: Path) -> None:
    options = serving_options(Serving(payloads=Payloads(sink="payloads.jsonl")), tmp_path)
    command = [sys.executable, "-m", "coalmine.serving", "--release", str(tmp_path), "--slot", "blue"]
    ran = subprocess.run(
        [*command, "--port", "0", *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert "manifest.yaml does not exist" in ran.stderr  # and not a word of its options
