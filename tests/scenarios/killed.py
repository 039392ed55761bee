"""Runs `coalmine WORDS...` and ends it by SIGKILL at one point: killed.py POINT WORDS...

POINT is `before MODULE:NAME` or `after MODULE:NAME`, NAME a function or CLASS.METHOD of that module,
and then, where not every call is meant, ` with PHRASE`: the arguments of the call must show PHRASE.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from typing import Any


def kill_at(point: str) -> None:
    where, _, phrase = point.partition(" with ")
    moment, target = where.split(" ")
    module, _, name = target.partition(":")
    *classes, function = name.split(".")
    owner: Any = functools.reduce(getattr, classes, importlib.import_module(module))
    original = getattr(owner, function)

    @functools.wraps(original)
    def deadly(*arguments: Any, **named: Any) -> Any:
        meant = phrase in str((arguments, named))
        if meant and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if meant:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, function, deadly)


if __name__ == "__main__":
    _, point, *words = sys.argv
    sys.path[0] = ""  # as for `python -m`: never this folder
    from coalmine import cli

    kill_at(point)
    sys.argv = ["coalmine", *words]
    cli.main()
