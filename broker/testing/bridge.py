"""A loopback port in front of a network in memory, so that any program meets its faults and is recorded."""

from __future__ import annotations

import socket
import struct

import trio

from .network import VirtualNetwork

_PIECE_BYTES = 16_384
_RESET = struct.pack("ii", 1, 0)


async def serve_loopback(
    network: VirtualNetwork, port: int = 0, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Accept on a port of the loopback and connect each connection to the network, until cancelled.

    Args:
        network: The network.
        port: The TCP port; 0 takes a free one.
        task_status: Gets the port.

    Raises:
        OSError: The port cannot be had.
    """

    async def bridge(stream: trio.SocketStream) -> None:
        await _bridge(stream, network)

    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(bridge, listeners)


async def _bridge(real: trio.SocketStream, network: VirtualNetwork) -> None:
    async with real:
        try:
            virtual = await network.connect()
        except ConnectionRefusedError:
            _reset(real)
            return
        async with virtual, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, real, virtual, real, nursery.cancel_scope)
            await _copy(virtual, real, real, nursery.cancel_scope)


async def _copy(
    source: trio.abc.HalfCloseableStream,
    target: trio.abc.HalfCloseableStream,
    real: trio.SocketStream,
    both: trio.CancelScope,
) -> None:
    try:
        while data := await source.receive_some(_PIECE_BYTES):
            await target.send_all(data)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        _reset(real)
        both.cancel()


def _reset(stream: trio.SocketStream) -> None:
    """Have the close that follows say that the connection broke, not that it ended."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
