"""Sends to a cluster from a process that holds no clients: a job, a script, another kind of server."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from typing import Any, Generic, Self, TypeVar

import trio

from broker.adapters.base import BusHost
from broker.flow.names import check_event, check_rooms
from broker.flow.overflow import OverflowPolicy, make_policy
from protocol.bus.channels import SubscriptionMode
from protocol.bus.emitting import Command, Emission
from protocol.limits import Limits

from .adapter import plain_error
from .address import parse_url
from .blocking import BlockingConnection
from .client import RedisClient
from .settings import Mode, check_choice, check_packages
from .timing import Timing

Way = TypeVar("Way", BlockingConnection, RedisClient)


class _Choosing(Generic[Way]):
    """What both forms have in common: choosing whom to send to. Each verb returns a new emitter."""

    def __init__(self, way: Way, emission: Emission) -> None:
        self._way: Way = way
        self._emission = emission

    def _with(self, emission: Emission) -> Self:
        made = copy(self)
        made._emission = emission
        return made

    def of(self, namespace: str) -> Self:
        """Choose everyone of another namespace."""
        return self._with(self._emission.of(namespace))

    def to(self, *rooms: str) -> Self:
        """Add rooms to send to; the id of a socket is one."""
        check_rooms(rooms)
        return self._with(self._emission.narrowed(rooms))

    def in_(self, *rooms: str) -> Self:
        """Add rooms to send to; the same as `to`."""
        return self.to(*rooms)

    def except_(self, *rooms: str) -> Self:
        """Leave out everyone in these rooms."""
        check_rooms(rooms)
        return self._with(self._emission.narrowed((), rooms))

    @property
    def volatile(self) -> Self:
        """For events that may be dropped for those who cannot take them at once."""
        return self._with(self._emission.narrowed(volatile=True))

    def overflow(self, policy: OverflowPolicy, key: str | None = None) -> Self:
        """Set what becomes of the event where a client has no room for it; as of `Broadcast.overflow`.

        Nodes of other makers leave it unseen.

        Raises:
            ValueError: There is no such policy, or it takes no key.
        """
        return self._with(self._emission.narrowed(overflow=make_policy(policy, key).to_wire()))

    def _event(self, event: str, args: tuple[Any, ...]) -> Command:
        check_event(event)
        return self._emission.emit((event, *args))


class Emitter(_Choosing[BlockingConnection]):
    """Sends to a cluster from a program without an event loop; each verb waits until Redis has it.

    `with Emitter("redis://...") as emitter: emitter.to("room").emit("news", 1)`. What it returns may be kept
    and used by several threads. It talks to brokers and to Socket.IO servers on Node alike.

    Args:
        url: As of `RedisAdapter`.
        mode: The mode of the nodes: `classic`, `sharded` or `streams`.
        key: Prefix of the channels.
        namespace: Name of the namespace; `of` chooses others.
        timeout: Seconds for each step: connecting, sending, a reply.
        ssl_context: For `rediss://`.
        subscription_mode: Sharded: as of the nodes.
        stream: Streams: name of the stream.
        stream_count: Streams: how many there are.
        stream_length: Streams: entries that are kept, about.

    All verbs raise `BusUnavailable` if Redis does not confirm: then it is not known whether it has been
    heard, and it is not sent again; and `BusRefused` if Redis answers with an error.

    Raises:
        ConfigError: An option cannot be, or the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        mode: Mode = "classic",
        key: str = "socket.io",
        namespace: str = "/",
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        subscription_mode: SubscriptionMode = "dynamic",
        stream: str = "socket.io",
        stream_count: int = 1,
        stream_length: int = 10_000,
    ) -> None:
        check_packages()
        check_choice(mode, subscription_mode)
        emission = Emission(
            mode=mode,
            key=key,
            subscription_mode=subscription_mode,
            stream=stream,
            stream_count=stream_count,
            stream_length=stream_length,
        )
        way = BlockingConnection(parse_url(url, ssl_context), timeout)
        super().__init__(way, emission.of(namespace))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._way.close()

    def emit(self, event: str, *args: Any) -> None:
        """Send an event to everyone chosen.

        Raises:
            ValueError: The name is reserved.
            TypeError: The name is no text, or an argument has no form on the bus.
        """
        self._way.ask(*self._event(event, args))

    def sockets_join(self, *rooms: str) -> None:
        """Put everyone chosen into rooms."""
        check_rooms(rooms)
        self._way.ask(*self._emission.join(rooms))

    def sockets_leave(self, *rooms: str) -> None:
        """Take everyone chosen out of rooms."""
        check_rooms(rooms)
        self._way.ask(*self._emission.leave(rooms))

    def disconnect_sockets(self, close: bool = False) -> None:
        """Make everyone chosen leave the namespace, or close their sessions."""
        self._way.ask(*self._emission.disconnect(close))

    def server_side_emit(self, event: str, *args: Any) -> None:
        """Send an event to the nodes themselves; answers are for nodes alone."""
        self._way.ask(*self._emission.server_side_emit((event, *args)))


class TrioEmitter(_Choosing[RedisClient]):
    """The same for Trio: what `open_emitter` gives. Each verb waits until Redis has it.

    Cancellation: it may have been sent, or not.
    """

    async def emit(self, event: str, *args: Any) -> None:
        """Send an event to everyone chosen; as `Emitter.emit`."""
        await self._way.ask(*self._event(event, args))

    async def sockets_join(self, *rooms: str) -> None:
        """Put everyone chosen into rooms."""
        check_rooms(rooms)
        await self._way.ask(*self._emission.join(rooms))

    async def sockets_leave(self, *rooms: str) -> None:
        """Take everyone chosen out of rooms."""
        check_rooms(rooms)
        await self._way.ask(*self._emission.leave(rooms))

    async def disconnect_sockets(self, close: bool = False) -> None:
        """Make everyone chosen leave the namespace, or close their sessions."""
        await self._way.ask(*self._emission.disconnect(close))

    async def server_side_emit(self, event: str, *args: Any) -> None:
        """Send an event to the nodes themselves; answers are for nodes alone."""
        await self._way.ask(*self._emission.server_side_emit((event, *args)))


@asynccontextmanager
async def open_emitter(url: str, **options: Any) -> AsyncIterator[TrioEmitter]:
    """Open an emitter for the block.

    The connection comes back by itself; while it is away the verbs raise `BusUnavailable`.

    Args:
        url: As of `RedisAdapter`.
        options: As of `Emitter`.

    Raises:
        BusError: The server cannot be reached.
    """
    blueprint = Emitter(url, **options)
    timeout = options.get("timeout", 5.0)
    timing = Timing(connect_timeout=timeout, start_timeout=timeout, ping_timeout=timeout)
    host = BusHost(Limits(), Counter(), lambda gap: None)
    address = parse_url(url, options.get("ssl_context"))
    client = RedisClient(address, host, "broker-emitter", lambda push: None, timing)
    # What the block raises leaves it as it came, in no group of ours.
    with plain_error():
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            yield TrioEmitter(client, blueprint._emission)
            nursery.cancel_scope.cancel()
