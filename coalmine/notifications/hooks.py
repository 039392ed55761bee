"""Who is told of what, as model.yaml's `rollout.notify` and coalmine.yaml's `watch.notify` say, and where the
addresses come from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from coalmine.errors import InputError
from coalmine.notifications.formats import Format
from coalmine.rollout_spec import NotifySpec
from coalmine.settings import WatchNotifySpec


@dataclass(frozen=True)
class Hook:
    """webhook: a URL, or $NAME for the environment variable that holds one: a secret stays out of Git.
    on: of which news it is told, by their names."""

    webhook: str
    format: Format
    on: frozenset[str]

    @classmethod
    def of(cls, spec: NotifySpec | WatchNotifySpec) -> Hook:
        return cls(spec.webhook, Format(spec.format), frozenset(spec.on))

    @property
    def id(self) -> str:
        """By which the journal knows what was sent to it; tells nothing of the address."""
        return hashlib.sha256(f"{self.format} {self.webhook}".encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """For logs and for `coalmine status`: the path of a webhook is its secret."""
        at = self.webhook if self.webhook.startswith("$") else urlsplit(self.webhook).hostname
        return f"{self.format} webhook {at}"

    def url(self, variables: Mapping[str, str] = os.environ) -> str:
        """
        Raises:
            InputError: the environment variable is not set, or holds no URL.
        """
        if not self.webhook.startswith("$"):
            return self.webhook
        name = self.webhook.removeprefix("$")
        url = variables.get(name, "")
        if not url.startswith(("http://", "https://")):
            what = "holds no URL" if url else "is not set"
            raise InputError(f"the environment variable {name} {what} where this runs")
        return url
