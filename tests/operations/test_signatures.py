"""Where signatures are required, what nobody allowed has signed is refused before anything is done."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from coalmine.durable import replace_bytes
from coalmine.errors import IntegrityError, MachineUnready, NotFound, RepositoryUnready
from coalmine.journals import journal
from coalmine.journals.about import About
from coalmine.manifest import Trigger, dump_manifest, manifest_path
from coalmine.operations import doctor, rollback
from coalmine.operations.deliver import deliver, resume
from coalmine.operations.going_back import intended
from coalmine.operations.local_environment import LocalEnvironment
from coalmine.operations.platform import up
from coalmine.operations.retrain import retrain
from coalmine.operations.rollback import roll_back
from coalmine.operations.runner import serve
from coalmine.operations.signatures import require_signed
from coalmine.operations.steer import steer
from coalmine.operations.workspace import Workspace
from coalmine.registry.commits import Change, Tag, publish
from coalmine.rollout.ports import Ask, SlotHealth, TrafficSplit
from coalmine.rollout_spec import GateSpec
from coalmine.scaffold.repository import init
from coalmine.slots import Slot, SlotRelease, Slots, dump_slots, parse_slots, slots_path
from coalmine.spec import ModelSpec
from coalmine.wiring import Adapters
from tests.journals.fake_rollouts import make_manifest
from tests.keys import Key, make_key
from tests.operations.conftest import as_kim
from tests.operations.place import Place

MODEL = "credit-risk"
DANA = Trigger(kind="person", who="Dana <dana@example.com>", proof="claimed")


@dataclass(frozen=True)
class Shop:
    """`local` requires signatures since the commit after 1.0.0, and Dana alone is allowed."""

    top: Path
    keys: Mapping[str, Key]
    commits: dict[str, str]

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.top)

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.top, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def sign_as(self, name: str | None) -> None:
        for setting in ("gpg.format", "user.signingkey"):
            subprocess.run(["git", "config", "--unset", setting], cwd=self.top)
        for setting, value in {} if name is None else self.keys[name].git.items():
            self.git("config", setting, value)

    def commit(self, files: Mapping[Path | str, str], *, signed: bool = True) -> str:
        for path, text in files.items():
            replace_bytes(self.top / path, text.encode())
        self.git("add", "-A")
        self.git("commit", "-qm", "by hand", "-S" if signed else "--no-gpg-sign")
        return self.git("rev-parse", "HEAD")

    def release(self, version: str) -> str:
        manifest = make_manifest(version).model_copy(update={"model": MODEL})
        path = manifest_path(MODEL)
        replace_bytes(self.top / path, dump_manifest(manifest).encode())
        tag = Tag(f"{MODEL}@v{version}", f"{MODEL} {version}")
        change = Change((path,), f"Release {MODEL} {version}", tags=(tag,))
        self.commits[version] = publish(self.workspace.repository, change, "origin", "main")
        return self.commits[version]

    def put(self, stable: str, other: str | None = None, *, candidate: Slot | None = None) -> None:
        held = {Slot.BLUE: stable} | ({} if other is None else {Slot.GREEN: other})
        releases = {
            slot: SlotRelease(version=version, commit=self.commits[version], model_digest="0" * 64)
            for slot, version in held.items()
        }
        slots = Slots(
            environment="local", model=MODEL, stable=Slot.BLUE, candidate=candidate, releases=releases
        )
        self.commit({slots_path("local", MODEL): dump_slots(slots)})

    def require(self, version: str) -> None:
        require_signed(self.workspace, "local", [(MODEL, version, self.commits[version])])


@pytest.fixture(scope="module")
def _keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, f"{name}@example.com") for name in ("dana", "eve")}


@pytest.fixture(scope="module")
def _made(
    tmp_path_factory: pytest.TempPathFactory, _keys: dict[str, Key]
) -> Iterator[tuple[Path, dict[str, str]]]:
    with pytest.MonkeyPatch.context() as patch:
        as_kim(patch)
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        shop = Shop(tmp_path_factory.mktemp("made") / "work", _keys, {})
        init(shop.top, examples=(MODEL,))
        shop.release("1.0.0")
        shop.sign_as("dana")
        settings = (shop.top / "coalmine.yaml").read_text()
        asks = settings.replace("reconciler: processes", "signatures: required\n    reconciler: processes")
        assert asks != settings
        shop.commit({"allowed_signers": _keys["dana"].listed(), "coalmine.yaml": asks})
        shop.git("push", "-q", "origin", "main")
        sys.path.remove(str(shop.top))
        yield shop.top, shop.commits


@pytest.fixture
def shop(
    _made: tuple[Path, dict[str, str]], tmp_path: Path, _keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch
) -> Shop:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.delenv("GIT_COMMITTER_DATE", raising=False)  # signatures count by it
    shutil.copytree(_made[0], tmp_path / "work", symlinks=True)
    shop = Shop(tmp_path / "work", _keys, dict(_made[1]))
    shop.git("remote", "set-url", "origin", str(shop.top / ".coalmine/remotes/git.git"))
    return shop


def told(_sentence: str) -> None:
    pass


def test_a_release_that_somebody_allowed_has_signed_passes(shop: Shop) -> None:
    shop.release("1.1.0")
    shop.require("1.1.0")


def test_what_was_released_before_signatures_were_asked_for_stays_good(shop: Shop) -> None:
    shop.require("1.0.0")


def unsigned(shop: Shop, version: str = "1.1.0") -> None:
    shop.sign_as(None)
    shop.release(version)


def by_another(shop: Shop) -> None:
    shop.sign_as("eve")
    shop.release("1.1.0")


def revoked_since(shop: Shop) -> None:
    shop.release("1.1.0")
    listed = shop.keys["dana"].listed() + shop.keys["eve"].listed()
    shop.commit({"allowed_signers": listed})
    shop.sign_as("eve")
    shop.commit({"revoked_signers": shop.keys["dana"].public + "\n"})


def past_its_time(shop: Shop) -> None:
    listed = shop.keys["dana"].listed() + shop.keys["eve"].listed('valid-before="20200101Z"')
    shop.commit({"allowed_signers": listed})
    by_another(shop)


def moved(shop: Shop) -> None:
    """The tag of 1.1.0, signed as it is, put on another commit by who cannot sign."""
    shop.release("1.1.0")
    shop.commits["1.1.0"] = shop.commit({"pipelines/forged.py": "# forged\n"}, signed=False)
    text = shop.git("cat-file", "tag", f"{MODEL}@v1.1.0")
    forged = text.replace(text.split()[1], shop.commits["1.1.0"])
    made = subprocess.run(
        ["git", "mktag"], cwd=shop.top, input=forged + "\n", check=True, capture_output=True, text=True
    )
    shop.git("update-ref", f"refs/tags/{MODEL}@v1.1.0", made.stdout.strip())


def another_in_the_slot(shop: Shop) -> None:
    """The slots file names a commit of another's under the version that is signed."""
    shop.release("1.1.0")
    shop.commits["1.1.0"] = shop.commit({"pipelines/forged.py": "# forged\n"}, signed=False)


