"""What the kernel tells of a TCP connection: bytes acknowledged, bytes that wait."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from broker.transports.tcp_progress import PingDelivery, acknowledged, bound_unsent, unacknowledged

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give the near end of a TCP connection, which does not block, and the far one, which buffers little."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        far = socket.create_connection(server.getsockname())
        near, _ = server.accept()
    with near, far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        near.setblocking(False)
        yield near, far


async def test_what_the_peer_has_not_taken_is_between_it_and_the_ping() -> None:
    with connection() as (near, far):
        ping = PingDelivery(near)
        ping.begin(0)
        assert not ping.is_moving()  # nothing was on its way
        sent = near.send(b"x" * 8_000_000)
        ping.begin(0)
        waiting = unacknowledged(near)
        before = acknowledged(near)
        assert before is not None
        assert 0 < waiting <= sent
        assert not ping.is_moving()  # the peer takes nothing
        with trio.fail_after(5):
            while waiting and unacknowledged(near):
                assert far.recv(1_000_000)
                await trio.lowlevel.checkpoint()
        assert acknowledged(near) == sent
        assert ping.is_moving()
        assert not ping.is_moving()  # the PING has come there: only an answer counts now
    assert (acknowledged(near), unacknowledged(near)) == (None, 0)


def test_sockets_of_which_nobody_tells() -> None:
    near, far = socket.socketpair()
    with near, far:
        assert acknowledged(near) is None
        ping = PingDelivery(near)
        ping.begin(100)
        assert not ping.is_moving()


def test_a_bounded_kernel_takes_little_more_than_the_peer() -> None:
    taken: list[int] = []
    for bound in (None, 65_536):
        with connection() as (near, _):
            if bound is not None:
                bound_unsent(near, bound)
            taken.append(near.send(b"x" * 8_000_000))
    free, bounded = taken
    assert bounded <= 1_000_000 < free
