"""A release by digest, without Git: whole and as recorded in the folder, or not there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coalmine import errors
from coalmine.manifest import (
    DatasetVersion,
    Example,
    LookupTable,
    Manifest,
    Outcome,
    ReleaseDecision,
    ReleaseFile,
    Trigger,
    dump_manifest,
)
from coalmine.operations.fetch import fetch_digest
from coalmine.registry.remote import Remote
from coalmine.spec import Task
from tests.ports import reserved_port

MODEL, WEATHER = "models/delay/model.skops", "data/weather/partitions/2013-01.parquet"
CONTENTS = {MODEL: b"the model", WEATHER: b"the weather of January"}


def _file(path: str, content: bytes) -> ReleaseFile:
    return ReleaseFile(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content).hexdigest(),
        size_bytes=len(content),
    )


def _manifest(version: str = "1.0.0", **changes: Any) -> Manifest:
    table = LookupTable(
        dataset="weather",
        md5="0.dir",
        key=(),
        columns=(),
        missing="null",
        files=(_file(WEATHER, CONTENTS[WEATHER]),),
    )
    whole = Manifest(
        model="delay",
        version=version,
        parent=None,
        task=Task.BINARY,
        files=(_file(MODEL, CONTENTS[MODEL]),),
        lookups=(table,),
        inputs=(),
        outputs=(),
        example=Example(inputs={}, outputs={}),
        trusted_types=(),
        dataset=DatasetVersion(name="flights", md5="0.dir", train=(), test=(), train_rows=1, test_rows=1),
        code="0" * 40,
        estimator={},
        decision=ReleaseDecision(outcome=Outcome.RELEASE, reasons=(), champion=None, metrics={}),
        environment={},
        created="2026-01-01T00:00:00Z",
        trigger=Trigger(kind="person", who="Ada"),
    )
    return whole.model_copy(update=changes)


def _object(store: Path, path: str) -> Path:
    md5 = hashlib.md5(CONTENTS[path]).hexdigest()
    return store / "files/md5" / md5[:2] / md5[2:]


class Pod:
    """What a pod's first step is given: a manifest, the image's code, an empty volume."""

    def __init__(self, top: Path) -> None:
        self.store, self.manifest, self.code = top / "store", top / "manifest.yaml", top / "code"
        self.volume = top / "release"
        self.volume.mkdir()
        for path, content in CONTENTS.items():
            _object(self.store, path).parent.mkdir(parents=True, exist_ok=True)
            _object(self.store, path).write_bytes(content)
        (self.code / "pipelines").mkdir(parents=True)
        (self.code / "pipelines/transformers.py").write_text("released = True\n")
        self.digest = self.release(_manifest())

    def release(self, manifest: Manifest) -> str:
        self.manifest.write_text(dump_manifest(manifest), encoding="utf-8")
        self.digest = manifest.digest
        return self.digest

    def fetch(self, remote: str | None = None, into: Path | None = None) -> None:
        fetch_digest(self.manifest, self.digest, remote or str(self.store), self.code, into or self.volume)

    def command(self, remote: str) -> list[str]:
        given = {"manifest": self.manifest, "digest": self.digest, "remote": remote, "code": self.code}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", "coalmine.cli", "fetch", *words, "--into", str(self.volume)]

    def assert_whole(self, folder: Path | None = None) -> None:
        folder = folder or self.volume
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert there - {".fetching"} == {
            "manifest.yaml",
            f"files/{MODEL}",
            f"files/{WEATHER}",
            "code/pipelines/transformers.py",
        }
        assert (folder / "manifest.yaml").read_bytes() == self.manifest.read_bytes()
        for path, content in CONTENTS.items():
            assert (folder / "files" / path).read_bytes() == content

    def assert_no_release(self) -> None:
        assert not (self.volume / "manifest.yaml").exists()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


@contextmanager
def _http(store: Path, stops_within: str | None = None) -> Iterator[tuple[str, list[str], threading.Event]]:
    """`store` over HTTP: its address, the objects asked for, and when one was sent by half.

    stops_within: the object whose second half never comes.
    """
    asked: list[str] = []
    half, ended = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            file = store / self.path.lstrip("/")
            if not file.is_file():
                self.send_error(404)
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if stops_within is not None and file == _object(store, stops_within):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                half.set()
                ended.wait()
            else:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked, half
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


# --- whole -----------------------------------------------------------------------------


def test_a_release_comes_with_its_model_its_data_and_its_code(pod: Pod) -> None:
    pod.fetch()

    pod.assert_whole()


def test_a_folder_that_is_not_there_is_made(pod: Pod, tmp_path: Path) -> None:
    pod.fetch(into=tmp_path / "new/release")

    pod.assert_whole(tmp_path / "new/release")


def test_a_remote_of_another_kind_serves_as_well(pod: Pod) -> None:
    with _http(pod.store) as (url, _, _):
        done = subprocess.run(pod.command(url), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert f"delay 1.0.0 ({pod.digest[:12]}" in done.stdout
    pod.assert_whole()


def test_the_second_time_nothing_is_fetched(pod: Pod) -> None:
    pod.fetch()
    for path in CONTENTS:
        _object(pod.store, path).unlink()

    pod.fetch()

    pod.assert_whole()


def test_a_run_that_was_killed_is_finished_and_whole_files_are_not_fetched_twice(pod: Pod) -> None:
    with _http(pod.store, stops_within=WEATHER) as (url, asked, half):
        process = subprocess.Popen(pod.command(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert half.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len([path for path in asked if hashlib.md5(CONTENTS[MODEL]).hexdigest()[2:] in path]) == 1
    pod.assert_no_release()
    _object(pod.store, MODEL).unlink()

    pod.fetch()

    pod.assert_whole()


@pytest.mark.parametrize("renamed", [0, 1, 2, 3])
def test_a_run_that_was_killed_while_it_moved_in_is_finished(
    pod: Pod, renamed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest moves last: before it stands there, there is no release."""
    rename, left = os.rename, renamed

    def killed(source: Path, target: Path) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("coalmine.registry.fetching.os.rename", killed)
        if renamed < 3:
            with pytest.raises(KeyboardInterrupt):
                pod.fetch()
            pod.assert_no_release()
        else:
            pod.fetch()

    pod.fetch()

    pod.assert_whole()


