"""`coalmine replay`: every decision of a rollout computed again, by its own plan and by another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from coalmine.audit.recorded import Difference, Recorded, Told, compute, find
from coalmine.errors import NotFound, SpecError
from coalmine.operations.workspace import Workspace
from coalmine.rollout.plan import Plan
from coalmine.rollout.what_if import WhatIf, what_if
from coalmine.rollout_spec import Rollout
from coalmine.spec import ModelSpec, parse_spec
from coalmine.strict import Spec
from coalmine.yaml_loader import YAML_LOADER


@dataclass(frozen=True)
class Replayed:
    """source: where the record was read. difference: the first one; None where all is equal."""

    rollout: str
    model: str
    source: str
    ticks: int
    events: int
    ended: str
    difference: Difference | None

    @property
    def is_equal(self) -> bool:
        return self.difference is None


@dataclass(frozen=True)
class Compared:
    """Another plan on the same record. note: what of it was left as recorded; "" where nothing was."""

    rollout: str
    plan: str
    recorded: tuple[Told, ...]
    other: WhatIf
    note: str


class _JustRollout(Spec):
    rollout: Rollout = Rollout()


def replay(workspace: Workspace, rollout: str) -> Replayed:
    """
    Raises:
        NotFound: nobody knows the rollout.
        InputError: it kept too little to be computed again.
        IntegrityError: the record cannot be read, or lacks ticks.
    """
    recorded = find(workspace.repository, rollout)
    return Replayed(
        recorded.rollout,
        recorded.model,
        recorded.source,
        len(recorded.lines),
        len(recorded.events),
        recorded.events[-1].sentence if recorded.events else "it has not begun",
        compute(recorded).difference,
    )


def with_plan(workspace: Workspace, rollout: str, file: Path) -> Compared:
    """
    file: a model.yaml, or a file with `rollout` alone.

    Raises:
        SpecError, NotFound: what is wrong with `file`.
        as `replay`.
    """
    recorded = find(workspace.repository, rollout)
    wanted = _rollout_of(file)
    other, note = _on_the_same_ticks(recorded, wanted)
    return Compared(rollout, str(file), recorded.events, what_if(recorded.plan, other, recorded.ticks), note)


def _on_the_same_ticks(recorded: Recorded, wanted: Rollout) -> tuple[Plan, str]:
    """`wanted` with what the record fixes: when it was looked, and what was known of bursts."""
    looked_s = recorded.plan.poll_s
    note = ""
    if wanted.poll_s != looked_s:
        note = f"It looks when the recorded rollout did, every {looked_s:g} s, not every {wanted.poll_s:g} s."
    # Validated anew: what holds for one `poll_s` need not for another.
    fixed = Plan(wanted).to_json()["rollout"] | {"poll_s": looked_s}
    return replace(recorded.plan, rollout=Rollout.model_validate(fixed)), note


def _rollout_of(file: Path) -> Rollout:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        hint = "Give a model.yaml, or a file with `rollout` alone."
        raise NotFound(f"{file} cannot be read: {error.strerror}. {hint}") from error
    try:
        content = yaml.load(text, Loader=YAML_LOADER)
    except yaml.YAMLError as error:
        raise SpecError(f"{file} is not YAML: {error}") from error
    if isinstance(content, dict) and set(content) == {"rollout"}:
        return parse_spec(_JustRollout, text, str(file)).rollout
    return parse_spec(ModelSpec, text, str(file)).rollout
