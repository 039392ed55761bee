"""`make demo`, to its end; and an auditor who asks afterwards what its people did and its users saw."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from coalmine.demo.story import BAD, MODEL
from coalmine.demo.traffic import read_scores
from coalmine.errors import InputError, MachineUnready
from tests.ports import reserved_port
from tests.scenarios.auditor import ask_all
from tests.scenarios.workplace import Workplace, stopped_at_the_end

DEMO_WITHIN_S = 600.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_is_told_to_its_end_and_its_record_answers_an_auditor(tmp_path: Path) -> None:
    demo = Workplace(tmp_path / "demo")
    words = ("demo", "--directory", str(demo.top), "--address", f"127.0.0.1:{reserved_port()}")
    with stopped_at_the_end(demo):
        ran = demo.ended(demo.start(*words, cwd=tmp_path), DEMO_WITHIN_S)
    assert ran.status == 0, ran
    assert f"{MODEL} {BAD} was rolled back: " in ran.out
    users = read_scores(demo.top / ".coalmine/users.json")
    assert users is not None
    assert f"{users.requests:,} user requests" in ran.out
    assert users.by_version[BAD].failures > 0
    assert users.failures - users.by_version[BAD].failures <= users.requests / 1000
    ask_all(demo, tmp_path / "plain", users)


def test_an_address_that_is_none_or_is_taken_is_said_before_anything_is_written(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    refused = place.run("demo", "--address", "8900", status=InputError.exit_code)
    assert "--address 8900 is no address" in refused.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ("demo", "--directory", "demo", "--address", address)
        refused = place.run(*words, status=MachineUnready.exit_code)
    assert f"{address} is in use" in refused.err
    assert "name another address with --address" in refused.err
    assert list(tmp_path.iterdir()) == []