def test_what_an_earlier_release_left_unfinished_does_not_travel_along(pod: Pod) -> None:
    _object(pod.store, WEATHER).unlink()
    with pytest.raises(errors.NotFound):
        pod.fetch()
    pod.release(_manifest(version="1.1.0", lookups=()))

    pod.fetch()

    assert not (pod.volume / "files" / WEATHER).exists()
    assert [path.name for path in pod.volume.iterdir() if path.name.startswith(".unf")] == []


def test_callers_at_the_same_time_hinder_each_other_with_a_word(pod: Pod) -> None:
    with _http(pod.store, stops_within=WEATHER) as (url, _, half):
        process = subprocess.Popen(pod.command(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert half.wait(60)
        with pytest.raises(errors.AlreadyRunning, match=str(process.pid)):
            pod.fetch()
        process.kill()
        process.communicate()


# --- refused ---------------------------------------------------------------------------


def _another_digest(pod: Pod) -> None:
    pod.digest = "0" * 64


def _no_digest(pod: Pod) -> None:
    pod.digest = "latest"


def _changed_manifest(pod: Pod) -> None:
    pod.manifest.write_bytes(pod.manifest.read_bytes().replace(b"Ada", b"Eve"))


def _no_manifest(pod: Pod) -> None:
    pod.manifest.unlink()


def _no_manifest_at_all(pod: Pod) -> None:
    pod.manifest.write_bytes(b"a: [")
    pod.digest = hashlib.sha256(b"a: [").hexdigest()


def _object_missing(pod: Pod) -> None:
    _object(pod.store, WEATHER).unlink()


def _remote_not_mounted(pod: Pod) -> None:
    pod.store.rename(pod.store.with_name("elsewhere"))


def _an_empty_folder_is_mounted(pod: Pod) -> None:
    _remote_not_mounted(pod)
    pod.store.mkdir()


def _wrong_content(pod: Pod) -> None:
    _object(pod.store, WEATHER).write_bytes(b"the weather of a Januarz")


def _wrong_size(pod: Pod) -> None:
    file = _file(MODEL, CONTENTS[MODEL])
    pod.release(_manifest(files=(file.model_copy(update={"size_bytes": 3}),)))


def _a_path_outside(pod: Pod) -> None:
    pod.release(_manifest(files=(_file("../outside", CONTENTS[MODEL]),)))


def _too_large(pod: Pod) -> None:
    file = _file(MODEL, CONTENTS[MODEL])
    pod.release(_manifest(files=(file.model_copy(update={"size_bytes": 10**15}),)))


def _no_code(pod: Pod) -> None:
    (pod.code / "pipelines").rename(pod.code / "elsewhere")


def _occupied(pod: Pod) -> None:
    (pod.volume / "code").mkdir()
    (pod.volume / "code/mine.py").touch()


REFUSALS = [
    (_another_digest, errors.IntegrityError, "is not the manifest of release 0000"),
    (_no_digest, errors.InputError, "`latest` is no sha256"),
    (_changed_manifest, errors.IntegrityError, "its own sha256 is"),
    (_no_manifest, errors.NotFound, "no manifest at"),
    (_no_manifest_at_all, errors.IntegrityError, "not a release manifest"),
    (_object_missing, errors.NotFound, "has no object"),
    (_remote_not_mounted, errors.RemoteUnavailable, "Is it mounted"),
    (_an_empty_folder_is_mounted, errors.RemoteUnavailable, "Is it mounted"),
    (_wrong_content, errors.IntegrityError, "2013-01.parquet of delay 1.0.0 is not what was released"),
    (_wrong_size, errors.IntegrityError, r"\(3 bytes\)"),
    (_a_path_outside, errors.IntegrityError, "outside of the repository"),
    (_too_large, errors.MachineUnready, "needs 1000000000.0 MB"),
    (_no_code, errors.NotFound, "holds no pipelines/"),
    (_occupied, errors.InputError, "not empty: it holds code"),
]


@pytest.mark.parametrize(("harm", "kind", "words"), REFUSALS, ids=[row[0].__name__[1:] for row in REFUSALS])
def test_what_is_not_as_recorded_is_refused_and_never_becomes_a_release(
    pod: Pod, harm: Callable[[Pod], None], kind: type[errors.CoalmineError], words: str
) -> None:
    harm(pod)

    with pytest.raises(errors.CoalmineError, match=words) as raised:
        pod.fetch()

    assert type(raised.value) is kind
    pod.assert_no_release()


def test_what_somebody_has_in_the_folder_stays(pod: Pod) -> None:
    _occupied(pod)

    with pytest.raises(errors.InputError):
        pod.fetch()
    assert (pod.volume / "code/mine.py").exists()


def test_wrong_content_is_fetched_anew_once_the_remote_is_mended(pod: Pod) -> None:
    _wrong_content(pod)
    with pytest.raises(errors.IntegrityError):
        pod.fetch()
    _object(pod.store, WEATHER).write_bytes(CONTENTS[WEATHER])

    pod.fetch()

    pod.assert_whole()


def test_a_release_that_was_tampered_with_in_the_folder_is_refused(pod: Pod) -> None:
    pod.fetch()
    (pod.volume / "files" / MODEL).write_bytes(b"the Model")

    with pytest.raises(errors.IntegrityError, match="will not be served"):
        pod.fetch()


def test_a_folder_with_another_release_is_left_as_it_is(pod: Pod) -> None:
    pod.fetch()
    before = (pod.volume / "manifest.yaml").read_bytes()
    pod.release(_manifest(version="1.1.0"))

    with pytest.raises(errors.InputError, match="holds another release"):
        pod.fetch()
    assert (pod.volume / "manifest.yaml").read_bytes() == before


# --- the remote ------------------------------------------------------------------------


def test_a_remote_that_is_away_is_worth_another_try(pod: Pod) -> None:
    done = subprocess.run(pod.command(f"http://127.0.0.1:{reserved_port()}"), capture_output=True, text=True)

    assert done.returncode == errors.Unavailable.exit_code
    assert "cannot be reached. Run again" in done.stderr
    assert "Traceback" not in done.stderr
    pod.assert_no_release()


def test_an_object_that_an_http_remote_lacks_is_named(pod: Pod) -> None:
    _object_missing(pod)
    with _http(pod.store) as (url, _, _):
        done = subprocess.run(pod.command(url), capture_output=True, text=True)

    assert done.returncode == errors.NotFound.exit_code
    assert f"has no object {hashlib.md5(CONTENTS[WEATHER]).hexdigest()}" in done.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [("ftp://host/path", "DVC knows no remote like ftp"), ("oss://bucket/path", "dvc-oss")],
    ids=["a kind that DVC does not know", "a kind whose package is not installed"],
)
def test_a_remote_that_cannot_be_read_says_what_to_install(pod: Pod, url: str, words: str) -> None:
    with pytest.raises(errors.Unsupported, match=words):
        pod.fetch(remote=url)


def test_credentials_in_an_address_are_not_told() -> None:
    assert Remote("http://kim:secret@host/path?sig=secret").shown == "http://host/path"


# --- the volume ------------------------------------------------------------------------

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a volume")


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@needs_mounts
def test_a_mounted_volume_is_filled(pod: Pod) -> None:
    """Nothing can be renamed onto a mount."""
    with _mounted(pod.volume, "size=1m"):
        pod.fetch()
        pod.assert_whole()


@needs_mounts
def test_a_volume_without_space_is_the_machines_fault(pod: Pod) -> None:
    with _mounted(pod.volume, "size=64k"):
        (pod.volume / "lost+found").write_bytes(b"x" * 4096)
        large = os.urandom(60_000)
        recorded = _file(MODEL, large)
        target = pod.store / "files/md5" / recorded.md5[:2] / recorded.md5[2:]
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(large)
        # The record of the size is wrong, so that only the disk itself can say no.
        pod.release(_manifest(files=(recorded.model_copy(update={"size_bytes": 1}),)))
        with pytest.raises(errors.MachineUnready, match="disk is full"):
            pod.fetch()
        pod.assert_no_release()


@needs_mounts
def test_a_volume_that_is_read_only_is_the_machines_fault(pod: Pod) -> None:
    with _mounted(pod.volume, "ro"), pytest.raises(errors.MachineUnready, match="read-only"):
        pod.fetch()
