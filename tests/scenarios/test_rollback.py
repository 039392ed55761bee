"""Back to the older release, whatever Git, the remote or a kill does; and in the middle of a rollout."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml

from coalmine.cli import ROLLED_BACK
from coalmine.errors import Conflict, InputError, RemoteUnavailable
from tests.scenarios.lending import LOANS
from tests.scenarios.test_steering import begin
from tests.scenarios.users import asking
from tests.scenarios.workplace import MODEL, Workplace

_BACK = "coalmine.operations.going_back"
_PUSH = "coalmine.registry.upstream:Upstream.push"
OF_A_ROLLBACK = (
    f"before {_BACK}:replace_text with rollback.json",
    f"after {_BACK}:replace_text with rollback.json",
    "before coalmine.routers.envoy:EnvoyRouter.set_split",
    "after coalmine.routers.envoy:EnvoyRouter.set_split",
    f"after {_BACK}:_move",
    f"before {_BACK}:publish",
    "before coalmine.registry.commits:_update_refs",
    f"before {_PUSH}",
    f"after {_PUSH}",
    f"before {_BACK}:_forget",
)


@pytest.fixture
def promoted(serving: Workplace) -> Workplace:
    """1.1.0 serves, after 1.0.0."""
    process = begin(serving, "--version", "1.1.0")
    serving.run("promote", MODEL)
    assert serving.ended(process).status == 0
    return serving


def waits(work: Workplace) -> str | None:
    (status,) = work.run("status", "--json").json
    words: str | None = status["rollback_waits"]
    return words


def assert_recorded_once(work: Workplace, before: str) -> None:
    assert work.subjects(before) == [f"Roll {MODEL} back to 1.0.0 in local"]
    assert work.slots == {"stable": "1.0.0", "candidate": None}
    assert work.tags()[f"{MODEL}#local#3"] == f"Release {MODEL} 1.0.0"
    assert f"{MODEL}#local#4" not in work.tags()
    assert work.pushed() == work.head()
    assert work.git("status", "--short") == ""
    assert waits(work) is None


def test_killed_between_any_two_writes_it_is_gone_on_with_and_recorded_once(promoted: Workplace) -> None:
    before = promoted.head()
    with asking(promoted.url, promoted.top / LOANS) as users:
        for point in OF_A_ROLLBACK:
            promoted.run_killed(point, "rollback", MODEL)
        told = promoted.run("rollback", MODEL, "--json").json
        users.await_requests(20)
    assert users.failures == {}
    assert (told["before"], told["now"], told["commit"]) == ("1.1.0", "1.0.0", promoted.head())
    assert_recorded_once(promoted, before)


def test_a_delivery_records_what_a_killed_rollback_left_and_does_not_retry_the_bad_release(
    promoted: Workplace,
) -> None:
    before = promoted.head()
    promoted.run_killed(f"after {_BACK}:_move", "rollback", MODEL)
    assert promoted.weights() == {"1.0.0": 100}
    assert "from 1.1.0 to 1.0.0" in (waits(promoted) or "")
    refused = promoted.run("deliver", MODEL, "--version", "1.1.0", status=InputError.exit_code)
    assert "was turned away in local" in refused.err
    assert promoted.weights() == {"1.0.0": 100}
    assert_recorded_once(promoted, before)


def test_with_the_remote_away_or_refusing_the_users_go_back_and_the_record_follows(
    promoted: Workplace,
) -> None:
    before, remote = promoted.head(), promoted.top / ".coalmine/remotes/git.git"
    hook = remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    refused = promoted.run("rollback", MODEL, status=Conflict.exit_code)
    assert "The users are on 1.0.0, but the record waits" in refused.err
    assert promoted.weights() == {"1.0.0": 100}
    hook.unlink()

    remote.rename(remote.with_name("away"))
    again = promoted.run("rollback", MODEL, status=RemoteUnavailable.exit_code)
    assert "The users are on 1.0.0" in again.err
    promoted.run("deliver", MODEL, "--version", "1.1.0", status=RemoteUnavailable.exit_code)
    assert promoted.weights() == {"1.0.0": 100}
    assert waits(promoted) is not None
    remote.with_name("away").rename(remote)
    promoted.run("rollback", MODEL)
    assert_recorded_once(promoted, before)


def test_where_git_takes_no_commit_the_users_go_back_in_seconds(
    promoted: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    before, lock = promoted.head(), promoted.top / ".git/refs/heads/main.lock"
    lock.touch()
    with asking(promoted.url, promoted.top / LOANS) as users:
        users.await_requests(20)
        began = time.monotonic()
        process = promoted.start("rollback", MODEL)
        assert promoted.ended(process).status != 0
        users.await_requests(20)
    assert users.failures == {}
    assert promoted.weights() == {"1.0.0": 100}
    with capsys.disabled():
        seconds = users.last_asked["1.1.0"] - began
        print(f"\nGit takes no commit: {seconds:.1f} s from the command to the last request on 1.1.0")
    lock.unlink()
    promoted.run("rollback", MODEL)
    assert_recorded_once(promoted, before)


def test_one_command_goes_back_in_the_middle_of_a_rollout_and_on_to_the_version_asked_for(
    promoted: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout = begin(promoted, "--version", "1.2.0")
    refused = promoted.run("rollback", MODEL, "--to", "1.2.0", status=InputError.exit_code)
    assert "is being rolled out" in refused.err
    with asking(promoted.url, promoted.top / LOANS) as users:
        users.await_version("1.2.0")
        began = time.monotonic()
        told = promoted.run("rollback", MODEL, "--to", "1.0.0", "--json").json
        users.await_requests(20)
    with capsys.disabled():
        seconds = users.last_asked["1.2.0"] - began
        print(f"\nmid-rollout: {seconds:.1f} s from the command to the last request on 1.2.0")
    assert promoted.ended(rollout).status == ROLLED_BACK
    assert (told["before"], told["now"]) == ("1.1.0", "1.0.0")
    assert promoted.weights() == {"1.0.0": 100}
    assert promoted.slots == {"stable": "1.0.0", "candidate": None}
    assert promoted.pushed() == promoted.head()

    rollout = begin(promoted, "--version", "1.1.0", "--retry")
    told = promoted.run("rollback", MODEL, "--json").json
    assert promoted.ended(rollout).status == ROLLED_BACK
    assert (told["before"], told["now"]) == ("1.1.0", "1.0.0")
    assert promoted.weights() == {"1.0.0": 100}


def test_a_release_of_neither_slot_comes_back_whole_or_not_at_all(promoted: Workplace) -> None:
    """Its bytes are lost here and on the remote at first, and then there; killed between any two writes."""
    process = begin(promoted, "--version", "1.2.0")
    promoted.run("promote", MODEL)
    assert promoted.ended(process).status == 0
    before = promoted.head()
    bytes_of = lost(promoted, "1.0.0")

    refused = promoted.start("rollback", MODEL, "--to", "1.0.0")
    assert promoted.ended(refused).status != 0
    assert promoted.weights() == {"1.2.0": 100}
    assert promoted.head() == before
    assert waits(promoted) is None

    for path, content in bytes_of.items():
        path.write_bytes(content)
    with asking(promoted.url, promoted.top / LOANS) as users:
        for point in OF_A_ROLLBACK:
            promoted.run_killed(point, "rollback", MODEL, "--to", "1.0.0")
        promoted.run("rollback", MODEL, "--to", "1.0.0")
        users.await_requests(20)
    assert set(users.failures) <= {("1.2.0", 400)}  # those that 1.2.0 is made to refuse
    assert promoted.weights() == {"1.0.0": 100}
    assert promoted.slots == {"stable": "1.0.0", "candidate": None}
    assert promoted.subjects(before) == [f"Roll {MODEL} back to 1.0.0 in local"]
    assert promoted.pushed() == promoted.head()
    assert promoted.run("verify").status == 0


def lost(work: Workplace, version: str) -> dict[Path, bytes]:
    """The files of a release are nowhere any more, but in what is returned: those of the remote."""
    manifest = yaml.safe_load(work.git("show", f"{MODEL}@v{version}:models/{MODEL}/manifest.yaml"))
    names = [Path(file["md5"][:2]) / file["md5"][2:] for file in manifest["files"]]
    for served in (work.top / ".coalmine/releases" / MODEL).iterdir():
        if yaml.safe_load((served / "manifest.yaml").read_text())["version"] == version:
            shutil.rmtree(served)
    for name in names:
        (work.top / ".dvc/cache/files/md5" / name).unlink(missing_ok=True)
    places = [work.top / ".coalmine/remotes/dvc/files/md5" / name for name in names]
    kept = {place: place.read_bytes() for place in places}
    for place in places:
        place.unlink()
    return kept
