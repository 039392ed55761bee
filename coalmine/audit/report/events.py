"""What happened, as a story; what it waits for, and what to type next."""

from __future__ import annotations

from html import escape

from coalmine.audit.report.words import time_of_day
from coalmine.audit.situation import Situation, next_steps, standing
from coalmine.audit.story import Story
from coalmine.rollout.events import Event, EventKind


def next_to_type(story: Story) -> str:
    stands = standing(story.events)
    waits = f'<p class="waits">{escape(_WAITS[stands.situation])}</p>' if stands.situation in _WAITS else ""
    steps = (
        f"<dt><code>{escape(step.command)}</code></dt><dd>{escape(step.effect)}</dd>"
        for step in next_steps(story.about, stands.situation)
    )
    return f'{waits}<dl class="steps">{"".join(steps)}</dl>'


_WAITS = {
    Situation.HELD: "It is held: nothing moves until what is said below is better, or a budget ends it.",
    Situation.PAUSED: "It is paused: the gates keep watching and may still roll back.",
    Situation.NEEDS_APPROVAL: "It waits for a person's word.",
}


def events(story: Story) -> str:
    items = (
        f'<li class="{_tone(event)}"><time>{time_of_day(event.at_s)}</time>'
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
        case EventKind.APPROVED:
            return "good"
        case EventKind.NEEDS_APPROVAL | EventKind.HELD | EventKind.PAUSED | EventKind.ASK_REFUSED:
            return "waiting"
        case _:
            return "plain"
