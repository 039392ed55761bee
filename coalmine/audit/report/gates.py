"""What each gate saw: its evidence against the bounds that decide."""

from __future__ import annotations

import math
from html import escape

from coalmine.audit.charts import Chart, Line, Point, Tick, draw
from coalmine.audit.report.timeline import bands, end, first_user_s, since
from coalmine.audit.story import Story
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E, mean_log_e


def gates(story: Story) -> str:
    names = list(dict.fromkeys(gate.gate for poll in story.polls for gate in poll.gates))
    words = (
        "The scale is odds against chance, valid whenever one looks. The users go back when the average over "
        f"the gates says {ROLL_BACK_E:g} to 1 that the candidate is worse. A stage is passed when every gate "
        f"says {PROMOTE_E:g} to 1 ({LAST_PROMOTE_E:g} to 1 in the last stage) that it is not worse by more "
        "than the stage's margin; each stage collects that proof anew. What lies beyond the edge is drawn at "
        "the edge."
    )
    together = [_gate(story, None)] if len(names) > 1 else []
    charts = [*together, *(_gate(story, name) for name in names)]
    return f'<p class="words">{words}</p><div class="pair">{"".join(charts)}</div>'


def _gate(story: Story, gate: str | None) -> str:
    """One gate's evidence against its bounds; None: the average, which is what rolls back."""
    lines = [Line("roll-back", "worse", _roll_back_points(story, gate))]
    if gate is not None:
        lines += _promote_lines(story, gate)
    lines.append(_bound("roll-back", ROLL_BACK_E, end(story)))
    ticks = [
        Tick(math.log(e), label) for e, label in ((0.01, "1:100"), (1, "1:1"), (20, "20:1"), (100, "100:1"))
    ]
    title = "All gates together" if gate is None else f"Gate “{gate}”"
    chart = draw(
        Chart(title, lines, end(story), math.log(0.008), math.log(1500), ticks, bands(story, named=False))
    )
    said = "" if gate is None else f'<p class="said">{escape(_last_words(story, gate))}</p>'
    return f"<div>{chart}{said}</div>"


def _roll_back_points(story: Story, gate: str | None) -> list[Point]:
    points = [(since(story, first_user_s(story)), 0.0)]
    for poll in story.polls:
        readings = [r for r in poll.gates if gate in (None, r.gate) and not math.isnan(r.log_e_roll_back)]
        if readings:
            points.append((since(story, poll.at_s), mean_log_e(readings)))
    return points


def _promote_lines(story: Story, gate: str) -> list[Line]:
    """One line per stage, each from nothing, and the bound that it had to reach."""
    proofs, bounds = [], []
    for index, stage in enumerate(stage for stage in story.stages if stage.label != "Bake"):
        polls = [poll for poll in story.polls if poll.stage == index]
        start, end = since(story, stage.started_at_s), since(story, stage.ended_at_s)
        readings = [(poll.at_s, r.log_e_promote) for poll in polls for r in poll.gates if r.gate == gate]
        points = [(since(story, at_s), log_e) for at_s, log_e in readings if not math.isnan(log_e)]
        proofs.append(Line("promote", "not worse", [(start, 0.0), *points], in_legend=index == 0))
        bound = LAST_PROMOTE_E if index == len(story.about.stages) - 1 else PROMOTE_E
        level = math.log(bound)
        bounds.append(Line("promote bound", "", [(start, level), (end, level)], in_legend=False))
    return [*proofs, *bounds]


def _bound(kind: str, e_value: float, end_s: float) -> Line:
    level = math.log(e_value)
    return Line(f"{kind} bound", "", [(0.0, level), (end_s, level)], in_legend=False)


def _last_words(story: Story, gate: str) -> str:
    said = [reading.sentence for poll in story.polls for reading in poll.gates if reading.gate == gate]
    return said[-1]
