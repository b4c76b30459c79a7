"""How far the kernel has got with what it was given for a TCP peer, where it can be asked: on Linux."""

from __future__ import annotations

import socket
import struct
import sys

if sys.platform == "linux":
    import fcntl
    import termios

# `struct tcp_info`: tcpi_bytes_acked, since Linux 4.1.
_ACKED_AT = 120
_ACKED = struct.Struct("=Q")
_INFO_BYTES = 256


def acknowledged(sock: socket.socket) -> int | None:
    """Return how many bytes the peer's kernel has acknowledged so far; None if nobody can tell."""
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        acked: int = _ACKED.unpack_from(info, _ACKED_AT)[0]
    except (OSError, struct.error):
        return None
    return acked


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes wait in the kernel or are on their way; 0 if nobody can tell."""
    if sys.platform != "linux":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count
