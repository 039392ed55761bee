"""Stages, partitions and the DVC remote, beside the `dvc` command of a data scientist."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.errors import (
    AlreadyRunning,
    CoalmineError,
    InputError,
    IntegrityError,
    MachineUnready,
    NotFound,
    RemoteUnavailable,
    RepositoryUnready,
)
from coalmine.registry import dvc as dvc_module
from coalmine.registry.dvc import DvcProject, StageChange, StageRun

DVCFILE = Path("models/delay/dvc.yaml")
PARTITIONS = Path("data/flights/partitions")
POINTER = Path("data/flights/partitions.dvc")


def _dvc(project: Any, *arguments: str) -> str:
    """The command of a data scientist."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project.top,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


# --- stages ----------------------------------------------------------------------------


def test_stages_run_once_and_then_only_when_something_changed(
    project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # from anywhere
    dvc = DvcProject(project.top)
    lines: list[str] = []

    first = dvc.reproduce(DVCFILE, on_line=lines.append)
    again = dvc.reproduce(DVCFILE)
    project.write("train.py", (project.top / "train.py").read_text() + "# edited\n")
    edited = dvc.reproduce(DVCFILE)

    assert first == [StageRun("prepare", ran=True), StageRun("train", ran=True)]
    assert again == [StageRun("prepare", ran=False), StageRun("train", ran=False)]
    assert edited == [StageRun("prepare", ran=False), StageRun("train", ran=True)]
    assert {"prepared rows: 3", "trained"} <= set(lines)


def test_one_stage_runs_alone(project: Any) -> None:
    dvc = DvcProject(project.top)

    assert dvc.reproduce(DVCFILE, "prepare") == [StageRun("prepare", ran=True)]
    assert dvc.reproduce(DVCFILE, "prepare") == [StageRun("prepare", ran=False)]
    assert not (project.top / "models/delay/model.skops").exists()


def test_a_result_from_dvcs_own_cache_is_not_called_a_run(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    shutil.rmtree(project.top / "models/delay/prepared")

    assert dvc.reproduce(DVCFILE, "prepare") == [StageRun("prepare", ran=False)]
    assert (project.top / "models/delay/prepared/train.txt").read_text() == "1\n"


def test_a_data_scientists_dvc_repro_finds_nothing_left_to_do(project: Any) -> None:
    DvcProject(project.top).reproduce(DVCFILE)
    lock = (project.top / "models/delay/dvc.lock").read_bytes()

    said = _dvc(project, "repro", str(DVCFILE))

    assert "Data and pipelines are up to date" in said
    assert (project.top / "models/delay/dvc.lock").read_bytes() == lock


def test_what_changed_since_the_lock_is_named_by_the_file_that_git_has(project: Any) -> None:
    dvc = DvcProject(project.top)
    assert {change.path for change in dvc.changes(DVCFILE)} == {DVCFILE}  # it never ran
    dvc.reproduce(DVCFILE)
    assert dvc.changes(DVCFILE) == ()

    project.write("train.py", (project.top / "train.py").read_text() + "# edited\n")
    assert dvc.changes(DVCFILE) == (StageChange("train", Path("train.py")),)
    dvc.reproduce(DVCFILE)
    text = (project.top / DVCFILE).read_text()
    project.write(str(DVCFILE), text.replace("cmd: python train.py", "cmd: python -O train.py"))
    assert dvc.changes(DVCFILE) == (StageChange("train", DVCFILE),)


def test_a_change_of_parameters_is_named_by_its_keys_and_others_are_none(project: Any) -> None:
    project.write("params.yaml", "estimator: {depth: 3}\nrollout: {stages: [5]}\n")
    text = (project.top / DVCFILE).read_text()
    project.write(
        str(DVCFILE), text.replace("params.txt]", "params.txt]\n    params: [params.yaml: [estimator]]")
    )
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)

    project.write("params.yaml", "estimator: {depth: 3}\nrollout: {stages: [10]}\n")
    assert dvc.changes(DVCFILE) == ()
    project.write("params.yaml", "estimator: {depth: 4}\nrollout: {stages: [10]}\n")
    assert dvc.changes(DVCFILE) == (StageChange("prepare", Path("params.yaml"), ("estimator",)),)


def test_what_the_stages_make_and_what_others_make_elsewhere_are_no_changes(project: Any) -> None:
    project.write("other/model.bin", "made by another pipeline")
    text = (project.top / DVCFILE).read_text()
    project.write(str(DVCFILE), text.replace("params.txt]", "params.txt, other/model.bin]"))
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)

    project.write("models/delay/prepared/train.txt", "edited by hand")
    (project.top / "other/model.bin").unlink()
    assert dvc.changes(DVCFILE) == ()


