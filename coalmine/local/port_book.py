"""Which port of this machine belongs to which process of this repository.

A port stays with its name, so that a server that starts again is found where it was; it is
given up only when somebody else has taken it meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import random
import socket
from pathlib import Path

from coalmine.durable import replace_json
from coalmine.errors import IntegrityError, MachineUnready

# Below what Linux and macOS hand out to outgoing connections, which could sit on a server's port.
FIRST, LAST = 20_000, 31_999


class PortBook:
    """Kept in `path`; any number of processes may ask."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def port(self, name: str, is_running: bool) -> int:
        """The port of process `name`; `is_running`: the process lives, so the listener is its own.

        Raises:
            MachineUnready: no free port.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ports = self._read()
            present = ports.get(name)
            if present is not None and (is_running or is_free("127.0.0.1", present)):
                return present
            ports[name] = free_port(taken=set(ports.values()))
            replace_json(self._path, ports)
            return ports[name]

    def _read(self) -> dict[str, int]:
        try:
            return {str(name): int(port) for name, port in json.loads(self._path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise IntegrityError(
                f"{self._path} is written by coalmine and cannot be read. Run `coalmine down`, delete it, "
                "and run `coalmine up`."
            ) from error


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that are only being wound up do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(taken: set[int]) -> int:
    # At random: two repositories that ask at the same moment must not get the same one. The system's
    # chance, since somebody may have seeded Python's.
    for port in random.SystemRandom().sample(range(FIRST, LAST + 1), 200):
        if port not in taken and is_free("127.0.0.1", port):
            return port
    raise MachineUnready(f"No free port between {FIRST} and {LAST} on this machine: end what holds them.")