def renamed(shop: Shop) -> None:
    """The tag of another release under the name of this one."""
    shop.release("1.1.0")
    older = shop.release("1.0.1")
    shop.git("update-ref", f"refs/tags/{MODEL}@v1.1.0", f"refs/tags/{MODEL}@v1.0.1")
    shop.commits["1.1.0"] = older


def lightweight(shop: Shop) -> None:
    shop.release("1.1.0")
    shop.git("tag", "-f", f"{MODEL}@v1.1.0", f"{MODEL}@v1.1.0^{{}}")


def missing(shop: Shop) -> None:
    shop.release("1.1.0")
    shop.git("tag", "-d", f"{MODEL}@v1.1.0")


@pytest.mark.parametrize(
    ("tamper", "seen"),
    [
        (unsigned, "it has no signature"),
        (by_another, "which allowed_signers does not hold"),
        (revoked_since, "which revoked_signers holds"),
        (past_its_time, "which counts until 2020-01-01"),
        (moved, "over other bytes"),
        (another_in_the_slot, "it says credit-risk@v1.1.0 of commit"),
        (renamed, "it says credit-risk@v1.0.1"),
        (lightweight, "it says no name"),
        (missing, "there is none"),
    ],
)
def test_a_release_that_nobody_allowed_has_signed_is_refused(
    shop: Shop, tamper: Callable[[Shop], None], seen: str
) -> None:
    tamper(shop)
    with pytest.raises(IntegrityError, match=seen) as refused:
        shop.require("1.1.0")
    assert "1.1.0 is not served in local, which requires signatures" in str(refused.value)