def test_changes_are_found_where_no_data_is(project: Any) -> None:
    project.write("data/flights/partitions/2013-01.parquet", "rows of January")
    dvc = DvcProject(project.top)
    dvc.add_partitions(PARTITIONS, ["2013-01.parquet"])
    text = (project.top / DVCFILE).read_text()
    project.write(str(DVCFILE), text.replace("params.txt]", f"params.txt, {PARTITIONS}]"))
    dvc.reproduce(DVCFILE)

    for folder in ("data/flights/partitions", "models/delay/prepared", ".dvc/cache"):
        shutil.rmtree(project.top / folder)
    (project.top / "models/delay/model.skops").unlink()
    assert dvc.changes(DVCFILE) == ()
    pointer = (project.top / POINTER).read_text()
    digest = dvc.dataset_digest(PARTITIONS)
    project.write(str(POINTER), pointer.replace(digest, f"{'0' * 32}.dir"))
    assert dvc.changes(DVCFILE) == (StageChange("prepare", POINTER),)


def test_outs_are_those_of_the_lock_by_path_from_the_top(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)

    outs = dvc.outs(DVCFILE)

    assert set(outs) == {
        Path("models/delay/prepared"),
        Path("models/delay/model.skops"),
        Path("models/delay/metrics.json"),
    }
    model = (project.top / "models/delay/model.skops").read_bytes()
    assert outs[Path("models/delay/model.skops")] == hashlib.md5(model).hexdigest()


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        pytest.param("sys.exit(1)", CoalmineError, id="an error of its own"),
        pytest.param("sys.exit(2)", InputError, id="its input"),
        pytest.param("sys.exit(3)", MachineUnready, id="the machine"),
        pytest.param("sys.exit(6)", IntegrityError, id="its integrity"),
    ],
)
def test_a_failed_stage_says_its_last_words_with_the_type_it_exits_with(
    project: Any, end: str, kind: type[CoalmineError]
) -> None:
    words = "column `dep_time` is missing"
    project.write("prepare.py", f"import os, sys\nprint('{words}', file=sys.stderr, flush=True)\n{end}\n")

    with pytest.raises(kind, match=words) as failure:
        DvcProject(project.top).reproduce(DVCFILE)

    assert type(failure.value) is kind
    assert "Stage prepare failed" in str(failure.value)
    assert "dvc repro -s models/delay/dvc.yaml" in str(failure.value)


@pytest.mark.parametrize("shell", [None, "/bin/sh", "/bin/bash"])
def test_a_killed_stage_is_the_machines_fault_whatever_shell_told_of_it(
    project: Any, monkeypatch: pytest.MonkeyPatch, shell: str | None
) -> None:
    if shell is None:
        monkeypatch.delenv("SHELL", raising=False)  # as under a service manager
    else:
        monkeypatch.setenv("SHELL", shell)
    project.write("prepare.py", "import os\nos.kill(os.getpid(), 9)\n")

    with pytest.raises(MachineUnready, match="want of memory"):
        DvcProject(project.top).reproduce(DVCFILE)


@pytest.mark.parametrize("left", ["", '{"write": {"/a/mod'], ids=["emptied", "half written"])
def test_a_lock_file_that_a_killed_command_left_half_written_stops_nobody(project: Any, left: str) -> None:
    project.write(".dvc/tmp/rwlock", left)

    assert StageRun("train", ran=True) in DvcProject(project.top).reproduce(DVCFILE)


