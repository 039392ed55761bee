"""Which commits lie below which, for many at once: Git would need a process for each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coalmine.audit.verify.snapshot import Entry


def ancestors_among(entries: Iterable[Entry], wanted: set[str]) -> Callable[[str, str], bool]:
    """A function that says whether the first commit, one of `wanted`, lies below the second, or is it.

    entries: parents before children.
    """
    # A bit for each of `wanted`; commits of one line share the same number, so that a long history fits.
    bits = {commit: 1 << number for number, commit in enumerate(sorted(wanted))}
    below: dict[str, int] = {}
    for entry in entries:
        reached = [below[parent] for parent in entry.parents if parent in below]
        united = reached[0] if reached else 0
        for each in reached[1:]:
            united |= each
        own = bits.get(entry.commit.sha, 0)
        below[entry.commit.sha] = united | own if own else united
    return lambda commit, other: bool(below.get(other, 0) & bits[commit])