def test_somebody_allowed_vouches_for_it_as_the_error_says(shop: Shop) -> None:
    unsigned(shop)
    shop.sign_as("dana")
    with pytest.raises(IntegrityError) as refused:
        shop.require("1.1.0")
    command = str(refused.value).partition("commit ")[2].partition(": ")[2]
    subprocess.run(["sh", "-c", command], cwd=shop.top, check=True, capture_output=True)
    shop.require("1.1.0")


@pytest.mark.parametrize("path", ["allowed_signers", "coalmine.yaml"])
def test_who_may_push_does_not_allow_themselves(shop: Shop, path: str) -> None:
    asks = (shop.top / "coalmine.yaml").read_text()
    text = {
        "allowed_signers": shop.keys["eve"].listed(),
        "coalmine.yaml": asks.replace("required", "optional"),
    }
    commit = shop.commit({path: text[path]}, signed=False)
    by_another(shop)
    with pytest.raises(IntegrityError, match=f"{path} was changed by nobody who may: commit {commit[:12]}"):
        shop.require("1.1.0")


def test_without_a_list_of_signers_nothing_is_served(shop: Shop) -> None:
    shop.release("1.1.0")
    shop.git("rm", "-q", "allowed_signers")
    shop.commit({})
    with pytest.raises(RepositoryUnready, match="no allowed_signers is committed here"):
        shop.require("1.1.0")


def test_an_environment_that_asks_for_nothing_serves_anything(shop: Shop) -> None:
    shop.commit({"coalmine.yaml": (shop.top / "coalmine.yaml").read_text().replace("required", "optional")})
    unsigned(shop)
    shop.require("1.1.0")


# --- the commands ----------------------------------------------------------------------


def test_a_delivery_is_refused_before_it_takes_a_slot(shop: Shop) -> None:
    unsigned(shop)
    shop.sign_as("dana")
    head = shop.git("rev-parse", "HEAD")
    with pytest.raises(IntegrityError, match="it has no signature"):
        deliver(shop.workspace, MODEL, "local", DANA, told)
    assert shop.git("rev-parse", "HEAD") == head
    assert not (shop.top / ".coalmine/local").exists()
    assert not (shop.top / ".coalmine/rollouts").exists()


@pytest.mark.parametrize("to", ["1.1.0", None])
def test_a_way_back_is_refused_before_anybody_is_moved(shop: Shop, to: str | None) -> None:
    unsigned(shop)
    shop.sign_as("dana")
    shop.release("1.2.0")
    shop.put("1.2.0", "1.1.0")
    with pytest.raises(IntegrityError, match=r"1\.1\.0 is not served in local"):
        roll_back(shop.workspace, MODEL, "local", DANA, told, to=to)
    assert not list(shop.top.glob(".coalmine/**/rollback.json"))


def test_up_starts_nothing_that_is_not_signed(shop: Shop) -> None:
    unsigned(shop)
    shop.sign_as("dana")
    shop.put("1.1.0")
    with pytest.raises(IntegrityError, match=r"1\.1\.0 is not served in local"):
        up(shop.workspace, "local", told)
    assert not (shop.top / ".coalmine/local").exists()


STEPS: dict[str, Callable[[Shop], object]] = {
    "retrain": lambda shop: retrain(shop.workspace, MODEL, DANA, told),
    "deliver": lambda shop: deliver(shop.workspace, MODEL, "local", DANA, told),
    "promote": lambda shop: steer(shop.workspace, MODEL, "local", Ask.PROMOTE, DANA, told),
    "runner": lambda shop: serve(shop.workspace, "local", DANA, told),
}


