"""What is not as Git says, on this machine: found, told once, mended; through the real Envoy and servers."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from coalmine.drift import alerts
from coalmine.drift.findings import Kind
from coalmine.manifest import Trigger
from coalmine.operations.environments import open_environment
from coalmine.operations.watch import Watch
from coalmine.operations.workspace import Workspace
from coalmine.rollout.ports import TrafficSplit
from coalmine.slots import Slot
from coalmine.spec import load_model_spec
from tests.local.harness import eventually
from tests.scenarios.lending import LOANS
from tests.scenarios.test_steering import begin
from tests.scenarios.users import asking
from tests.scenarios.watched import (
    Hand,
    Inbox,
    kinds,
    listening,
    lose_object,
    others_push,
    put_back,
    stray_tag,
    told_to,
    untag,
)
from tests.scenarios.workplace import MODEL, Workplace

KIM = Trigger(kind="person", who="Kim <kim@example.org>", proof="claimed")
DOWN = 1


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # opening a workspace makes its modules importable


@pytest.fixture
def promoted(serving: Workplace) -> Workplace:
    """1.1.0 serves, after 1.0.0; 1.2.0 waits for its delivery."""
    process = begin(serving, "--version", "1.1.0")
    serving.run("promote", MODEL)
    assert serving.ended(process).status == 0
    return serving


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with listening() as inbox:
        yield inbox


def watch(work: Workplace, *, heals: bool = False) -> Watch:
    return Watch(Workspace.open(work.top), "local", (), KIM, lambda _: None, heals=heals)


def _files(work: Workplace, version: str) -> list[Path]:
    """The files of the release as they lie here, ready to be served."""
    for served in (work.top / ".coalmine/releases" / MODEL).iterdir():
        if yaml.safe_load((served / "manifest.yaml").read_text())["version"] == version:
            return [path for path in (served / "files").rglob("*") if path.is_file()]
    raise AssertionError(version)


def _swap(work: Workplace) -> tuple[Path, bytes]:
    path = _files(work, "1.1.0")[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    return path, content


def _move_users(work: Workplace) -> None:
    workspace = Workspace.open(work.top)
    serving = open_environment(workspace, "local")
    serving.adapters(load_model_spec(work.top, MODEL)).router.set_split(TrafficSplit.canary(Slot.GREEN, 40))


def _edit_routes(work: Workplace, change: Callable[[Any], None]) -> None:
    path = work.top / ".coalmine/local/envoy/routes.json"
    routes = json.loads(path.read_text())
    change(routes)
    routes["version_info"] = "by hand"
    temporary = path.with_name("edited.json")
    temporary.write_text(json.dumps(routes))
    os.replace(temporary, path)


def _take_route_out(work: Workplace) -> None:
    def change(routes: Any) -> None:
        for host in routes["resources"][0]["virtual_hosts"]:
            host["routes"] = [each for each in host["routes"] if MODEL not in json.dumps(each)]

    _edit_routes(work, change)


def _take_process_out(work: Workplace) -> None:
    (work.top / f".coalmine/local/processes/{MODEL}-blue.json").unlink()


def _other_options(work: Workplace) -> None:
    path = work.top / f".coalmine/local/processes/{MODEL}-blue.json"
    desired = json.loads(path.read_text())
    desired["request"] = "by-hand"
    argv = desired["spec"]["argv"]
    argv[argv.index("--queue") + 1] = "7"
    path.write_text(json.dumps(desired))


def _other_release(work: Workplace) -> None:
    """The server of one slot is started with the other slot's release."""
    blue, green = (work.top / f".coalmine/local/processes/{MODEL}-{slot}.json" for slot in Slot)
    folders = []
    for path in (blue, green):
        argv = json.loads(path.read_text())["spec"]["argv"]
        folders.append(argv[argv.index("--release") + 1])
    desired = json.loads(green.read_text())
    argv = desired["spec"]["argv"]
    argv[argv.index("--release") + 1] = folders[0]
    desired["request"] = "by-hand"
    green.write_text(json.dumps(desired))


def _edit_slots(work: Workplace) -> str:
    before = work.head()
    path = f"k8s/environments/local/{MODEL}/slots.yaml"
    digest = work.read_yaml(path)["releases"]["blue"]["model_digest"]
    work.edit(path, digest, "f" * 64)
    work.git("commit", "--quiet", "--all", "--message", "By hand")
    return before


def _break_slots(work: Workplace) -> str:
    before = work.head()
    work.edit(f"k8s/environments/local/{MODEL}/slots.yaml", "stable: green", "stable: [")
    work.git("commit", "--quiet", "--all", "--message", "By hand")
    return before


