"""The head of the page: what happened, whether it is over, and how many requests were hurt."""

from __future__ import annotations

from html import escape
from typing import assert_never

from coalmine.audit.report.timeline import first_user_s
from coalmine.audit.report.words import moment, percent, requests, rounded, spell, time_of_day
from coalmine.audit.story import Course, Story
from coalmine.rollout.plan import StageKind

HEADLINES = {
    Course.RUNNING: ("running", "Still running"),
    Course.ENDING: ("running", "Decided, being recorded"),
    Course.PROMOTED: ("promoted", "Over: promoted"),
    Course.ROLLED_BACK: ("rolled-back", "Over: rolled back"),
}


def head(story: Story) -> str:
    about = story.about
    kind, headline = HEADLINES[story.course]
    ended = f" at {moment(story.events[-1].at_s)}" if story.course.is_over else ""
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
            return f"{_share(story)} Last heard of at {time_of_day(story.known_until_s or 0.0)} UTC."


def _share(story: Story) -> str:
    if not story.stages:
        return "No user is on the candidate yet."
    stage = story.stages[-1]
    match stage.kind:
        case StageKind.SHADOW | StageKind.PREVIEW:
            return f"{stage.label}: no user sees the candidate's answers yet."
        case StageKind.USERS:
            return f"{stage.label}: they are on the candidate."
        case StageKind.WEIGHT | StageKind.BAKE:
            return f"{stage.label}: {stage.weight_percent} % of the users are on the candidate."
        case other:
            assert_never(other)


def _figures(story: Story) -> str:
    candidate, stable = story.candidate, story.stable
    everything = candidate.requests + stable.requests
    if not everything:
        return ""
    figures = [
        (
            f"{candidate.failures:,}",
            requests(candidate.failures) + " failed on the candidate",
            _expected(story),
        ),
        (
            f"{candidate.requests:,}",
            requests(candidate.requests) + " sent to the candidate",
            f"{percent(candidate.requests / everything)} of {everything:,} in all",
        ),
        (spell(story.exposed_s), "with users on the candidate", f"first at {moment(first_user_s(story))}"),
    ]
    items = (
        f"<div><dt>{escape(label)}</dt><dd>{value}</dd><dd class=note>{escape(note)}</dd></div>"
        for value, label, note in figures
    )
    return f'<dl class="figures">{"".join(items)}</dl>'


def _expected(story: Story) -> str:
    rate = story.stable.failure_rate
    if rate is None:
        return "stable had no traffic to compare with"
    return f"at stable's rate it would be about {rounded(rate * story.candidate.requests)}"
