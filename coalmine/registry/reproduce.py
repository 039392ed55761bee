"""`dvc repro --single-item TARGET` as a process that ends with the one that started it.

DVC lets a stage's command write where DVC itself writes, and a killed parent would leave it
running without a lock, against whoever starts the stage again. This process is the head of a
group of its own; its standard input ends when its parent does, however that happens, and takes
the whole group along.
"""

from __future__ import annotations

import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from dvc.cli import main as dvc  # after the watch has begun: it takes half a second

    status: int = dvc(["repro", "--single-item", sys.argv[1]])
    return status


if __name__ == "__main__":
    sys.exit(main())
