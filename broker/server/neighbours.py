"""The other processes of one server: each is reached at a Unix socket, and takes over what is meant for it.

A connection whose first request names a session of another process is passed on: a plain socket itself, with
the bytes read so far, so that nobody stands between; a TLS connection byte by byte, since its keys cannot be
passed on. See docs/adr/0021-more-than-one-process.md.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson
import trio
from attrs import frozen
from cattrs import Converter

from protocol import Limits
from protocol.engineio.owner import Owner, owner_of_query

from .addresses import OUT_OF_FILES, PAUSE_WITHOUT_FILES, close_unix, open_unix
from .peers import Elsewhere, PeerNode
from .relaying import relay

logger = logging.getLogger(__name__)

_CONVERTER = Converter(detailed_validation=False)
_LENGTH = struct.Struct("!II")  # of the introduction, and of the bytes behind it
_INTRODUCTION_BYTES = 4_096
_RECEIVE_BYTES = 65_536
_DESCRIPTOR = array.array("i", [0])
_CONTROL_SPACE = socket.CMSG_SPACE(_DESCRIPTOR.itemsize) if hasattr(socket, "CMSG_SPACE") else 0


@frozen
class Introduction:
    """What is said first on a connection between two processes.

    Attributes:
        kind: `socket` passes a socket on, `stream` the bytes of a connection, `bus` opens a line of the bus.
        peer: Address of the client.
        secure: Whether the client came over TLS.
        sender: The number of the process that says it.
    """

    kind: str
    peer: str = ""
    secure: bool = False
    sender: int = 0


class Takes(Protocol):
    """What takes over the connections that others pass on: the listener."""

    async def serve_socket(self, accepted: socket.socket, peer: str, data: bytes) -> None:
        """Serve a plain socket of which these bytes have been read."""

    async def serve_stream(self, stream: trio.abc.Stream, peer: str, *, secure: bool) -> None:
        """Serve a stream."""


class Neighbour:
    """One other process of the server, whether it is there or not.

    Args:
        number: Its number.
        neighbours: All of them.
    """

    def __init__(self, number: int, neighbours: Neighbours) -> None:
        self.number = number
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self._neighbours = neighbours

    async def take_socket(self, accepted: socket.socket, data: bytes, peer: str) -> bool:
        """Give it a plain socket, with the bytes read so far; the caller closes its own copy.

        Returns:
            Whether it is there to take it.
        """
        said = Introduction("socket", peer, sender=self._neighbours.own)
        stream = await self._neighbours.open(self.number, said, data, accepted.fileno())
        if stream is not None:
            await trio.aclose_forcefully(stream)
        return stream is not None

    async def take_stream(self, client: trio.abc.Stream, data: bytes, peer: str, *, secure: bool) -> bool:
        """Relay a stream to it, with the bytes read so far, until either closes."""
        stream = await self.open_stream(peer, secure=secure)
        if stream is None:
            return False
        async with stream:
            await relay(client, stream, data, self._neighbours.limits)
        return True

    async def open_stream(self, peer: str, *, secure: bool) -> trio.SocketStream | None:
        """Open a stream that it serves as if the client had connected to it; None if it is not there."""
        return await self._neighbours.open(
            self.number, Introduction("stream", peer, secure, self._neighbours.own)
        )


class Neighbours:
    """The processes of one server, as one of them sees them.

    Args:
        place: Which of them this one is.
        folder: Where their sockets are; only the user of these processes may enter it. None if it is alone,
            and has only other nodes beside it.
        limits: Deadlines and bounds.
        peers: Host and port of other nodes, by number.

        count: How many processes there are.

    Attributes:
        own: The number of this one.
        count: How many processes there are.
        limits: Deadlines and bounds.
        mark: What session ids of this one end with.
    """

    def __init__(
        self,
        place: Owner,
        folder: Path | None,
        limits: Limits,
        peers: Mapping[int, tuple[str, int]] | None = None,
        count: int = 1,
    ) -> None:
        self._place = place
        self._peers = {node: PeerNode(node, *address, limits) for node, address in (peers or {}).items()}
        self.own = place.worker
        self.count = count
        self.mark = place.mark
        self._serve_line: Callable[[int, trio.abc.Stream], Awaitable[None]] | None = None
        self._folder = folder
        self.limits = limits

    def owner_elsewhere(self, query: str, *, hopped: bool) -> Elsewhere | None:
        """Return who holds the session that a query names, if it is another that can be asked.

        Args:
            query: The query of the request.
            hopped: Whether another node has forwarded it already.
        """
        owner = owner_of_query(query)
        if owner is None or owner == self._place:
            return None
        if owner.node == self._place.node:
            return self.neighbour(owner.worker)
        return None if hopped else self._peers.get(owner.node)

    def on_line(self, serve: Callable[[int, trio.abc.Stream], Awaitable[None]]) -> None:
        """Call this with each line of the bus that another process opens, and its number."""
        self._serve_line = serve

    async def open_line(self, number: int) -> trio.SocketStream | None:
        """Open a line of the bus to another process; None if it is not there."""
        return await self.open(number, Introduction("bus", sender=self.own))

    def neighbour(self, number: int) -> Neighbour:
        """Return another process, whether it is there or not."""
        return Neighbour(number, self)

    async def open(
        self, number: int, said: Introduction, data: bytes = b"", descriptor: int | None = None
    ) -> trio.SocketStream | None:
        """Connect to another process and introduce the connection; None if it is not there."""
        text = orjson.dumps(_CONVERTER.unstructure(said))
        message = _LENGTH.pack(len(text), len(data)) + text + data
        try:
            connection = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            logger.warning("worker %d cannot be asked: %s", number, error)
            await trio.lowlevel.checkpoint()
            return None
        try:
            with trio.fail_after(self.limits.handover_timeout):
                await connection.connect(str(self._path(number)))
                if descriptor is not None:
                    rights = array.array("i", [descriptor])
                    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                    message = message[await connection.sendmsg([message], control) :]
                stream = trio.SocketStream(connection)
                await stream.send_all(message)
                return stream
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            logger.debug("worker %d cannot be reached: %r", number, error)
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise

    def _path(self, number: int) -> Path:
        if self._folder is None:
            raise FileNotFoundError("this process has no neighbours")
        return self._folder / f"{number}.sock"

    # Taking over

    async def accept(
        self, takes: Takes, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take over what the others pass on, until cancelled."""
        if self._folder is None:
            task_status.started()
            return
        path = str(self._path(self.own))
        opened = open_unix(path)
        listening = trio.socket.from_stdlib_socket(opened)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    try:
                        connection, _ = await listening.accept()
                    except OSError as error:
                        if error.errno in OUT_OF_FILES:
                            logger.warning("cannot accept what a worker passes on: %s", error)
                            await trio.sleep(PAUSE_WITHOUT_FILES)
                        continue
                    nursery.start_soon(self._take, connection, takes)
        finally:
            trio.lowlevel.notify_closing(opened)
            close_unix(opened)

    async def _take(self, connection: Any, takes: Takes) -> None:
        passed: list[socket.socket] = []
        try:
            with trio.fail_after(self.limits.handover_timeout):
                said, data, passed = await _read_introduction(connection)
            if said.kind == "socket" and passed:
                connection.close()
                await takes.serve_socket(passed[0], said.peer, data)
            elif said.kind == "stream":
                stream = PassedStream(trio.SocketStream(connection), said.peer)
                await takes.serve_stream(stream, said.peer, secure=said.secure)
            elif said.kind == "bus" and self._serve_line is not None:
                await self._serve_line(said.sender, trio.SocketStream(connection))
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            trio.BrokenResourceError,
            trio.TooSlowError,
        ) as error:
            # A neighbour that died midway: its clients come back by themselves.
            logger.debug("nothing was passed on: %r", error)
        except Exception:
            # One connection must not take the others with it.
            logger.exception("what another worker passed on failed")
        finally:
            connection.close()
            for one in passed:
                one.close()


