"""Carries the bytes of a connection between its client and whoever serves it, with flow control."""

from __future__ import annotations

import logging

import trio

from protocol import Limits

logger = logging.getLogger(__name__)

_RECEIVE_BYTES = 65_536


async def relay(
    client: trio.abc.Stream, owner: trio.abc.HalfCloseableStream, data: bytes, limits: Limits
) -> None:
    """Carry bytes both ways until the owner has closed, or a side is gone; each side waits for the other.

    Args:
        client: The stream of the client.
        owner: The stream to the process that serves it.
        data: What has been read of the client.
        limits: Deadlines of a write, and of the client's closing after the owner.

    Cancellation leaves both streams open, for the caller to close.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_carry_to_owner, client, owner, data, limits.write_timeout, nursery.cancel_scope)
        try:
            while answer := await owner.receive_some(_RECEIVE_BYTES):
                with trio.fail_after(limits.write_timeout):
                    await client.send_all(answer)
            if isinstance(client, trio.abc.HalfCloseableStream):
                await client.send_eof()
            # Closing with unread input would reset the connection, and could destroy the answer on its way.
            nursery.cancel_scope.deadline = trio.current_time() + limits.close_timeout
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            logger.debug("a relayed connection ended: %r", error)
            nursery.cancel_scope.cancel()


async def _carry_to_owner(
    client: trio.abc.Stream,
    owner: trio.abc.HalfCloseableStream,
    data: bytes,
    write_timeout: float,
    both: trio.CancelScope,
) -> None:
    try:
        while data:
            with trio.fail_after(write_timeout):
                await owner.send_all(data)
            data = bytes(await client.receive_some(_RECEIVE_BYTES))
        await owner.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        both.cancel()
