from __future__ import annotations

import pytest

from coalmine.audit.attribution import from_trailer, to_trailer
from coalmine.manifest import Trigger


@pytest.mark.parametrize(
    "trigger",
    [
        Trigger(kind="person", who="Sam Li <sam@example.com>", proof="signature"),
        Trigger(kind="schedule", who="nightly (UTC)", proof="claimed"),
        Trigger(kind="automation", who="", proof="unknown"),
    ],
    ids=["signed", "brackets in the name", "nameless"],
)
def test_who_and_proof_come_back_from_the_trailer(trigger: Trigger) -> None:
    assert from_trailer(to_trailer(trigger)) == trigger


def test_a_line_break_in_a_name_cannot_forge_a_trailer() -> None:
    assert "\n" not in to_trailer(Trigger(kind="person", who="Sam\nDecision: promoted"))


@pytest.mark.parametrize("text", ["", "Sam", "Sam (king, claimed)"], ids=["empty", "bare", "unknown kind"])
def test_what_coalmine_did_not_write_is_nobody(text: str) -> None:
    assert from_trailer(text) is None
