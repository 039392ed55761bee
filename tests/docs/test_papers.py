"""What the papers say about commands and files is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from coalmine import errors
from coalmine.cli import app
from coalmine.rollout.gates import errors as errors_gate
from coalmine.rollout.gates import latency, predictions, quality
from coalmine.rollout_spec import (
    AgreementSpec,
    ApprovalSpec,
    ErrorsSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    QuerySpec,
    Rollout,
    WebhookSpec,
)

TOP = Path(__file__).parents[2]
GATES = (
    ErrorsSpec,
    LatencySpec,
    PredictionsSpec,
    QualitySpec,
    AgreementSpec,
    QuerySpec,
    WebhookSpec,
    ApprovalSpec,
)
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
    rows = _keys()
    assert set(rows) == {*Rollout.model_fields, *(key for gate in GATES for key in gate.model_fields)} - {
        "gate"
    }
    for key, default in Rollout().model_dump(mode="json").items():
        shown = rows[key].replace("`", "")
        assert shown == (
            ", ".join(gate["gate"] for gate in default) if key == "gates" else _as_shown(default)
        )


def test_the_keys_of_the_gates_are_documented_with_their_defaults() -> None:
    rows = _keys()
    for gate in GATES:
        kind = gate.model_fields["gate"].default
        for key, field in gate.model_fields.items():
            if key in ("gate", "name", "dry_run"):
                continue
            default = "required" if field.is_required() else _as_shown(field.default)
            assert f"{kind} {default}" in rows[key].split(", "), (kind, key)


def test_the_gates_are_documented_with_their_constants() -> None:
    text = (TOP / "docs/gates.md").read_text(encoding="utf-8")
    for gate, spec in (
        (errors_gate, ErrorsSpec()),
        (latency, LatencySpec()),
        (predictions, PredictionsSpec()),
        (quality, QualitySpec()),
    ):
        row = next(line for line in text.splitlines() if line.startswith(f"| `{spec.gate}` |"))
        assert f"| {gate.ROLL_BACK.ratio:g} × stable + {gate.ROLL_BACK.delta:g} |" in row
        assert f"| {gate.PROMOTE_RATIO:g} × stable + {spec.margin:g}" in row


def _keys() -> dict[str, str]:
    text = _section("docs/gates.md", "The keys of `rollout` in model.yaml")
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE))


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
    if default in (None, [], ()):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)
