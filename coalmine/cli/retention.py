"""`coalmine gc`: what may go, and how much it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from coalmine.cli.words import AsJson, open_workspace, print_json, quiet_if, say

if TYPE_CHECKING:
    from coalmine.operations.retention import Collected, Surveyed


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; else it is only said.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what nothing needs any more, here and in the DVC remote, and how much; `--delete` deletes it."""
    from coalmine.operations.retention import collect
    from coalmine.operations.who import person

    workspace = open_workspace()
    collected = collect(workspace, person(workspace), quiet_if(as_json), delete=delete)
    print_json(collected) if as_json else say("\n".join(_lines(collected)))


def _lines(collected: Collected) -> Iterator[str]:
    days = collected.unneeded_days
    yield _of_store(collected.remote, days)
    yield _of_store(collected.cache, days)
    number, size = Counter[str](), Counter[str]()
    for leftover in collected.here:
        number[leftover.kind.value] += 1
        size[leftover.kind.value] += leftover.size_bytes
    for kind, many in number.items():
        yield f"{kind}: {many:,} ({_bytes(size[kind])})"
    if collected.is_empty:
        yield "There is nothing to delete."
    elif collected.deleted:
        yield "Deleted."
    else:
        yield "Nothing was deleted. To delete it: coalmine gc --delete"


def _of_store(store: Surveyed, days: int) -> str:
    size = _bytes(sum(each.size_bytes for each in store.unneeded))
    young = f", and {store.young:,} younger than {days} days" if store.young else ""
    left = f". They stay: {store.left}" if store.left else ""
    return (
        f"{store.what} {store.address}: {len(store.unneeded):,} objects ({size}) that nothing has named for "
        f"{days} days; {store.needed:,} are named{young}{left}"
    )


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
