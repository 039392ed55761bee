"""The commits behind a rollout: with links where the Git remote has pages, with `git show` where not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Commits:
    """Full hashes, None where there is none yet. remote: the Git remote's URL.

    code: what trained the model. release: where its manifest stands. ending: how the rollout ended.
    """

    code: str | None = None
    release: str | None = None
    ending: str | None = None
    remote: str = ""

    @property
    def pages(self) -> str | None:
        """What a commit's page begins with; None where the remote is a folder, or a service without pages."""
        found = re.fullmatch(
            r"(?:https?://(?:[^/@]*@)?|(?:ssh://)?git@)([\w.-]+)[:/](.+?)(?:\.git)?/?", self.remote
        )
        if found is None:
            return None
        host, path = found.groups()
        return f"https://{host}/{path}/commit/"


def commits(known: Commits) -> str:
    rows = (
        ("The code and data that made it", known.code),
        ("The release", known.release),
        ("How this rollout ended", known.ending),
    )
    items = [f"<dt>{escape(what)}</dt><dd>{_commit(sha, known.pages)}</dd>" for what, sha in rows if sha]
    if not items:
        return "<p>No commit yet.</p>"
    return f'<dl class="facts">{"".join(items)}</dl>'


def _commit(sha: str, pages: str | None) -> str:
    if pages is None:
        return f"<code>git show {escape(sha[:12])}</code>"
    return f'<a href="{escape(pages + sha)}">{escape(sha[:12])}</a>'