def test_an_unknown_stage_or_file_is_not_found(project: Any) -> None:
    with pytest.raises(NotFound, match="tune"):
        DvcProject(project.top).reproduce(DVCFILE, "tune")
    with pytest.raises(NotFound, match=r"nowhere"):
        DvcProject(project.top).reproduce(Path("models/nowhere/dvc.yaml"))


def test_a_repository_without_dvc_says_how_to_set_it_up(clone: Any) -> None:
    with pytest.raises(RepositoryUnready, match="dvc init"):
        DvcProject(clone.top).reproduce(DVCFILE)


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


SLOW_STAGE = "import os, time\nopen('stage.pid', 'w').write(str(os.getpid()))\ntime.sleep(120)\n"


def _start_in_a_child(project: Any) -> tuple[int, int]:
    """A process that reproduces a slow stage, and the stage's own process."""
    project.write("prepare.py", SLOW_STAGE)
    child = os.fork()
    if child == 0:
        try:
            DvcProject(project.top).reproduce(DVCFILE)
        finally:
            os._exit(0)
    pid_file = project.top / "stage.pid"
    _wait_for(pid_file)
    while not (text := pid_file.read_text()):
        time.sleep(0.02)
    return child, int(text)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_stage_ends_with_the_process_that_started_it_and_can_start_again(
    project: Any, number: signal.Signals
) -> None:
    original = (project.top / "prepare.py").read_text()
    child, stage = _start_in_a_child(project)

    os.kill(child, number)
    os.waitpid(child, 0)

    until = time.monotonic() + 30
    while _alive(stage):
        assert time.monotonic() < until, "the stage outlived its release"
        time.sleep(0.05)
    project.write("prepare.py", original)
    assert all(run.ran for run in DvcProject(project.top).reproduce(DVCFILE))


def test_files_that_another_dvc_command_works_on_name_it(project: Any) -> None:
    child, stage = _start_in_a_child(project)
    try:
        with pytest.raises(AlreadyRunning, match=r"PID \d+"):
            DvcProject(project.top).reproduce(DVCFILE)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while _alive(stage):
            time.sleep(0.05)


def test_dvcs_lock_on_the_whole_repository_names_its_holder(project: Any) -> None:
    from dvc.repo import Repo

    with Repo(str(project.top)) as other, other.lock, pytest.raises(AlreadyRunning, match=str(os.getpid())):
        DvcProject(project.top).push([DVCFILE])


# --- partitions ------------------------------------------------------------------------


def _partitions(project: Any, *names: str) -> list[str]:
    for name in names:
        project.write(f"{PARTITIONS}/{name}.parquet", f"rows of {name}\n")
    return [f"{name}.parquet" for name in names]


def _as_dvc_add_would(project: Any) -> bytes:
    """What `dvc add` of the whole folder writes; the pointer is put back afterwards."""
    pointer = project.top / POINTER
    before = pointer.read_bytes()
    _dvc(project, "add", str(PARTITIONS))
    written = pointer.read_bytes()
    pointer.write_bytes(before)
    return written


def test_a_first_partition_is_tracked_as_dvc_add_would_and_kept_out_of_git(project: Any) -> None:
    digest = DvcProject(project.top).add_partitions(PARTITIONS, _partitions(project, "2013-01", "2013-02"))

    recorded = yaml.safe_load((project.top / POINTER).read_text())["outs"][0]
    assert (recorded["md5"], recorded["nfiles"], recorded["path"]) == (digest, 2, "partitions")
    assert (project.top / POINTER).read_bytes() == _as_dvc_add_would(project)
    assert (project.top / "data/flights/.gitignore").read_text() == "/partitions\n"
    assert "partitions/" not in project.git("status", "--porcelain", "-uall")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("2013-03",), id="a new one"),
        pytest.param(("2013-02",), id="a changed one"),
        pytest.param(("2013-02", "2013-03"), id="both"),
    ],
)
def test_a_later_partition_leaves_the_same_pointer_as_dvc_add(project: Any, names: tuple[str, ...]) -> None:
    dvc = DvcProject(project.top)
    dvc.add_partitions(PARTITIONS, _partitions(project, "2013-01", "2013-02"))
    for name in names:
        file = project.write(f"{PARTITIONS}/{name}.parquet", "rows that came later\n")

    dvc.add_partitions(PARTITIONS, [f"{name}.parquet" for name in names])

    assert (project.top / POINTER).read_bytes() == _as_dvc_add_would(project)
    assert file.read_text() == "rows that came later\n"


