"""`coalmine reproduce`: a release built again from its record, in a place apart."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coalmine.scaffold.repository import init
from tests.scenarios.workplace import DATASET, MODEL, Workplace, interrupt

VERSION = "1.0.0"
MANIFEST = f"models/{MODEL}/manifest.yaml"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command builds; empty when it is over."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def places(scratch: Path) -> list[Path]:
    return list(scratch.glob("coalmine-scratch-*"))


def state(work: Workplace) -> dict[str, Any]:
    """All that a person could miss: refs, index and files, what DVC keeps."""
    files = {
        str(path.relative_to(work.top)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(work.top.rglob("*"))
        if path.is_file() and ".git/" not in str(path) and "__pycache__" not in str(path)
    }
    return {
        "head": work.git("symbolic-ref", "HEAD"),
        "refs": work.git("for-each-ref"),
        "status": work.git("status", "--porcelain"),
        "worktrees": work.git("worktree", "list"),
        "files": {name: at for name, at in files.items() if not name.startswith(".dvc/tmp/")},
    }


def forged(work: Workplace, old: str, new: str) -> None:
    """A release 9.9.9 whose manifest is the first one's but for `old`."""
    text = work.git("show", f"{MODEL}@v{VERSION}:{MANIFEST}").replace(f"version: {VERSION}", "version: 9.9.9")
    assert re.search(old, text), old
    work.git("switch", "--quiet", "--detach", f"{MODEL}@v{VERSION}")
    (work.top / MANIFEST).write_text(re.sub(old, new, text, count=1) + "\n")
    work.git("commit", "--quiet", "--all", "--message", "Forged")
    work.git("tag", f"{MODEL}@v9.9.9")
    work.git("switch", "--quiet", "main")


def differing(work: Workplace) -> list[dict[str, str]]:
    ran = work.run("reproduce", MODEL, "9.9.9", "--json", status=6)
    assert ran.json["equal"] is False
    found: list[dict[str, str]] = ran.json["differences"]
    return found


def edited_code(work: Workplace, path: str, old: str, new: str) -> str:
    """The commit of the first release's code with one edit on top."""
    work.git("switch", "--quiet", "--detach", f"{MODEL}@v{VERSION}")
    work.edit(path, old, new)
    work.git("commit", "--quiet", "--all", "--message", "Edited")
    commit = work.head()
    work.git("switch", "--quiet", "main")
    return commit


def test_a_release_comes_out_equal_without_anything_that_its_stages_made(
    work: Workplace, scratch: Path
) -> None:
    for file in work.read_yaml(MANIFEST)["files"]:  # the newest release's model, which nobody has any more
        for store in (work.top / ".dvc/cache", work.top / ".coalmine/remotes/dvc"):
            (store / "files/md5" / file["md5"][:2] / file["md5"][2:]).unlink(missing_ok=True)
    done = work.run("reproduce", MODEL, "1.2.0", "--json").json
    assert done["equal"] is True
    assert done["differences"] == []
    assert done["code"] == work.read_yaml(MANIFEST)["code"]
    assert places(scratch) == []


def test_nothing_of_the_persons_own_is_touched(work: Workplace) -> None:
    work.git("switch", "--quiet", "--create", "experiment")
    work.edit(f"models/{MODEL}/model.yaml", "target:", "# half an idea\ntarget:")
    (work.top / f"models/{MODEL}/model.skops").unlink()
    before = state(work)
    said = work.run("reproduce", MODEL, VERSION).out
    assert "equal" in said.splitlines()[-1]
    assert state(work) == before


def test_only_the_remote_is_asked_for_the_data(work: Workplace) -> None:
    shutil.rmtree(work.top / ".dvc/cache")
    shutil.rmtree(work.top / f"data/{DATASET}/partitions")
    assert work.run("reproduce", MODEL, VERSION, "--json").json["equal"] is True
    assert not (work.top / ".dvc/cache/files").exists()


def test_data_that_the_remote_lost_are_named(work: Workplace, scratch: Path) -> None:
    shutil.rmtree(work.top / ".coalmine/remotes/dvc/files")
    assert "the DVC remote" in work.run("reproduce", MODEL, VERSION, status=2).err
    assert places(scratch) == []


def test_another_digest_than_the_recorded_one_is_exit_code_6(work: Workplace) -> None:
    forged(work, r"sha256: [0-9a-f]{64}", "sha256: " + "f" * 64)
    (only,) = differing(work)
    assert (only["cause"], only["recorded"]) == ("digest", "f" * 64)


def test_other_data_are_told_before_anything_is_built(work: Workplace) -> None:
    forged(work, r"md5: [0-9a-f]{32}\.dir", f"md5: {'0' * 32}.dir")
    (only,) = differing(work)
    assert (only["cause"], only["what"]) == ("data", f"data/{DATASET}/partitions")


