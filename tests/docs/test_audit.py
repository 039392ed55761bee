"""docs/audit.md says what `coalmine audit` does: its commands run, its limits and proofs are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from coalmine.audit.answer import LIMITS
from coalmine.cli import app
from coalmine.manifest import Trigger
from tests.audit.conftest import MODEL, World, make_world
from tests.audit.told import tell

TEXT = (Path(__file__).parents[2] / "docs/audit.md").read_text(encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path, monkeypatch)
    tell(world)
    return world


def test_each_command_answers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for = {"MODEL": MODEL, "NAME": "flights", "SHA": world.git("rev-parse", "HEAD"), "Sam Li": "Sam"}
    commands = re.findall(r"`coalmine audit([^`]*)`", TEXT.split("## Ten questions")[0])
    monkeypatch.chdir(world.top)
    for command in commands[1:]:  # the first is the program's name in the first sentence
        words = [stands_for.get(word, word) for word in shlex.split(command)]
        result = CliRunner().invoke(app, ["audit", *words])
        assert result.exit_code == 0, (command, result.exception)
    assert len(commands) == 11


def test_the_limits_are_those_that_every_answer_ends_with() -> None:
    listed = re.findall(r"^- (.+)$", TEXT.split("## What the record cannot know")[1], re.MULTILINE)
    assert tuple(listed) == LIMITS


def test_each_proof_is_explained() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", TEXT.split("## Who, and what proves it")[1], re.MULTILINE)
    assert set(listed) == set(get_args(Trigger.model_fields["proof"].annotation))
