"""What each gate saw: its evidence against the bounds that decide, its looks where it asks the world."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from coalmine.audit.charts import Chart, Line, Point, Tick, draw, value_ticks
from coalmine.audit.report.timeline import bands, end, since
from coalmine.audit.story import Story
from coalmine.rollout.events import EventKind
from coalmine.rollout.gates import GateReading, Verdict
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E, mean_log_e
from coalmine.rollout.plan import StageKind
from coalmine.rollout_spec import QuerySpec, gate_name

_TICKS = [
    Tick(math.log(e), label) for e, label in ((0.01, "1:100"), (1, "1:1"), (20, "20:1"), (100, "100:1"))
]
_FLOOR, _CEILING = math.log(0.008), math.log(1500)

_VERDICTS = {
    Verdict.PASS: ("good", "passed"),
    Verdict.FAIL: ("bad", "failed"),
    Verdict.INCONCLUSIVE: ("waiting", "undecided"),
    Verdict.ERROR: ("waiting", "could not measure"),
}


def gates(story: Story) -> str:
    readings = [reading for poll in story.polls for reading in poll.gates]
    # What a gate said when it was last asked: in a stage that does not ask it, it has nothing to decide.
    newest = {r.gate: r for r in readings} | {r.gate: r for r in readings if r.asked}
    evidence = [reading for reading in newest.values() if reading.by_evidence]
    checks = [reading for reading in newest.values() if not reading.by_evidence]
    words = (
        "The scale is odds against chance, valid whenever one looks. The users go back when the weighted "
        f"average of the gates says {ROLL_BACK_E:g} to 1 that the candidate is worse. A stage is passed "
        f"when every gate says {PROMOTE_E:g} to 1 ({LAST_PROMOTE_E:g} to 1 in the last stage) that it is "
        "not worse by more than the stage's margin; each stage collects that proof anew. What lies "
        "beyond the edge is drawn at the edge."
    )
    deciding = [reading for reading in evidence if not reading.dry_run]
    together = [_together(story)] if len(deciding) > 1 else []
    drawn = [
        *together,
        *(_by_evidence(story, gate) for gate in evidence),
        *(_check(story, g) for g in checks),
    ]
    explained = f'<p class="words">{words}</p>' if evidence else ""
    return f'{explained}<div class="pair">{"".join(drawn)}</div>{_approvals(story)}'


def _together(story: Story) -> str:
    """The average over the gates, which is what rolls back."""
    points = [_nothing_yet(story)]
    for poll in story.polls:
        readings = [r for r in poll.gates if _counts(r) and not r.dry_run]
        if readings:
            points.append((since(story, poll.at_s), mean_log_e(readings)))
    return f"<div>{_evidence_chart(story, 'All gates together', [Line('roll-back', 'worse', points)])}</div>"


def _by_evidence(story: Story, gate: GateReading) -> str:
    readings = [
        (since(story, poll.at_s), r) for poll in story.polls for r in poll.gates if r.gate == gate.gate
    ]
    worse = [(at, reading.log_e_roll_back) for at, reading in readings if _counts(reading)]
    lines = [
        Line("roll-back", "worse", [_nothing_yet(story), *worse]),
        *_promote_lines(story, gate.gate),
    ]
    return f"<div>{_evidence_chart(story, _title(gate), lines)}{_said(gate)}</div>"


def _nothing_yet(story: Story) -> Point:
    """Where evidence begins: even odds, before anything is measured."""
    return since(story, story.stages[0].started_at_s), 0.0


def _evidence_chart(story: Story, title: str, lines: list[Line]) -> str:
    level = math.log(ROLL_BACK_E)
    bound = Line("roll-back bound", "", [(0.0, level), (end(story), level)], in_legend=False)
    shaded = bands(story, named=False)
    return draw(Chart(title, [*lines, bound], end(story), _FLOOR, _CEILING, _TICKS, shaded))


def _promote_lines(story: Story, gate: str) -> list[Line]:
    """One line per stage, each from nothing, and the bound that it had to reach."""
    proofs: list[Line] = []
    bounds: list[Line] = []
    for index, stage in enumerate(stage for stage in story.stages if stage.kind is not StageKind.BAKE):
        polls = [poll for poll in story.polls if poll.stage == index]
        start, stop = since(story, stage.started_at_s), since(story, stage.ended_at_s)
        readings = [(poll.at_s, r) for poll in polls for r in poll.gates if r.gate == gate and r.asked]
        if not readings:
            continue
        points = [
            (since(story, at_s), r.log_e_promote) for at_s, r in readings if not math.isnan(r.log_e_promote)
        ]
        proofs.append(Line("promote", "not worse", [(start, 0.0), *points], in_legend=not proofs))
        level = math.log(LAST_PROMOTE_E if _is_last(story, index) else PROMOTE_E)
        bounds.append(Line("promote bound", "", [(start, level), (stop, level)], in_legend=False))
    return [*proofs, *bounds]


def _is_last(story: Story, stage: int) -> bool:
    return stage == len(story.about.stages) - 1 if story.plan is None else story.plan.is_last(stage)


def _check(story: Story, gate: GateReading) -> str:
    """A gate that asks the world: what it answered over time, against the bounds where it has some."""
    points = [
        (since(story, poll.at_s), reading.candidate)
        for poll in story.polls
        for reading in poll.gates
        if reading.gate == gate.gate and reading.candidate is not None
    ]
    if not points:
        return f"<div><h3>{escape(_title(gate))}</h3>{_said(gate)}</div>"
    return f"<div>{_value_chart(story, gate, points)}{_said(gate)}</div>"


def _value_chart(story: Story, gate: GateReading, points: list[Point]) -> str:
    levels = list(_bounds(story, gate.gate))
    values = [value for _, value in points] + levels
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.08 * (high - low or 1.0)
    lines = [
        Line("candidate", "candidate", points),
        *(Line("roll-back bound", "", [(0.0, y), (end(story), y)], in_legend=False) for y in levels),
    ]
    shaded, ticks = bands(story, named=False), value_ticks(low, high)
    return draw(Chart(_title(gate), lines, end(story), low - air, high + air, ticks, shaded))


def _bounds(story: Story, gate: str) -> Iterator[float]:
    for spec in () if story.plan is None else story.plan.gates:
        if isinstance(spec, QuerySpec) and gate_name(spec) == gate:
            yield from (bound for bound in (spec.at_most, spec.at_least) if bound is not None)


def _title(gate: GateReading) -> str:
    return f"Gate “{gate.gate}”" + (", a dry run: it decides nothing" if gate.dry_run else "")


def _said(gate: GateReading) -> str:
    """Its last words, and what follows from them for it alone."""
    if gate.verdict is None:
        return f'<p class="said">{escape(gate.sentence)}</p>'
    tone, verdict = _VERDICTS[gate.verdict]
    return f'<p class="said"><b class="{tone}">{verdict}</b> {escape(gate.sentence)}</p>'


def _approvals(story: Story) -> str:
    told = (EventKind.NEEDS_APPROVAL, EventKind.APPROVED)
    items = [f"<li>{escape(event.sentence)}</li>" for event in story.events if event.kind in told]
    return f"<h3>Approvals</h3><ul>{''.join(items)}</ul>" if items else ""


def _counts(reading: GateReading) -> bool:
    return reading.by_evidence and not math.isnan(reading.log_e_roll_back)
