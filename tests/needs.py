"""Programs without which a test is skipped."""

from __future__ import annotations

import shutil

import pytest

needs_kustomize = pytest.mark.skipif(
    shutil.which("kustomize") is None and shutil.which("kubectl") is None,
    reason="neither kustomize nor kubectl is on PATH",
)
