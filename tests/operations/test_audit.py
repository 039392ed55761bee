"""What `coalmine audit` prints of the release that serves."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

from coalmine.audit.history import Served
from coalmine.manifest import LookupTable, Manifest, ReleaseFile
from coalmine.operations.audit import ModelAudit, print_audit
from coalmine.slots import SlotRelease
from tests.journals.fake_rollouts import make_manifest

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def printed(manifest: Manifest) -> str:
    served = Served(
        version=manifest.version,
        since=NOW,
        until=None,
        release=SlotRelease(version=manifest.version, commit="c0ffee", model_digest=manifest.digest),
        manifest=manifest,
        who=manifest.trigger,
        rollout=None,
        beside=None,
    )
    console = Console(width=200)
    with console.capture() as capture:
        print_audit([ModelAudit(manifest.model, "local", NOW, served, ())], console)
    return " ".join(capture.get().split())


def test_the_datasets_that_were_released_with_the_model_are_named_with_their_digests() -> None:
    files = tuple(ReleaseFile(path=f"{month}", sha256="", md5="", size_bytes=1) for month in ("01", "02"))
    weather = LookupTable(
        dataset="weather", md5="ef" * 16, key=("origin", "hour"), columns=(), missing="null", files=files
    )
    said = printed(make_manifest().model_copy(update={"lookups": (weather,)}))
    assert f"flights {make_manifest().dataset.md5}" in said
    assert f"lookup weather {'ef' * 16}, 2 partitions released with the model, by origin, hour" in said


def test_a_model_without_lookups_says_nothing_of_them() -> None:
    assert "lookup" not in printed(make_manifest())
