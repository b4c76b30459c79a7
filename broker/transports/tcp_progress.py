"""How far the kernel has got with what it was given for a TCP peer, where it can be asked: on Linux."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Protocol

import trio

if sys.platform == "linux":
    import fcntl
    import termios

# `struct tcp_info`: tcpi_bytes_acked, since Linux 4.1.
_ACKED_AT = 120
_ACKED = struct.Struct("=Q")
_INFO_BYTES = 256
# TCP_NOTSENT_LOWAT, which the socket module has from Python 3.12 on.
_NOTSENT_LOWAT = 25


class Asked(Protocol):
    """A socket of the standard library, or Trio's."""

    @property
    def family(self) -> int:
        """The address family."""

    def fileno(self) -> int:
        """Return the file descriptor."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """Return an option."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """Set an option."""


def under_tls(stream: trio.abc.Stream) -> trio.abc.Stream:
    """Return what TLS runs on; the stream itself if it is not TLS."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


class PingDelivery:
    """How far a peer is from seeing a PING that stands behind other bytes.

    Args:
        sock: The peer's connection.
    """

    __slots__ = ("_end", "_progress", "_sock")

    def __init__(self, sock: Asked) -> None:
        self._sock = sock
        self._progress: int | None = None
        self._end = 0

    def begin(self, waiting: int) -> None:
        """Note that a PING is about to be written behind `waiting` bytes that the kernel has not got yet."""
        waiting += unacknowledged(self._sock)
        self._progress = acknowledged(self._sock) if waiting else None
        self._end = waiting + (self._progress or 0)

    def is_moving(self) -> bool:
        """Tell whether the peer had not come to the PING when this was last asked, and has got on since."""
        before = self._progress
        if before is None:
            return False
        progress = acknowledged(self._sock)
        if progress is None or progress <= before:
            return False
        self._progress = progress if progress < self._end else None
        return True


def bound_unsent(sock: Asked, most: int) -> None:
    """Have the kernel take no more while so many bytes are not on their way, so that writes show progress."""
    if sys.platform == "linux" and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, most)


def acknowledged(sock: Asked) -> int | None:
    """Return how many bytes the peer's kernel has acknowledged so far; None if nobody can tell."""
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        acked: int = _ACKED.unpack_from(info, _ACKED_AT)[0]
    except (OSError, struct.error):
        return None
    return acked


def unacknowledged(sock: Asked) -> int:
    """Return how many bytes wait in the kernel or are on their way; 0 if nobody can tell."""
    if sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count
