"""Addresses at which several processes listen: each gets a socket of its own, or all of them the same one."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from .addresses import BACKLOG, all_or_none, bind_tcp, close_unix, describe, open_unix, parse_address

# Elsewhere the option exists and does not spread connections over the sockets.
SPREADS = sys.platform == "linux"


class SharedPorts:
    """The addresses of a server of several processes, held by their supervisor.

    The kernel spreads connections over the sockets that listen at a port with SO_REUSEPORT. The supervisor's
    own socket keeps the port and never listens, so that a process that has died takes no connections with it:
    see docs/adr/0021-more-than-one-process.md. A Unix socket, and every socket where this does not work, is
    one that all processes accept from.

    Args:
        addresses: As `Broker.serve` takes them: `127.0.0.1:3000`, `[::1]:3000`, `unix:/run/broker.sock`.

    Raises:
        OSError: One of them cannot be opened; then none stays open.
        ValueError: An address cannot be read.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._reserved: list[socket.socket] = []
        self._common: list[socket.socket] = []
        try:
            for address in addresses:
                self._open(address)
        except BaseException:
            self.close()
            raise

    def _open(self, address: str) -> None:
        if address.startswith("unix:"):
            self._common.append(open_unix(address.removeprefix("unix:")))
            return
        bound = bind_tcp(*parse_address(address))
        (self._reserved if SPREADS else self._common).extend(bound)
        for one in bound:
            if SPREADS:
                # Only now: with the option from the start, another server at this port would not be noticed.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            else:
                one.listen(BACKLOG)

    def open(self) -> list[socket.socket]:
        """Return the listening sockets for one process; the caller closes them once it has passed them on.

        Raises:
            OSError: One of them cannot be opened.
        """
        opened = [one.dup() for one in self._common]
        with all_or_none(opened):
            for reserved in self._reserved:
                listening = socket.socket(reserved.family, reserved.type)
                opened.append(listening)
                if reserved.family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listening.bind(reserved.getsockname())
                listening.listen(BACKLOG)
        return opened

    def describe(self, scheme: str) -> tuple[str, ...]:
        """Return the URLs."""
        return tuple(describe(one, scheme) for one in (*self._reserved, *self._common))

    def close(self) -> None:
        """Give the addresses up."""
        for one in (*self._reserved, *self._common):
            if one.family == getattr(socket, "AF_UNIX", None):
                close_unix(one)
            else:
                one.close()
