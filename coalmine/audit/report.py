"""One rollout as one HTML page that needs nothing else: no network, no script.

Read at three in the morning, on a telephone, by somebody who was woken: the head says what
happened, whether it is over, and how many requests were hurt; the evidence follows below.
Told from the journal and the release's manifest, so it also tells a rollout that still runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from coalmine.audit.charts import Band, Chart, Line, Point, Tick, count_ticks, draw, steps
from coalmine.audit.story import Course, StageStory, Story, Tally, exceedance, read_story
from coalmine.durable import replace_text
from coalmine.manifest import Comparison, Estimate, Manifest
from coalmine.rollout.events import Event, EventKind
from coalmine.rollout.gates.combine import LAST_PROMOTE_E, PROMOTE_E, ROLL_BACK_E, mean_log_e

PAGE = "report.html"
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'"  # the browser, too, sees to it that nothing is fetched
)

HEADLINES = {
    Course.RUNNING: ("running", "Still running"),
    Course.ENDING: ("running", "Decided, being recorded"),
    Course.PROMOTED: ("promoted", "Over: promoted"),
    Course.ROLLED_BACK: ("rolled-back", "Over: rolled back"),
}


def write_report(folder: Path, manifest: Manifest) -> Path:
    """The page of the rollout in `folder`, written beside its journal.

    Raises:
        NotFound: no rollout began in `folder`.
        MachineUnready: the disk is full.
    """
    page = folder / PAGE
    replace_text(page, render(read_story(folder), manifest))
    return page


def render(story: Story, manifest: Manifest) -> str:
    """The whole page. Pure: the same story and manifest give the same bytes."""
    about = story.about
    title = f"{about.model} {about.candidate} in {about.environment}"
    style = files("coalmine.audit").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _head(story),
        _evidence(story),
        _section("What happened", _events(story)),
        _section("What was released", _manifest(manifest)),
        _section("Who", _who(story, manifest)),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}: {story.course}</title><style>{style}</style></head>\n"
        f"<body><main>{''.join(sections)}"
        f"<footer>Rollout {escape(about.id)}. Times are UTC.</footer></main></body></html>\n"
    )


# --- the head --------------------------------------------------------------------------


def _head(story: Story) -> str:
    about = story.about
    kind, headline = HEADLINES[story.course]
    ended = f" at {_moment(story.events[-1].at_s)}" if story.course.is_over else ""
    return (
        f'<header class="{kind}"><p class="course">{headline}{ended}</p>'
        f"<h1>{escape(about.model)} <b>{escape(about.candidate)}</b> "
        f'<span class="where">in {escape(about.environment)}</span></h1>'
        f'<p class="sentence">{escape(sentence(story))}</p>'
        f"{_figures(story)}</header>"
    )


def sentence(story: Story) -> str:
    """What happened, in one or two sentences for people."""
    about = story.about
    back_on = "Nobody is served" if about.stable is None else f"Everybody is on {about.stable}"
    why = f" Why: {story.reason.rstrip('.')}." if story.reason else ""
    match story.course:
        case Course.PROMOTED:
            return f"Everybody is on {about.candidate}.{why}"
        case Course.ROLLED_BACK:
            return f"{back_on} again; {about.candidate} was turned away.{why}"
        case Course.ENDING if story.weight_percent == 0:
            return f"{back_on} again; {about.candidate} is being turned away.{why}"
        case Course.ENDING:
            return f"Everybody is on {about.candidate}; its promotion is being recorded.{why}"
        case Course.RUNNING if not story.events:
            return "It has not started yet."
        case Course.RUNNING:
            return f"{_share(story)} Last heard of at {_time(story.known_until_s or 0.0)} UTC."


def _share(story: Story) -> str:
    if story.weight_percent == 0:
        return "No user is on the candidate yet."
    stage = story.stages[-1].label if story.stages else "Before the first stage"
    return f"{stage}: {story.weight_percent} % of the users are on the candidate."


def _figures(story: Story) -> str:
    candidate, stable = story.candidate, story.stable
    everything = candidate.requests + stable.requests
    if not everything:
        return ""
    figures = [
        (
            f"{candidate.failures:,}",
            _requests(candidate.failures) + " failed on the candidate",
            _expected(story),
        ),
        (
            f"{candidate.requests:,}",
            _requests(candidate.requests) + " sent to the candidate",
            f"{_percent(candidate.requests / everything)} of {everything:,} in all",
        ),
        (_spell(story.exposed_s), "with users on the candidate", f"first at {_moment(_first_user_s(story))}"),
    ]
    items = (
        f"<div><dt>{escape(label)}</dt><dd>{value}</dd><dd class=note>{escape(note)}</dd></div>"
        for value, label, note in figures
    )
    return f'<dl class="figures">{"".join(items)}</dl>'


def _requests(count: int) -> str:
    return "request" if count == 1 else "requests"


def _expected(story: Story) -> str:
    rate = story.stable.failure_rate
    if rate is None:
        return "stable had no traffic to compare with"
    return f"at stable's rate it would be about {_round(rate * story.candidate.requests)}"


def _round(count: float) -> str:
    return f"{count:.1f}" if 0 < count < 9.95 else f"{count:,.0f}"


# --- the evidence ----------------------------------------------------------------------


def _evidence(story: Story) -> str:
    if not story.polls:
        return _section("Evidence", "<p>No user's request was measured on the candidate.</p>")
    return (
        _section("Who got the candidate, and when", _weights(story))
        + _section("Requests and failures", _failures(story))
        + _section("What the gates saw", _gates(story))
        + _section("Answers that took longer than…", _latency(story))
    )


def _weights(story: Story) -> str:
    points = [(_since(story, event.at_s), float(event.weight_percent)) for event in story.events]
    line = Line("candidate", "candidate's share of the users", steps(points, _end(story)), area=True)
    ticks = [Tick(0, "0 %"), Tick(50, "50 %"), Tick(100, "100 %")]
    bands = _bands(story)
    return draw(Chart("Weight", [line], _end(story), 0, 104, ticks, bands))


def _failures(story: Story) -> str:
    failed, expected, sent = _cumulative(story)
    most = max(failed[-1][1], expected[-1][1], 1.0)
    charts = (
        Chart(
            "Failed, summed up",
            [
                Line("candidate", "failed", failed, area=True),
                Line("stable", "at stable's rate", expected),
            ],
            _end(story),
            0,
            most * 1.08,
            count_ticks(most),
            _bands(story, named=False),
        ),
        Chart(
            "Sent to the candidate, summed up",
            [Line("candidate", "sent", sent, area=True)],
            _end(story),
            0,
            max(sent[-1][1], 1.0) * 1.08,
            count_ticks(sent[-1][1]),
            _bands(story, named=False),
        ),
    )
    return f'<div class="pair">{"".join(map(draw, charts))}</div>{_stage_table(story)}'


def _cumulative(story: Story) -> tuple[list[Point], list[Point], list[Point]]:
    """The candidate's failures, those that stable's rate so far would have given, and its requests."""
    start = (_since(story, _first_user_s(story)), 0.0)
    failed, expected, sent = [start], [start], [start]
    candidate, stable = Tally(0, 0), Tally(0, 0)
    for poll in story.polls:
        candidate = Tally(
            candidate.requests + poll.candidate.requests, candidate.failures + poll.candidate.failures
        )
        stable = Tally(stable.requests + poll.stable.requests, stable.failures + poll.stable.failures)
        at = _since(story, poll.at_s)
        failed.append((at, candidate.failures))
        sent.append((at, candidate.requests))
        expected.append((at, (stable.failure_rate or 0.0) * candidate.requests))
    return failed, expected, sent


def _stage_table(story: Story) -> str:
    rows = [
        (
            stage.label,
            f"{stage.weight_percent} %",
            _spell(stage.seconds),
            _failed(stage.candidate),
            _failed(stage.stable),
        )
        for stage in story.stages
    ]
    total = ("In all", "", _spell(story.exposed_s), _failed(story.candidate), _failed(story.stable))
    return _table(
        ("", "Weight", "Time", "Failed on candidate", "Failed on stable"), [*rows, total], last_is_total=True
    )


def _failed(tally: Tally) -> str:
    if tally.failure_rate is None:
        return "no requests"
    return f"{tally.failures:,} of {tally.requests:,} ({_percent(tally.failure_rate)})"


# --- gates -----------------------------------------------------------------------------


def _gates(story: Story) -> str:
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
    lines.append(_bound("roll-back", ROLL_BACK_E, _end(story)))
    ticks = [
        Tick(math.log(e), label) for e, label in ((0.01, "1:100"), (1, "1:1"), (20, "20:1"), (100, "100:1"))
    ]
    title = "All gates together" if gate is None else f"Gate “{gate}”"
    chart = draw(
        Chart(title, lines, _end(story), math.log(0.008), math.log(1500), ticks, _bands(story, named=False))
    )
    said = "" if gate is None else f'<p class="said">{escape(_last_words(story, gate))}</p>'
    return f"<div>{chart}{said}</div>"


def _roll_back_points(story: Story, gate: str | None) -> list[Point]:
    points = [(_since(story, _first_user_s(story)), 0.0)]
    for poll in story.polls:
        readings = [r for r in poll.gates if gate in (None, r.gate) and not math.isnan(r.log_e_roll_back)]
        if readings:
            points.append((_since(story, poll.at_s), mean_log_e(readings)))
    return points


def _promote_lines(story: Story, gate: str) -> list[Line]:
    """One line per stage, each from nothing, and the bound that it had to reach."""
    proofs, bounds = [], []
    for index, stage in enumerate(stage for stage in story.stages if stage.label != "Bake"):
        polls = [poll for poll in story.polls if poll.stage == index]
        start, end = _since(story, stage.started_at_s), _since(story, stage.ended_at_s)
        readings = [(poll.at_s, r.log_e_promote) for poll in polls for r in poll.gates if r.gate == gate]
        points = [(_since(story, at_s), log_e) for at_s, log_e in readings if not math.isnan(log_e)]
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


def _latency(story: Story) -> str:
    candidate = exceedance(story, lambda poll: poll.candidate)
    stable = exceedance(story, lambda poll: poll.stable)
    rows = []
    for bound, (over, of) in candidate.items():
        stable_over, stable_of = stable.get(bound, (0, 0))
        if of and 0 < over + stable_over < of + stable_of:
            rows.append((_duration(bound), _longer(over, of), _longer(stable_over, stable_of)))
    if not rows:
        return "<p>No durations were measured.</p>"
    return _table(("Longer than", "Candidate", "Stable"), rows)


def _longer(over: int, of: int) -> str:
    return f"{_percent(over / of)} ({over:,})" if of else "no requests"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


# --- what happened ---------------------------------------------------------------------


def _events(story: Story) -> str:
    items = (
        f'<li class="{_tone(event)}"><time>{_time(event.at_s)}</time>'
        f'<span class="weight">{event.weight_percent} %</span><p>{escape(event.sentence)}</p></li>'
        for event in story.events
    )
    return f'<ol class="events">{"".join(items)}</ol>'


def _tone(event: Event) -> str:
    match event.kind:
        case EventKind.ROLLING_BACK | EventKind.ROLLED_BACK:
            return "bad"
        case EventKind.PROMOTING | EventKind.PROMOTED:
            return "good"
        case EventKind.HELD | EventKind.PAUSED | EventKind.ASK_REFUSED:
            return "waiting"
        case _:
            return "plain"


# --- what was released, and by whom ----------------------------------------------------


def _manifest(manifest: Manifest) -> str:
    data, decision = manifest.dataset, manifest.decision
    facts = [
        ("Version", f"{manifest.version}, after {manifest.parent or 'nothing: the first release'}"),
        ("Dataset", f"{data.name} {data.md5}"),
        ("Trained on", f"{_span(data.train)} ({data.train_rows:,} rows)"),
        ("Tested on", f"{_span(data.test)} ({data.test_rows:,} rows)"),
        *(
            (f"Lookup by {', '.join(table.key)}", f"{table.dataset} {table.md5}")
            for table in manifest.lookups
        ),
        ("Estimator", str(manifest.estimator.get("class", ""))),
        ("Code", manifest.code),
        ("Digest", manifest.digest),
        ("Built with", ", ".join(f"{name} {version}" for name, version in manifest.environment.items())),
    ]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in decision.reasons)
    return (
        f"{_facts(facts)}<h3>Why it was released</h3><ul>{reasons}</ul>"
        f"{_metrics(decision.metrics, decision.champion_metrics, decision.champion)}"
        f"{_comparisons(decision.comparisons)}"
    )


def _span(partitions: Sequence[str]) -> str:
    if not partitions:
        return "the whole file"
    return partitions[0] if len(partitions) == 1 else f"{partitions[0]} to {partitions[-1]}"


def _metrics(challenger: dict[str, Estimate], champion: dict[str, Estimate], version: str | None) -> str:
    if not challenger:
        return ""
    rows = [
        (name, _estimate(estimate), _estimate(champion[name]) if name in champion else "")
        for name, estimate in challenger.items()
    ]
    return _table(("Metric", "This release", f"Champion {version or ''}"), rows)


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    rows = [
        (
            f"{c.metric}, {c.slice or 'all rows'}",
            f"{c.rows:,}",
            _estimate(c.gain),
            "not judged"
            if c.required_gain is None
            else f"{'passed' if c.passed else 'failed'} (over {c.required_gain:g})",
        )
        for c in comparisons
    ]
    return _table(("Against the champion", "Rows", "Gain", "Required"), rows)


def _who(story: Story, manifest: Manifest) -> str:
    delivery, release = story.about.triggered_by, manifest.trigger
    return _facts(
        [
            ("Rollout started by", f"{delivery.who} ({delivery.kind}; proof: {delivery.proof})"),
            ("Released by", f"{release.who} ({release.kind}; proof: {release.proof})"),
            ("Released at", manifest.created),
            ("Prefect flow run", delivery.run or release.run or "none"),
        ]
    )


# --- pieces ----------------------------------------------------------------------------


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<dl class="facts">{"".join(items)}</dl>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, last_is_total: bool = False) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = []
    for number, row in enumerate(rows, 1):
        kind = ' class="total"' if last_is_total and number == len(rows) else ""
        cells = f"<th>{escape(row[0])}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        lines.append(f"<tr{kind}>{cells}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="table"><table>{body}</table></div>'


def _bands(story: Story, *, named: bool = True) -> list[Band]:
    return [
        Band(
            _since(story, stage.started_at_s),
            _since(story, stage.ended_at_s),
            _band_name(stage) if named else "",
        )
        for stage in story.stages
    ]


def _band_name(stage: StageStory) -> str:
    return "bake" if stage.label == "Bake" else f"{stage.weight_percent} %"


def _first_user_s(story: Story) -> float:
    """When the first users were sent to the candidate; there are polls, so there were some."""
    return story.stages[0].started_at_s


def _since(story: Story, at_s: float) -> float:
    return at_s - (story.started_at_s or at_s)


def _end(story: Story) -> float:
    return _since(story, story.known_until_s or 0.0)


def _percent(share: float) -> str:
    """Two digits that matter, never "0 %" for what did happen, and no line break inside."""
    if share == 0:
        return "0\N{NO-BREAK SPACE}%"
    digits = f"{share * 100:.1f}" if share >= 0.0995 else f"{share * 100:#.2g}"
    return f"{digits}\N{NO-BREAK SPACE}%"


def _spell(seconds: float) -> str:
    """40 s, 1 min 22 s, 3 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S}"


def _moment(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S UTC on %-d %B %Y}"
