"""A port held for a model server from one of its lives to the next, so that nobody finds it closed.

The supervisor binds the port, and the server, which inherits the socket, listens and accepts. Both
have the same queue of new connections: while one server ends and the next one starts, the kernel
takes connections in, and the next one answers them. Before the first server listens, connections are
refused, as they are once `refuse` is called.
"""

from __future__ import annotations

import contextlib
import socket

from coalmine.serving.port import take_port


class Listener:
    def __init__(self, port: int) -> None:
        """
        Raises:
            MachineUnready: the port is in use.
        """
        self.port = port
        self._socket = take_port("127.0.0.1", port)

    def fileno(self) -> int:
        """The descriptor that the server inherits."""
        return self._socket.fileno()

    def refuse(self) -> None:
        """Let go of who waits, and refuse whoever comes, until a server listens again."""
        with contextlib.suppress(OSError):  # nobody has listened yet
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Leave the port to the server that has it; with none, it is free."""
        self._socket.close()
