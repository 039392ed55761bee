"""The bytes behind the record: what is wrong in the DVC remote is named by object, file and release."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coalmine.audit.verify.findings import Kind
from coalmine.errors import RemoteUnavailable
from coalmine.manifest import Trigger
from coalmine.operations.retention import collect
from coalmine.operations.workspace import Workspace
from tests.audit.verify.conftest import Shop

MODEL = b"the bytes of delays 1.1.0"
ROWS = b"rows of 2013-02"


def place(shop: Shop, content: bytes) -> Path:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return shop.store / "files/md5" / md5[:2] / md5[2:]


def listing(shop: Shop) -> Path:
    """Of the newest data."""
    found = [path for path in shop.store.rglob("*.dir") if len(json.loads(path.read_text())) == 2]
    return found[0]


def test_every_object_is_read_and_counted(shop: Shop) -> None:
    found = shop.verify(data=True)
    assert found.findings == ()
    assert "and 7 objects: they hold" in found.summary  # five models, two listings
    assert "DVC" not in found.summary


TAMPERINGS: dict[str, tuple[Callable[[Shop], object], Kind, str]] = {
    "a model swapped": (
        lambda shop: place(shop, MODEL).write_bytes(MODEL[::-1]),
        Kind.OBJECT_BYTES,
        "models/delays/model.skops of delays 1.1.0",
    ),
    "a model truncated": (
        lambda shop: place(shop, MODEL).write_bytes(MODEL[:-1]),
        Kind.OBJECT_BYTES,
        "models/delays/model.skops of delays 1.1.0",
    ),
    "a model deleted": (
        lambda shop: place(shop, MODEL).unlink(),
        Kind.OBJECT_MISSING,
        "models/delays/model.skops of delays 1.1.0",
    ),
    "rows swapped": (
        lambda shop: place(shop, ROWS).write_bytes(b"rows of mine"),
        Kind.OBJECT_BYTES,
        "data/flights/partitions/2013-02.parquet",
    ),
    "rows deleted": (
        lambda shop: place(shop, ROWS).unlink(),
        Kind.OBJECT_MISSING,
        "data/flights/partitions/2013-02.parquet",
    ),
    "a listing swapped": (
        lambda shop: listing(shop).write_text("[]"),
        Kind.OBJECT_BYTES,
        "the listing of data/flights/partitions",
    ),
    "a listing deleted": (
        lambda shop: listing(shop).unlink(),
        Kind.OBJECT_MISSING,
        "the listing of data/flights/partitions",
    ),
}


@pytest.mark.parametrize(("tamper", "kind", "what"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_it_is_found_and_nothing_else_is(
    shop: Shop, tamper: Callable[[Shop], object], kind: Kind, what: str
) -> None:
    tamper(shop)
    (finding,) = shop.verify(data=True).findings
    assert finding.kind is kind
    assert what in finding.expected
    assert finding.where.path is not None
    assert finding.where.path.startswith("files/md5/")
    assert shop.verify().holds, "the network is asked only with --data"


def test_a_model_of_the_same_md5_is_told_by_its_sha256(shop: Shop) -> None:
    text = shop.read("models/delays/manifest.yaml")
    sha256 = hashlib.sha256(b"the bytes of delays 2.1.0").hexdigest()
    other = text.replace(sha256, "ab" * 32)
    digests = (hashlib.sha256(each.encode()).hexdigest() for each in (text, other))
    shop.amend({"models/delays/manifest.yaml": other}, *digests)
    (finding,) = shop.verify(data=True).findings
    assert finding.kind is Kind.OBJECT_BYTES
    assert f"the sha256 {'ab' * 32}" in finding.expected
    assert sha256 in finding.seen


def test_a_remote_that_is_away_is_no_finding(shop: Shop) -> None:
    shutil.rmtree(shop.store)
    with pytest.raises(RemoteUnavailable):
        shop.verify(data=True)


def test_after_a_collection_of_garbage_it_still_holds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(shop.folder / "site-cache"))
    shop.write({"coalmine.yaml": f"retention: {{dvc_remote_is_ours: true}}\n{shop.read('coalmine.yaml')}"})
    subprocess.run(["git", "clone", "-q", "--bare", shop.top, shop.folder / "remote.git"], check=True)
    shop.git("remote", "add", "origin", "../remote.git")
    garbage = place(shop, b"of no commit")
    garbage.parent.mkdir(exist_ok=True)
    garbage.write_bytes(b"of no commit")
    for path in shop.store.rglob("*"):
        os.utime(path, (0, 0))
    who = Trigger(kind="person", who="Eve", proof="claimed")
    collected = collect(Workspace.open(shop.top), who, lambda _: None, delete=True)
    assert [each.size_bytes for each in collected.remote.unneeded] == [len(b"of no commit")]
    assert not garbage.exists()
    assert shop.verify(data=True).findings == ()
