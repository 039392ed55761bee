"""The address that a server will listen on, taken before anything heavy is loaded.

Bound, not listening: until the model is ready connections are refused, so nobody waits for a
server that may never come up, and a port in use is known at once. A supervisor that outlives its
servers hands them a socket of its own: who connects between two servers waits for the next one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping

from coalmine.errors import InputError, MachineUnready

HANDED_OVER = "COALMINE_SOCKET"  # the file descriptor of a socket that is bound to the server's port


def own_port(host: str, port: int, environment: Mapping[str, str] = os.environ) -> socket.socket:
    """The socket that a supervisor handed over, or else one of our own, as `take_port`."""
    handed_over = environment.get(HANDED_OVER)
    return take_port(host, port) if handed_over is None else socket.socket(fileno=int(handed_over))


def take_port(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket bound to the address, not listening yet. Port 0 takes a free one.

    option: that gave the port.

    Raises:
        InputError: no such host or port.
        MachineUnready: the port is in use, or not ours to take.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"{option} {port} is no port: they go from 1 to 65535, and 0 takes a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise InputError(f"--host {host} cannot be resolved: {error.strerror}") from error
    taken = socket.socket(family, socket.SOCK_STREAM)
    # Connections that linger from an earlier server do not block the port; a live server does.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise MachineUnready(
                f"port {port} of {host} is in use by another process: end that one, or choose another "
                f"{option}"
            ) from error
        raise MachineUnready(f"port {port} of {host} cannot be taken: {error.strerror}") from error
    return taken
