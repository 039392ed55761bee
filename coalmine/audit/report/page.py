"""One rollout as one HTML page that needs nothing else: no network, no script.

Read at three in the morning, on a telephone, by somebody who was woken: the head says what
happened, whether it is over, and how many requests were hurt; the evidence follows below.
Told from the journal and the release's manifest, so it also tells a rollout that still runs.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import Path

from coalmine.audit.report.answers import latency
from coalmine.audit.report.events import events
from coalmine.audit.report.exposure import requests_and_failures, weights
from coalmine.audit.report.gates import gates
from coalmine.audit.report.head import head
from coalmine.audit.report.pieces import section
from coalmine.audit.report.release import released, who
from coalmine.audit.story import Story, read_story
from coalmine.durable import replace_text
from coalmine.manifest import Manifest

PAGE = "report.html"
# The browser, too, sees to it that nothing is fetched.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


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
    style = files("coalmine.audit.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = (
        head(story),
        _evidence(story),
        section("What happened", events(story)),
        section("What was released", released(manifest)),
        section("Who", who(story, manifest)),
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


def _evidence(story: Story) -> str:
    if not story.polls:
        return section("Evidence", "<p>No user's request was measured on the candidate.</p>")
    return (
        section("Who got the candidate, and when", weights(story))
        + section("Requests and failures", requests_and_failures(story))
        + section("What the gates saw", gates(story))
        + section("Answers that took longer than…", latency(story))
    )