def _back_to(work: Workplace, commit: str) -> None:
    work.git("reset", "--quiet", "--hard", commit)


def _die(work: Workplace) -> None:
    """A server that never becomes ready again: its port is another program's... it is told to fail."""
    path = work.top / f".coalmine/local/processes/{MODEL}-blue.json"
    desired = json.loads(path.read_text())
    desired["request"] = "by-hand"
    desired["spec"]["argv"] = [sys.executable, "-c", "raise SystemExit('no memory')"]
    path.write_text(json.dumps(desired))


HANDS: dict[str, Hand[Workplace]] = {
    "a server's options": Hand(Kind.CONFIGURATION, _other_options),
    "a server's release": Hand(Kind.OTHER_RELEASE, _other_release, with_it=frozenset({Kind.CONFIGURATION})),
    "a server that fails": Hand(Kind.SERVER_DOWN, _die, with_it=frozenset({Kind.CONFIGURATION})),
    "a server taken out": Hand(Kind.SERVER_DOWN, _take_process_out),
    "the weights": Hand(Kind.ROUTE_WEIGHTS, _move_users),
    "the route taken out": Hand(Kind.ROUTE_MISSING, _take_route_out),
    "a model file": Hand(Kind.FILES_CHANGED, _swap, put_back),
    "an object of the DVC remote": Hand(Kind.BYTES_LOST, lose_object, put_back),
    "a stray tag": Hand(Kind.TAG_WITHOUT_MANIFEST, stray_tag, untag),
    "a digest in Git": Hand(Kind.RECORD_DIFFERS, _edit_slots, _back_to),
    "slots in Git": Hand(Kind.RECORD_UNREADABLE, _break_slots, _back_to),
    "others' push": Hand(Kind.CLONE_BEHIND, others_push),
}


def test_each_hand_is_seen_in_one_look_and_mended_or_said_to_be_a_persons(
    promoted: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "HEALS_AFTER_S", 0.0)
    looking, healing = watch(promoted), watch(promoted, heals=True)
    assert kinds(looking.look()) == []
    for name, hand in HANDS.items():
        left = hand.do(promoted)
        meant = {hand.kind, *hand.with_it}
        # A server that was just started anew is down for a moment.
        eventually(
            lambda hand=hand, meant=meant: (
                hand.kind in (seen := kinds(looking.look())) and set(seen) <= meant
            ),
            name,
        )
        if hand.undo is not None:
            looked = healing.look()
            assert hand.kind in kinds(looked), name
            assert all(each.finding.kind is not hand.kind for each in looked.healed), name
            hand.undo(promoted, left)
        healing.look()
        assert kinds(looking.look()) == [], name
    assert promoted.weights() == {"1.1.0": 100}
    assert promoted.slots == {"stable": "1.1.0", "candidate": None}
    assert promoted.git("status", "--short") == ""


def test_a_look_says_what_is_where_since_when_and_what_to_type_and_by_its_status(promoted: Workplace) -> None:
    assert "local is as Git says (1 model" in promoted.run("watch", "--once").out
    _move_users(promoted)
    told = promoted.run("watch", "--once", status=DOWN).out
    assert "local is not as Git says: 1 finding (1 model" in told
    assert f"route's weights of {MODEL}, since 20" in told
    assert "expected  everybody on 1.1.0 (green)" in told
    assert "seen      60 % on 1.0.0, 40 % on 1.1.0" in told
    remedy = told.split(f"coalmine deliver {MODEL}")[1].splitlines()[0]
    (finding,) = promoted.run("watch", MODEL, "--once", "--json", status=DOWN).json["findings"]
    assert (finding["kind"], finding["heal"]) == ("route's weights", str(Kind.ROUTE_WEIGHTS.heal))
    promoted.run("deliver", MODEL, *remedy.split())  # what it says that one can type
    assert promoted.run("watch", "--once", "--json").json["matches"] is True
    refused = promoted.run("watch", "other", "--once", status=2)
    assert f"There is no model other. There are: {MODEL}" in refused.err
    assert "is no address" in promoted.run("watch", "--metrics", "9090", status=2).err
    promoted.run("down")
    assert "stack down" in promoted.run("watch", "--once", status=DOWN).out
    promoted.run("watch", "--once", "--heal")
    assert promoted.weights() == {"1.1.0": 100}


