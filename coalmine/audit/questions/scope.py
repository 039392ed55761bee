"""Which models and environments a question is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coalmine.audit.deeds import Deed
from coalmine.audit.ledger import Ledger
from coalmine.audit.slots_history import Place


@dataclass(frozen=True)
class Scope:
    """None: every one."""

    model: str | None = None
    environment: str | None = None

    def places(self, ledger: Ledger) -> list[Place]:
        """By environment, then model."""
        return sorted(place for place in ledger.turns if self.has(*place))

    def has(self, environment: str | None, model: str) -> bool:
        """environment None: what is of no single one, as a release."""
        here = self.environment is None or environment in (None, self.environment)
        return here and self.model in (None, model)

    def deeds(self, deeds: Iterable[Deed]) -> tuple[Deed, ...]:
        return tuple(deed for deed in deeds if self.has(deed.environment, deed.model))
