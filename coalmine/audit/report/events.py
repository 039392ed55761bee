"""What happened, as a story."""

from __future__ import annotations

from html import escape

from coalmine.audit.report.words import time_of_day
from coalmine.audit.story import Story
from coalmine.rollout.events import Event, EventKind


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
        case EventKind.HELD | EventKind.PAUSED | EventKind.ASK_REFUSED:
            return "waiting"
        case _:
            return "plain"