def test_a_rollout_that_is_driven_is_no_finding_and_one_whose_runner_is_gone_is_gone_on_with(
    serving: Workplace, inbox: Inbox
) -> None:
    told_to(serving, inbox)
    looking = watch(serving)
    rollout = begin(serving, "--version", "1.1.0")
    serving.run("pause", MODEL)
    assert serving.weights() == {"1.0.0": 70, "1.1.0": 30}
    assert kinds(looking.look()) == []
    serving.run("resume", MODEL)
    os.killpg(rollout.pid, signal.SIGKILL)
    rollout.communicate()
    assert kinds(looking.look()) == [Kind.RUNNER_GONE]
    assert inbox.told == []
    with asking(serving.url, serving.top / LOANS) as users:
        serving.run("watch", "--once", "--heal")
    assert users.failures == {}
    assert serving.slots == {"stable": "1.1.0", "candidate": None}
    assert serving.weights() == {"1.1.0": 100}
    assert serving.pushed() == serving.head()
    assert inbox.told[0] == (["runner gone"], [])


OF_A_HEAL = (
    "before coalmine.operations.watch:observe",
    "after coalmine.journals.looks:FileLooks.write",
    "before coalmine.operations.heal:restore",
    "after coalmine.reconcilers.processes:ProcessesReconciler.reconcile",
    "before coalmine.routers.envoy:EnvoyRouter.set_split",
    "after coalmine.routers.envoy:EnvoyRouter.set_split",
    "after coalmine.operations.heal:restore",
    "after coalmine.operations.heal:Healer.heal",
    "before coalmine.notifications.posting:post_json",
    "after coalmine.notifications.posting:post_json",
)


def test_killed_between_any_two_writes_a_heal_goes_on_and_is_told_and_ends_in_one_clean_state(
    promoted: Workplace, inbox: Inbox
) -> None:
    told_to(promoted, inbox)
    before = promoted.head()
    promoted.run("watch", "--once")
    for point in OF_A_HEAL:
        _move_users(promoted)
        _other_options(promoted)
        promoted.run_killed(point, "watch", "--once", "--heal")
    promoted.run("watch", "--once", "--heal")
    assert promoted.weights() == {"1.1.0": 100}
    assert promoted.head() == before
    assert promoted.git("status", "--short") == ""
    assert promoted.run("verify").status == 0
    appeared = [kind for body in inbox.told for kind in body[0]]
    assert {"route's weights", "configuration"} == set(appeared)


def test_a_rollback_whose_record_waits_is_finished_killed_anywhere(promoted: Workplace) -> None:
    promoted.run_killed("after coalmine.operations.going_back:_move", "rollback", MODEL)
    found = promoted.run("watch", "--once", "--json", status=DOWN).json["findings"]
    assert [each["kind"] for each in found] == ["rollback waits"]
    for point in (
        "before coalmine.operations.going_back:publish",
        "before coalmine.registry.upstream:Upstream.push",
        "before coalmine.operations.going_back:_forget",
    ):
        promoted.run_killed(point, "watch", "--once", "--heal")
    promoted.run("watch", "--once", "--heal")
    assert promoted.slots == {"stable": "1.0.0", "candidate": None}
    assert promoted.weights() == {"1.0.0": 100}
    assert promoted.pushed() == promoted.head()


def test_somebody_who_cannot_be_told_is_told_later_and_never_twice(promoted: Workplace, inbox: Inbox) -> None:
    told_to(promoted, inbox)
    inbox.status = 503
    stray_tag(promoted)
    looked = promoted.run("watch", "--once", "--json", status=DOWN).json
    assert "1 notice to json webhook 127.0.0.1 wait: it answers 503" in looked["untold"]
    inbox.status = 200
    for _ in range(2):
        assert promoted.run("watch", "--once", "--json", status=DOWN).json["untold"] == []
    promoted.git("tag", "--delete", f"{MODEL}@v9.9.9")
    for _ in range(2):
        promoted.run("watch", "--once")
    assert inbox.told == [(["tag without manifest"], []), ([], ["tag without manifest"])]


def test_it_stays_tells_its_numbers_and_ends_in_order(promoted: Workplace) -> None:
    from tests.ports import reserved_port
    from tests.scenarios.test_runner import _get

    port = reserved_port()
    process = promoted.start("watch", "--every", "1", "--metrics", f"127.0.0.1:{port}")
    labels = f'environment="local",kind="route\'s weights",model="{MODEL}",subject=""'
    finding = f"coalmine_watch_finding{{{labels}}} 1.0"

    def numbers() -> str:
        try:
            return _get(port, "/metrics")
        except OSError:
            return ""

    eventually(lambda: "coalmine_watch_last_look_timestamp_seconds" in numbers(), "it looks")
    _move_users(promoted)
    eventually(lambda: finding in numbers(), "it is found")
    assert _get(port, "/healthz") == "ok\n"
    process.terminate()
    assert promoted.ended(process).status == 0
