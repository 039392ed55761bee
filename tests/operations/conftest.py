from __future__ import annotations

from pathlib import Path

import pytest


def as_kim(patch: pytest.MonkeyPatch) -> None:
    """Commits are Kim's."""
    for role in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{role}_NAME", "Kim")
        patch.setenv(f"GIT_{role}_EMAIL", "kim@example.org")


@pytest.fixture(autouse=True)
def _kims_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_kim(monkeypatch)
    monkeypatch.syspath_prepend(str(tmp_path))  # opening a workspace adds its top; this takes it off again
