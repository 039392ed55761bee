"""A history that nobody tampered with holds, whatever else people do in the repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coalmine.errors import InputError, NotFound, RepositoryUnready
from coalmine.operations.verify import verify
from coalmine.operations.workspace import Workspace
from coalmine.slots import Slots, dump_slots
from tests.audit.verify.conftest import Shop
from tests.simulators.history import FastImport, History, write_long_history

MOMENTS = (
    "begun",
    "first",
    "released",
    "handed over",
    "promoted",
    "kept",
    "rejected",
    "rolled back",
    "joined",
    "end",
)


def test_all_of_it_is_counted_and_what_was_not_looked_at_is_told(shop: Shop) -> None:
    found = shop.verify()
    assert found.findings == ()
    assert found.summary == (
        "Checked 5 releases, 10 changes of slots, 4 rollouts: they hold. Not checked: the bytes in the DVC "
        "remote (--data); whether history was made anew (--pinned COMMIT)."
    )


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_holds_at_every_moment_of_its_life(shop: Shop, moment: str) -> None:
    assert shop.go_back_to(moment).verify(data=True).findings == ()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_head_that_was_pinned_at_any_time_is_still_there(shop: Shop, moment: str) -> None:
    found = shop.verify(pinned=shop.moments[moment].commit)
    assert found.findings == ()
    assert "pinned" not in found.summary


def test_a_plain_clone_is_enough(shop: Shop, tmp_path: Path) -> None:
    shop.git("clone", "-q", str(shop.top), str(tmp_path / "plain"))
    assert verify(Workspace.open(tmp_path / "plain")).holds


PEOPLE: dict[str, Callable[[Shop], object]] = {
    "code": lambda shop: shop.commit({"pipelines/features.py": "# better\n"}),
    "model.yaml": lambda shop: shop.edit("models/delays/model.yaml", "name: delays", "name: delays\n"),
    "data": lambda shop: shop.commit({"data/flights/partitions.dvc": "outs:\n- md5: 1.dir\n"}),
    "dvc repro by hand": lambda shop: shop.commit({"models/delays/dvc.lock": "schema: '2.0'\n# tried\n"}),
    "a new environment": lambda shop: shop.commit(
        {
            "k8s/environments/production/delays/slots.yaml": dump_slots(
                Slots(environment="production", model="delays")
            )
        }
    ),
    "a tag of their own": lambda shop: shop.retag("spring", shop.head),
    "a branch, merged": lambda shop: (
        shop.git("switch", "-q", "-c", "mine", shop.moments["promoted"].commit),
        shop.commit({"notes.txt": "mine\n"}),
        shop.git("switch", "-q", "main"),
        shop.git("merge", "-q", "--no-ff", "-m", "Merge mine", "mine"),
    ),
}


@pytest.mark.parametrize("do", PEOPLE.values(), ids=PEOPLE)
def test_what_is_peoples_is_no_finding(shop: Shop, do: Callable[[Shop], object]) -> None:
    do(shop)
    assert shop.verify().findings == ()


def test_a_branch_that_is_behind_its_remote_holds_and_says_so(shop: Shop, tmp_path: Path) -> None:
    """Git fetches tags with the commits; that they are not merged yet is nobody's fault."""
    shop.git("clone", "-q", str(shop.top), str(tmp_path / "behind"))
    subprocess.run(
        ["git", "reset", "-q", "--hard", shop.moments["kept"].commit], cwd=tmp_path / "behind", check=True
    )
    found = verify(Workspace.open(tmp_path / "behind"))
    assert found.findings == ()
    assert "commits of other branches, which HEAD does not have" in found.summary


def test_one_model_or_environment_alone_is_asked_for(shop: Shop) -> None:
    shop.git("tag", "-d", "delays@v1.0.0", "credit@v1.0.0")
    assert [finding.where.tag for finding in shop.verify("credit").findings] == ["credit@v1.0.0"]
    assert len(shop.verify(environment="local").findings) == 2
    with pytest.raises(NotFound, match=r"no model risk\. There are: credit, delays"):
        shop.verify("risk")
    with pytest.raises(NotFound, match="no environment production"):
        shop.verify(environment="production")


def test_a_shallow_clone_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.git("clone", "-q", "--depth", "3", f"file://{shop.top}", str(tmp_path / "shallow"))
    with pytest.raises(RepositoryUnready, match="git fetch --unshallow"):
        verify(Workspace.open(tmp_path / "shallow"))


@pytest.mark.parametrize("pinned", ["main", "HEAD", "abc1234"])
def test_a_pinned_head_that_may_come_to_mean_another_is_refused(shop: Shop, pinned: str) -> None:
    with pytest.raises(InputError, match="no full commit id"):
        shop.verify(pinned=pinned)


@pytest.mark.parametrize("at_once", [True, False], ids=["by processes", "by pods"])
def test_a_way_back_to_a_release_that_was_in_neither_slot_holds(tmp_path: Path, at_once: bool) -> None:
    history = History(FastImport(tmp_path / "work"))
    history.begin("delays")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        history.release("delays", version)
        history.put("delays", version)
        history.close("delays", "first")
    history.roll_back("delays", "1.0.0", at_once=at_once)
    history.git.close()
    assert verify(Workspace.open(tmp_path / "work")).findings == ()


def test_a_replaced_object_is_not_looked_at(shop: Shop) -> None:
    manifest = shop.git("rev-parse", "HEAD:models/delays/manifest.yaml")
    other = shop.git("hash-object", "-w", "--stdin", stdin="another\n")
    shop.git("replace", manifest, other)
    assert shop.verify().holds


def test_a_long_history_holds_and_takes_few_git_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coalmine.registry.repository import Repository

    write_long_history(tmp_path / "long", models=50, releases=500)
    workspace, asked = Workspace.open(tmp_path / "long"), []
    execute = Repository._execute
    monkeypatch.setattr(Repository, "_execute", lambda *call: (asked.append(call), execute(*call))[1])
    found = verify(workspace)
    assert found.findings == ()
    assert (found.releases, found.deliveries, found.rollouts) == (500, 1009, 500)  # 9 ways back
    assert len(asked) < 30
