"""Which names a model, a dataset or an environment may have, and which one was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable

from coalmine.errors import InputError
from coalmine.spec import NAME


def check_name(name: str, what: str, taken: Collection[str] = ()) -> None:
    """
    Raises:
        InputError: no name for a `what`, or one of `taken`.
    """
    if not re.fullmatch(NAME, name) or len(name) > 40:
        raise InputError(
            f"`{name}` cannot name {_a(what)}: small letters, digits and single hyphens, a letter first, "
            "at most 40 of them, such as flight-delays."
        )
    if name in taken:
        raise InputError(
            f"There is {_a(what)} `{name}` already. Choose another name, or edit the one there is."
        )


def nearest(name: str, there: Iterable[str]) -> str:
    """The end of a sentence that says that there is no `name`."""
    known = list(there)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f" Did you mean `{near[0]}`?"
    return f" There are: {', '.join(known)}." if known else " There is none yet."


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aeio" else f"a {what}"