def test_adding_again_writes_nothing(project: Any) -> None:
    dvc = DvcProject(project.top)
    names = _partitions(project, "2013-01")
    digest = dvc.add_partitions(PARTITIONS, names)
    before = (project.top / POINTER).stat().st_mtime_ns

    assert dvc.add_partitions(PARTITIONS, names) == digest == dvc.dataset_digest(PARTITIONS)
    assert (project.top / POINTER).stat().st_mtime_ns == before


def test_the_other_partitions_are_neither_read_nor_needed(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.add_partitions(PARTITIONS, _partitions(project, "2013-01", "2013-02"))
    (project.top / PARTITIONS / "2013-01.parquet").unlink()
    project.write(f"{PARTITIONS}/2013-02.parquet", "an edit that nobody adds\n")

    dvc.add_partitions(PARTITIONS, _partitions(project, "2013-03"))

    for name in ("2013-01", "2013-02"):
        _partitions(project, name)
    assert (project.top / POINTER).read_bytes() == _as_dvc_add_would(project)


def test_a_partition_that_is_not_there_is_not_found_and_nothing_changes(project: Any) -> None:
    dvc = DvcProject(project.top)
    digest = dvc.add_partitions(PARTITIONS, _partitions(project, "2013-01"))

    with pytest.raises(NotFound, match=r"2013-09\.parquet"):
        dvc.add_partitions(PARTITIONS, [*_partitions(project, "2013-02"), "2013-09.parquet"])
    assert dvc.dataset_digest(PARTITIONS) == digest


def test_the_listing_is_what_was_recorded_not_what_lies_there(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.add_partitions(PARTITIONS, _partitions(project, "2013-01", "2013-02"))
    recorded = {
        name: (project.top / PARTITIONS / name).read_bytes()
        for name in ("2013-01.parquet", "2013-02.parquet")
    }
    project.write(f"{PARTITIONS}/2013-02.parquet", "an edit that nobody adds\n")
    assert dvc.listing(PARTITIONS) == {
        name: hashlib.md5(content).hexdigest() for name, content in recorded.items()
    }


def test_a_dataset_that_is_not_tracked_has_no_digest(project: Any) -> None:
    with pytest.raises(NotFound, match="not tracked"):
        DvcProject(project.top).dataset_digest(PARTITIONS)


# --- the remote ------------------------------------------------------------------------


@pytest.fixture
def pushed(project: Any) -> Any:
    """The project after a retraining whose files are on the DVC remote and whose record is in Git."""
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    dvc.add_partitions(PARTITIONS, _partitions(project, "2013-01", "2013-02"))
    dvc.push([DVCFILE, POINTER])
    project.git("add", "-A")
    project.git("commit", "-qm", "Retrained")
    project.git("push", "-q")
    return project


def test_another_clone_pulls_what_was_pushed_and_has_nothing_to_run(
    pushed: Any, new_clone: Callable[[str], Any]
) -> None:
    other = new_clone("other")
    dvc = DvcProject(other.top)
    assert dvc.dataset_digest(PARTITIONS) == DvcProject(pushed.top).dataset_digest(PARTITIONS)

    dvc.pull([DVCFILE, POINTER])

    assert (other.top / "models/delay/model.skops").read_text() == "model of 1\n"
    assert (other.top / PARTITIONS / "2013-02.parquet").read_text() == "rows of 2013-02\n"
    assert dvc.reproduce(DVCFILE) == [StageRun("prepare", ran=False), StageRun("train", ran=False)]


def test_a_clone_without_the_data_adds_a_partition_and_pushes_it(
    pushed: Any, new_clone: Callable[[str], Any]
) -> None:
    other = new_clone("other")
    dvc = DvcProject(other.top)

    dvc.add_partitions(PARTITIONS, _partitions(other, "2013-03"))
    dvc.push([POINTER])

    shutil.copy(other.top / POINTER, pushed.top / POINTER)
    DvcProject(pushed.top).pull([POINTER])
    assert len(list((pushed.top / PARTITIONS).iterdir())) == 3


def test_pulling_never_overwrites_what_dvc_does_not_know(pushed: Any) -> None:
    pushed.write(f"{PARTITIONS}/2013-01.parquet", "an edit\n")

    with pytest.raises(RepositoryUnready, match="dvc checkout --force"):
        DvcProject(pushed.top).pull([POINTER])
    assert (pushed.top / PARTITIONS / "2013-01.parquet").read_text() == "an edit\n"


def test_a_file_is_fetched_by_digest_from_cache_or_remote(pushed: Any, tmp_path: Path) -> None:
    dvc = DvcProject(pushed.top)
    md5 = dvc.outs(DVCFILE)[Path("models/delay/model.skops")]

    dvc.fetch(md5, tmp_path / "from-cache")
    shutil.rmtree(pushed.top / ".dvc/cache")
    dvc.fetch(md5, tmp_path / "from-remote")

    assert (tmp_path / "from-cache").read_text() == (tmp_path / "from-remote").read_text() == "model of 1\n"


def test_a_file_that_nobody_has_is_not_found(pushed: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="d41d8cd98f00b204e9800998ecf8427e"):
        DvcProject(pushed.top).fetch("d41d8cd98f00b204e9800998ecf8427e", tmp_path / "x")


def test_to_ask_what_the_remote_lacks_takes_nothing_away_that_is_damaged(pushed: Any, tmp_path: Path) -> None:
    dvc = DvcProject(pushed.top)
    md5, lost = dvc.outs(DVCFILE)[Path("models/delay/model.skops")], "d41d8cd98f00b204e9800998ecf8427e"
    stored = tmp_path / "store/files/md5" / md5[:2] / md5[2:]
    stored.chmod(0o644)
    stored.write_text("another model\n")

    assert dvc.absent([md5, lost]) == {lost}
    assert stored.read_text() == "another model\n"


def test_what_was_never_made_is_not_pushed_as_if_it_were(project: Any) -> None:
    with pytest.raises(NotFound, match="dvc repro"):
        DvcProject(project.top).push([DVCFILE])


def test_a_file_lost_here_before_its_push_is_named(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    md5 = dvc.outs(DVCFILE)[Path("models/delay/model.skops")]
    (project.top / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()

    with pytest.raises(NotFound, match=md5):
        dvc.push([DVCFILE])


def test_a_project_without_a_remote_says_how_to_name_one(project: Any) -> None:
    project.write(".dvc/config", "")
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)

    for ask in (lambda: dvc.push([DVCFILE]), dvc.require_remote):
        with pytest.raises(RepositoryUnready, match="dvc remote add"):
            ask()


def test_an_unreachable_remote_is_worth_another_try(project: Any) -> None:
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    project.write(".dvc/config", "[core]\nremote = s\n['remote \"s\"']\nurl = http://127.0.0.1:9/x\n")

    with pytest.raises(RemoteUnavailable, match=r"127\.0\.0\.1:9.*Run again"):
        dvc.push([DVCFILE])


def test_a_remote_that_this_machine_cannot_write_is_its_fault(project: Any, tmp_path: Path) -> None:
    dvc = DvcProject(project.top)
    dvc.reproduce(DVCFILE)
    (tmp_path / "store").write_text("a file where the folder should be")

    with pytest.raises((MachineUnready, RemoteUnavailable), match="store"):
        dvc.push([DVCFILE])


def test_the_remote_answers_with_its_address(project: Any, tmp_path: Path) -> None:
    assert DvcProject(project.top).require_remote() == str(tmp_path / "store")


def test_opening_a_project_does_not_load_dvc() -> None:
    code = (
        "import sys, pathlib\nfrom coalmine.registry.dvc import DvcProject\nDvcProject(pathlib.Path('.'))\n"
    )
    code += "assert not {'dvc', 'git'} & sys.modules.keys()"

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(dvc_module.__file__).parents[2])
