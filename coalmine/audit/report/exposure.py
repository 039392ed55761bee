"""Who got the candidate and when; what they asked, and what of it failed."""

from __future__ import annotations

from coalmine.audit.charts import Chart, Line, Point, Tick, count_ticks, draw, steps
from coalmine.audit.report.pieces import table
from coalmine.audit.report.timeline import bands, end, first_user_s, since
from coalmine.audit.report.words import percent, spell
from coalmine.audit.story import StageStory, Story, Tally
from coalmine.rollout.plan import StageKind


def weights(story: Story) -> str:
    points = [(since(story, event.at_s), float(event.weight_percent)) for event in story.events]
    line = Line("candidate", "candidate's share of the users", steps(points, end(story)), area=True)
    ticks = [Tick(0, "0 %"), Tick(50, "50 %"), Tick(100, "100 %")]
    measured = [Line("stable", "measured", _measured_share(story))] if _is_chosen(story) else []
    return draw(Chart("Weight", [line, *measured], end(story), 0, 104, ticks, bands(story)))


def _is_chosen(story: Story) -> bool:
    """Whether a header or cookie decides who gets the candidate, so that no weight says how many do."""
    return any(stage.kind is StageKind.USERS for stage in story.stages)


def _measured_share(story: Story) -> list[Point]:
    """The candidate's share of the users' requests, in percent, poll by poll."""
    return [
        (since(story, poll.at_s), 100 * poll.candidate.requests / both)
        for poll in story.users_polls
        if (both := poll.candidate.requests + poll.stable.requests)
    ]


def requests_and_failures(story: Story) -> str:
    failed, expected, sent = _cumulative(story)
    most = max(failed[-1][1], expected[-1][1], 1.0)
    charts = (
        Chart(
            "Failed, summed up",
            [
                Line("candidate", "failed", failed, area=True),
                Line("stable", "at stable's rate", expected),
            ],
            end(story),
            0,
            most * 1.08,
            count_ticks(most),
            bands(story, named=False),
        ),
        Chart(
            "Sent to the candidate, summed up",
            [Line("candidate", "sent", sent, area=True)],
            end(story),
            0,
            max(sent[-1][1], 1.0) * 1.08,
            count_ticks(sent[-1][1]),
            bands(story, named=False),
        ),
    )
    return f'<div class="pair">{"".join(map(draw, charts))}</div>{_stage_table(story)}'


def _cumulative(story: Story) -> tuple[list[Point], list[Point], list[Point]]:
    """The candidate's failures, those that stable's rate so far would have given, and its requests."""
    start = (since(story, first_user_s(story)), 0.0)
    failed, expected, sent = [start], [start], [start]
    candidate, stable = Tally(0, 0), Tally(0, 0)
    for poll in story.users_polls:
        candidate = Tally(
            candidate.requests + poll.candidate.requests, candidate.failures + poll.candidate.failures
        )
        stable = Tally(stable.requests + poll.stable.requests, stable.failures + poll.stable.failures)
        at = since(story, poll.at_s)
        failed.append((at, candidate.failures))
        sent.append((at, candidate.requests))
        expected.append((at, (stable.failure_rate or 0.0) * candidate.requests))
    return failed, expected, sent


def _stage_table(story: Story) -> str:
    rows = [
        (
            f"{stage.label} (copies)" if stage.kind is StageKind.SHADOW else stage.label,
            _weight(stage),
            spell(stage.seconds),
            _failed(stage.candidate),
            _failed(stage.stable),
        )
        for stage in story.stages
    ]
    total = ("In all", "", spell(story.exposed_s), _failed(story.candidate), _failed(story.stable))
    return table(
        ("", "Weight", "Time", "Failed on candidate", "Failed on stable"),
        [*rows, total],
        last_is_total=True,
        kind="stages",
    )


def _weight(stage: StageStory) -> str:
    """The candidate's share: as it was set, or, where that is not by weight, as it was measured."""
    both = stage.candidate.requests + stage.stable.requests
    if stage.kind is StageKind.USERS and both:
        return f"{percent(stage.candidate.requests / both)} measured"
    return f"{stage.weight_percent} %"


def _failed(tally: Tally) -> str:
    if tally.failure_rate is None:
        return "no requests"
    return f"{tally.failures:,} of {tally.requests:,} ({percent(tally.failure_rate)})"
