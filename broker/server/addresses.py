"""Opens listening sockets for addresses, and says where a socket listens."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import trio
from attrs import frozen

from broker.transports.tcp_progress import under_tls

BACKLOG = 4_096
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE_WITHOUT_FILES = 0.1  # seconds until an accept that found no descriptor is tried again


@frozen
class Server:
    """A broker that listens.

    Attributes:
        urls: Where, one for each address.
        port: The first TCP port; 0 if there are only Unix sockets.
    """

    urls: tuple[str, ...]
    port: int

    @property
    def url(self) -> str:
        """The first address."""
        return self.urls[0]


@contextmanager
def open_listeners(host: str | None, port: int, bind: tuple[str, ...]) -> Iterator[list[socket.socket]]:
    """Open listening sockets for the block.

    Args:
        host: Address or name; None opens only what `bind` names.
        port: TCP port; 0 takes a free one.
        bind: More addresses: `127.0.0.1:3000`, `[::1]:3000`, `unix:/run/broker.sock`; `fd:3` takes a
            listening socket that the process has inherited.

    Raises:
        OSError: One of them cannot be opened; then none stays open.
        ValueError: An address cannot be read.
    """
    opened: list[socket.socket] = []
    with ExitStack() as stack:

        def keep(*these: socket.socket, close: Callable[[socket.socket], None] = socket.socket.close) -> None:
            for one in these:
                stack.callback(close, one)
                stack.callback(trio.lowlevel.notify_closing, one)
                opened.append(one)

        if host is not None:
            keep(*_open_tcp(host, port))
        for address in bind:
            if address.startswith("unix:"):
                keep(open_unix(address.removeprefix("unix:")), close=close_unix)
            elif address.startswith("fd:"):
                keep(_take_descriptor(address.removeprefix("fd:")))
            else:
                keep(*_open_tcp(*parse_address(address)))
        yield opened


def parse_address(address: str) -> tuple[str, int]:
    """Split `host:port`, with brackets around an IPv6 host.

    Raises:
        ValueError: It is nothing of the kind.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"cannot listen on {address!r}; expected HOST:PORT, [IPV6]:PORT or unix:PATH")
    return host.strip("[]"), int(port)


def _open_tcp(host: str, port: int) -> list[socket.socket]:
    opened = bind_tcp(host, port)
    with all_or_none(opened):
        for listening in opened:
            listening.listen(BACKLOG)
    return opened


@contextmanager
def all_or_none(opened: list[socket.socket]) -> Iterator[None]:
    """Close these sockets if the block fails."""
    try:
        yield
    except OSError:
        for one in opened:
            one.close()
        raise


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Bind a socket to each address of a host, with one port; none of them listens yet.

    Raises:
        OSError: One of them cannot be bound; then none stays open.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    with all_or_none(opened):
        for family, kind, number, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, number)
            opened.append(listening)
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # A name such as localhost means one port on all its addresses.
            wanted = opened[0].getsockname()[1] if len(opened) > 1 else port
            listening.bind((address[0], wanted, *address[2:]))
            listening.setblocking(False)
    return opened


def _take_descriptor(number: str) -> socket.socket:
    if not number.isdecimal():
        raise ValueError(f"cannot listen on 'fd:{number}'; expected the number of a file descriptor")
    listening = socket.socket(fileno=int(number))
    listening.setblocking(False)
    return listening


def open_unix(path: str) -> socket.socket:
    """Open a listening Unix socket, in the place of one that a killed server has left behind.

    Raises:
        OSError: It cannot be opened; somebody may be listening there.
    """
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        if _is_served(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
        os.unlink(path)  # left behind by a server that was killed
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True  # its backlog is full
    return True


def close_unix(listening: socket.socket) -> None:
    """Close what `open_unix` has opened, and before that remove its file: later it may be a successor's."""
    with suppress(OSError):
        os.unlink(listening.getsockname())
    listening.close()


def describe(listening: socket.socket, scheme: str) -> str:
    """Return the URL of a listening socket."""
    name = listening.getsockname()
    if isinstance(name, (str, bytes)):
        return f"unix:{os.fsdecode(name)}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def describe_server(listening: Sequence[socket.socket], scheme: str) -> Server:
    """Return where these sockets listen."""
    urls = tuple(describe(one, scheme) for one in listening)
    ports = [name[1] for one in listening if isinstance(name := one.getsockname(), tuple)]
    return Server(urls, ports[0] if ports else 0)


def peer_of(stream: trio.abc.Stream) -> str:
    """Return the address of the peer of a TCP stream, TLS or not; empty for any other."""
    tcp = under_tls(stream)
    if not isinstance(tcp, trio.SocketStream):
        return ""
    try:
        address = tcp.socket.getpeername()
    except OSError:  # it is gone
        return ""
    return str(address[0]) if isinstance(address, tuple) else ""
