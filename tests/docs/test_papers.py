"""What the papers say about commands and files is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from coalmine import errors
from coalmine.cli import app
from coalmine.rollout import plan
from coalmine.rollout.gates import errors as errors_gate
from coalmine.rollout.gates import latency
from coalmine.spec import GateSpec, Rollout

TOP = Path(__file__).parents[2]
PAPERS = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md"), *(TOP / "k8s").rglob("*.md")])


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(TOP)))
def test_every_link_leads_to_a_file(paper: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", paper.read_text(encoding="utf-8"))
    assert [each for each in targets if "://" not in each and not (paper.parent / each).exists()] == []


def test_the_readme_lists_the_commands_as_the_help_does() -> None:
    table = re.findall(r"^\| `([a-z ]+)` \| (.+) \|$", _section("README.md", "Commands"), re.MULTILINE)
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    assert table == _commands(top)


@pytest.mark.parametrize("paper", ["README.md", "docs/operations.md"])
def test_the_exit_codes_are_those_of_the_errors(paper: str) -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", (TOP / paper).read_text(), re.MULTILINE)}
    raised = {
        each.exit_code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.CoalmineError)
    }
    unexpected = {errors.CoalmineError.exit_code}
    assert documented | unexpected == raised | {0, 1}


def test_the_keys_of_a_rollout_are_documented_with_their_defaults() -> None:
    text = _section("docs/gates.md", "The keys of `rollout` in model.yaml")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))
    assert set(rows) == {*Rollout.model_fields, *GateSpec.model_fields} - {"gate"}
    for key, default in Rollout().model_dump(mode="json").items():
        shown = rows[key].replace("`", "")
        assert shown == (
            ", ".join(gate["gate"] for gate in default) if key == "gates" else _as_shown(default)
        )


def test_the_gates_are_documented_with_their_constants() -> None:
    text = (TOP / "docs/gates.md").read_text(encoding="utf-8")
    for name, gate, margin in (
        ("errors", errors_gate, plan.ERRORS_MARGIN),
        ("latency", latency, plan.LATENCY_MARGINS[-1]),
    ):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"{gate.ROLL_BACK.ratio:g} × stable + {gate.ROLL_BACK.delta:g} " in row
        assert f"{gate.PROMOTE_RATIO:g} × stable + {margin:g} " in row
        assert re.search(rf"^\| `margin` \| .*{name} {margin:g}\b", text, re.MULTILINE)


def _section(paper: str, heading: str) -> str:
    text = (TOP / paper).read_text(encoding="utf-8")
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def _commands(group: TyperGroup, before: str = "") -> list[tuple[str, str]]:
    rows = []
    for verb, command in group.commands.items():
        if isinstance(command, TyperGroup):
            rows += _commands(command, f"{before}{verb} ")
        else:
            rows.append((f"{before}{verb}", command.get_short_help_str(limit=1000).rstrip(".")))
    return rows


def _as_shown(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
