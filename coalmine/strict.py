"""What every file that people write is parsed with: a frozen value that refuses unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    # Built when first used: a command looks at one or two of them.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