@pytest.mark.parametrize(
    ("key", "error", "says"),
    [
        (None, RepositoryUnready, "Git does not sign in"),
        ("eve", RepositoryUnready, "which allowed_signers does not hold"),
        ("nobody", MachineUnready, "No such file"),
    ],
)
def test_who_cannot_sign_is_told_before_anything_is_done(
    shop: Shop, key: str | None, error: type[Exception], says: str, tmp_path: Path
) -> None:
    shop.release("1.1.0")
    shop.put("1.1.0", "1.0.0")
    shop.sign_as("eve" if key == "nobody" else key)
    if key == "nobody":
        shop.git("config", "user.signingkey", str(tmp_path / "gone"))
    head = shop.git("rev-parse", "HEAD")
    for step in STEPS.values():
        with pytest.raises(error, match=says):
            step(shop)
    assert shop.git("rev-parse", "HEAD") == head


class Driven(Exception):
    pass


class Unstarted(LocalEnvironment):
    """An environment whose programs are not started; it is known when a rollout is about to be driven."""

    def up(self) -> None:
        pass

    def adapters(self, _spec: ModelSpec, _gates: Sequence[GateSpec] = ()) -> Adapters:
        raise Driven


def test_a_candidate_that_is_not_signed_gets_no_users(shop: Shop) -> None:
    shop.release("1.1.0")
    unsigned(shop, "1.2.0")
    shop.sign_as("dana")
    shop.put("1.1.0", "1.2.0", candidate=Slot.GREEN)
    workspace = shop.workspace
    with pytest.raises(IntegrityError, match=r"1\.2\.0 is not served in local"):
        resume(workspace, Unstarted(workspace, "local"), MODEL, DANA, told)


def test_users_of_a_candidate_whose_key_was_revoked_meanwhile_go_back_to_stable(shop: Shop) -> None:
    shop.put("1.0.0")
    revoked_since(shop)
    shop.put("1.0.0", "1.1.0", candidate=Slot.GREEN)
    workspace = shop.workspace
    about = About(
        id="20261127T100000-v1.1.0",
        environment="local",
        model=MODEL,
        candidate="1.1.0",
        stable="1.0.0",
        stages=(),
        triggered_by=DANA,
    )
    folder = journal.begin(shop.top, about)
    with pytest.raises(Driven):
        resume(workspace, Unstarted(workspace, "local"), MODEL, DANA, told)
    (asked,) = journal.FileJournal(folder).take_requests()
    assert (asked.ask, asked.who) == (Ask.ABORT, "the check of signatures")


def test_users_go_back_without_a_key_and_the_record_waits_for_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.release("1.1.0")
    shop.put("1.1.0", "1.0.0")
    path = shop.top / slots_path("local", MODEL)
    place = Place(parse_slots(path.read_text(), str(path)), health=SlotHealth.READY)
    monkeypatch.setattr(rollback, "open_environment", lambda *_: place)
    shop.sign_as(None)
    head = shop.git("rev-parse", "HEAD")
    with pytest.raises(
        RepositoryUnready, match=r"users are on 1\.0\.0, but the record waits.*Git does not sign"
    ):
        roll_back(shop.workspace, MODEL, "local", DANA, told)
    assert place.moved == [TrafficSplit.all_to(Slot.GREEN)]
    assert shop.git("rev-parse", "HEAD") == head
    shop.sign_as("dana")
    roll_back(shop.workspace, MODEL, "local", DANA, told)
    assert shop.git("log", "-1", "--format=%s") == f"Roll {MODEL} back to 1.0.0 in local"
    assert intended(shop.top, "local", MODEL) is None


def test_a_rollout_is_paused_and_aborted_without_a_key(shop: Shop) -> None:
    """There is none here: that is all that is in the way."""
    shop.sign_as(None)
    for ask in (Ask.PAUSE, Ask.ABORT):
        with pytest.raises(NotFound, match="No rollout of credit-risk is under way"):
            steer(shop.workspace, MODEL, "local", ask, DANA, told)


def test_doctor_says_whether_this_clone_can_sign(shop: Shop) -> None:
    def found() -> tuple[str, str]:
        each = next(each for each in doctor.examine(shop.top) if each.what == "signatures")
        return each.health.value, each.detail

    assert found() == ("ok", "required; this clone signs as dana@example.com")
    shop.sign_as("eve")
    assert found()[0] == "missing"
    shop.sign_as(None)
    assert "git config gpg.format ssh" in found()[1]
    shop.commit(
        {"coalmine.yaml": (shop.top / "coalmine.yaml").read_text().replace("required", "optional")},
        signed=False,
    )
    assert found() == ("ok", "not required; this clone does not sign")