def test_other_code_is_told_before_the_bytes_that_it_makes(work: Workplace) -> None:
    commit = edited_code(work, "pipelines/train.py", "from __future__", "# edited\nfrom __future__")
    forged(work, r"code: \w+", f"code: {commit}")
    (only,) = differing(work)  # a comment changes no model
    assert (only["cause"], only["what"]) == ("code", "pipelines/train.py")


def test_other_parameters_are_told_first_then_the_bytes(work: Workplace) -> None:
    commit = edited_code(work, f"models/{MODEL}/model.yaml", "max_iter: 10", "max_iter: 11")
    forged(work, r"code: \w+", f"code: {commit}")
    first, *rest = differing(work)
    assert (first["cause"], first["what"]) == ("parameters", f"estimator of models/{MODEL}/model.yaml")
    assert {each["cause"] for each in rest} == {"digest"}
    assert f"models/{MODEL}/metrics.json" in {each["what"] for each in rest}


def test_other_libraries_are_made_with_uv_from_the_lock_of_that_commit(
    work: Workplace, tmp_path: Path, scratch: Path
) -> None:
    """A uv that notes what it is asked for, and whose environments have this interpreter's libraries."""
    forged(work, r"  scipy: \S+", "  scipy: 0.0.1")
    uv = tmp_path / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(
        f"""#!/bin/sh
echo "$@" >> {tmp_path}/asked
if [ "$1" = venv ]; then
  mkdir -p "$5/bin" "$5/lib/python3/site-packages"
  printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' > "$5/bin/python"
  chmod +x "$5/bin/python"
fi
"""
    )
    uv.chmod(0o755)
    env = {"PATH": f"{uv.parent}{os.pathsep}{os.environ['PATH']}"}
    done = Workplace(work.top, env).run("reproduce", MODEL, "9.9.9", "--json").json
    made, synced = (tmp_path / "asked").read_text().splitlines()
    assert made.startswith(f"venv --quiet --python {sys.version.split()[0]} ")
    assert synced.endswith("/code/requirements-pipelines.lock")
    assert done["equal"] is True  # the bytes decide; that the libraries still differ is told
    assert [(each["cause"], each["what"]) for each in done["differences"]] == [("environment", "scipy")]
    assert places(scratch) == []


def test_the_folder_is_kept_on_demand(work: Workplace, scratch: Path) -> None:
    folder = Path(work.run("reproduce", MODEL, VERSION, "--keep", "--json").json["folder"])
    assert places(scratch) == [folder.parent]
    assert (folder / f"models/{MODEL}/model.skops").is_file()


def test_ctrl_c_leaves_nothing_behind(work: Workplace, scratch: Path) -> None:
    process = work.start("reproduce", MODEL, VERSION)
    until = time.monotonic() + 60
    while not list(scratch.glob("coalmine-scratch-*/code/data/*/partitions")) and time.monotonic() < until:
        time.sleep(0.02)
    assert places(scratch)
    interrupt(process)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert places(scratch) == []


def test_a_release_that_nobody_made_is_named(work: Workplace, scratch: Path) -> None:
    assert "has no release 7.0.0" in work.run("reproduce", MODEL, "7.0.0", status=2).err
    assert places(scratch) == []


def test_a_commit_that_a_shallow_clone_lacks_is_named(work: Workplace, tmp_path: Path) -> None:
    origin = (work.top / ".coalmine/remotes/git.git").as_uri()
    work.git(
        "clone", "--quiet", "--depth", "1", "--branch", f"{MODEL}@v1.2.0", origin, str(tmp_path / "shallow")
    )
    said = Workplace(tmp_path / "shallow").run("reproduce", MODEL, "1.2.0", status=2).err
    assert "git fetch --unshallow" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_example_models_come_out_equal_from_a_fresh_clone(tmp_path: Path) -> None:
    init(tmp_path / "shop")
    shop = Workplace(tmp_path / "shop")
    for dataset in ("flights", "weather"):
        for month in ("2013-01", "2013-02"):
            shop.run("ingest", dataset, month)
    shop.run("ingest", "german-credit", "all")
    shop.commit("Two months, and every loan")
    for model in ("credit-risk", "flight-delays"):
        shop.run("retrain", model)
    shop.git("clone", "--quiet", str(shop.top / ".coalmine/remotes/git.git"), str(tmp_path / "clone"))
    clone = Workplace(tmp_path / "clone")
    clone.dvc("remote", "modify", "--local", "store", "url", str(shop.top / ".coalmine/remotes/dvc"))
    for model in ("credit-risk", "flight-delays"):
        assert clone.run("reproduce", model, "1.0.0", "--json").json["differences"] == []
