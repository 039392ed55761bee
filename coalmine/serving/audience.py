"""Who asked: gates compare what users asked, and what was copied to both releases, and nothing else.

A mirroring proxy sends copies to a port of their own (`--copies-port`); testers name their slot. Where a
server has one port, as behind the local Envoy, which counts copies itself, its users include them.
"""

from __future__ import annotations

from enum import StrEnum

from coalmine.rollout_spec import SLOT_HEADER
from coalmine.serving.http import Request
from coalmine.slots import Slot

_SLOTS = frozenset(slot.value for slot in Slot)


class Audience(StrEnum):
    USERS = "users"
    COPIES = "copies"  # of users' requests, whose answers nobody sees
    TESTERS = "testers"


def audience_of(request: Request) -> Audience:
    if request.headers.get(SLOT_HEADER) in _SLOTS:
        return Audience.TESTERS
    return Audience.COPIES if request.is_copy else Audience.USERS