async def _read_introduction(connection: Any) -> tuple[Introduction, bytes, list[socket.socket]]:
    """Read what is said first, the bytes behind it, and the socket that may come with it.

    Raises:
        ValueError: It is cut off, or no introduction.
    """
    passed: list[socket.socket] = []
    try:
        received = bytearray()
        wanted = _LENGTH.size
        sizes: tuple[int, int] | None = None
        while len(received) < wanted:
            # Not a byte more than is announced: what follows belongs to the stream.
            more, control, _, _ = await connection.recvmsg(
                min(wanted - len(received), _RECEIVE_BYTES), _CONTROL_SPACE
            )
            passed += _sockets(control)
            if not more:
                raise ValueError("an introduction was cut off")
            received += more
            if sizes is None and len(received) >= _LENGTH.size:
                sizes = _LENGTH.unpack_from(received)
                if sizes[0] > _INTRODUCTION_BYTES:
                    raise ValueError("an introduction is too long")
                wanted = _LENGTH.size + sum(sizes)
        assert sizes is not None
        end = _LENGTH.size + sizes[0]
        said = _CONVERTER.structure(orjson.loads(received[_LENGTH.size : end]), Introduction)
        return said, bytes(received[end:]), passed
    except BaseException:
        for one in passed:
            one.close()
        raise


def _sockets(control: list[tuple[int, int, bytes]]) -> list[socket.socket]:
    passed: list[socket.socket] = []
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors = array.array("i")
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
                passed.append(socket.socket(fileno=descriptor))
    return passed


class _Address:
    """Stands in for the socket of a client whose bytes another process passes on."""

    def __init__(self, peer: str) -> None:
        self.family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        if not peer:
            self.family = socket.AddressFamily.AF_UNSPEC
        self._peer = peer

    def getpeername(self) -> tuple[str, int]:
        return (self._peer, 0)

    def getsockname(self) -> tuple[str, int]:
        return ("", 0)


class PassedStream(trio.abc.HalfCloseableStream):
    """The bytes of a client's connection that another process passes on.

    Args:
        stream: The stream from that process.
        peer: Address of the client.

    Attributes:
        socket: What hypercorn asks for addresses.
    """

    def __init__(self, stream: trio.SocketStream, peer: str) -> None:
        self._stream = stream
        self.socket = _Address(peer)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what the client sends."""
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the client."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a write might go through."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Send the end of the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
