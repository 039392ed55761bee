"""One rollout as one HTML page that needs nothing else: no network, no script.

Read at three in the morning, on a telephone, by somebody who was woken: the head says what
happened, whether it is over, and how many requests were hurt; the evidence follows below.
Told from the journal and the release's manifest, so it also tells a rollout that still runs.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path

from coalmine.audit.report.answers import latency, scores
from coalmine.audit.report.commits import Commits, commits
from coalmine.audit.report.events import events, next_to_type
from coalmine.audit.report.exposure import requests_and_failures, weights
from coalmine.audit.report.gates import gates
from coalmine.audit.report.head import head
from coalmine.audit.report.pieces import section
from coalmine.audit.report.rates import rates
from coalmine.audit.report.release import released, who
from coalmine.audit.report.trust import trust
from coalmine.audit.story import Story, read_story
from coalmine.durable import replace_text
from coalmine.journals.journal import read_missing
from coalmine.manifest import Manifest

PAGE = "report.html"
# The browser, too, sees to it that nothing is fetched.
NONE_YET = Commits()
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(folder: Path, manifest: Manifest, known: Commits = NONE_YET) -> Path:
    """The page of the rollout in `folder`, written beside its journal. known: the commits behind it.

    Raises:
        NotFound: no rollout began in `folder`.
        MachineUnready: the disk is full.
    """
    page = folder / PAGE
    story = replace(read_story(folder), missing=tuple(read_missing(folder)))
    replace_text(page, render(story, manifest, known))
    return page


def render(story: Story, manifest: Manifest, known: Commits = NONE_YET) -> str:
    """The whole page. Pure: the same story and manifest give the same bytes."""
    about = story.about
    title = f"{about.model} {about.candidate} in {about.environment}"
    style = files("coalmine.audit.report").joinpath("page.css").read_text(encoding="utf-8")
    sections = (
        head(story),
        section("What to type next", next_to_type(story)),
        section("What happened", events(story)),
        _evidence(story),
        section("What was released", released(manifest)),
        section("Who", who(story, manifest)),
        section("Commits", commits(known)),
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
    users = requests_and_failures(story) + rates(story) if story.users_polls else "<p>Copies alone.</p>"
    return "".join(
        section(title, content)
        for title, content in (
            ("Who got the candidate, and when", weights(story)),
            ("Requests and failures", users),
            ("What the gates saw", gates(story)),
            ("How far to trust it", trust(story)),
            ("Answers that took longer than…", latency(story)),
            ("What the model answered", scores(story)),
        )
        if content
    )
