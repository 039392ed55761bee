"""Who or what asked, as the `Triggered-By` trailer of a commit says it, with its proof.

Law: `from_trailer(to_trailer(t)) == t`, but for line breaks in `who` and for `run` and `because`, which
the manifest and the rollout's record keep.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import ValidationError

from coalmine.manifest import Trigger

_TRAILER = re.compile(r"(?P<who>.*) \((?P<kind>\w+), (?P<proof>\w+)\)")


def to_trailer(trigger: Trigger) -> str:
    """`Sam Li <sam@example.com> (person, claimed)`."""
    who = " ".join(trigger.who.split())  # a line break would end the trailer
    return f"{who} ({trigger.kind}, {trigger.proof})"


def is_of(principals: str, who: str) -> bool:
    """Whether `principals`, as allowed_signers has them, name `who`, "Name <mail>", by mail or by name."""
    name, _, mail = who.rstrip(">").rpartition("<")
    return bool({mail.strip(), name.strip() or who} & set(principals.split(",")))


@lru_cache(maxsize=4096)  # a record names few people, many times
def from_trailer(text: str) -> Trigger | None:
    """None: not written by `to_trailer`."""
    match = _TRAILER.fullmatch(text)
    if match is None:
        return None
    try:
        return Trigger.model_validate(match.groupdict())
    except ValidationError:
        return None
