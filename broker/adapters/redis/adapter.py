"""What `Settings.adapter` holds for Redis, and the bus that it makes for each broker."""

from __future__ import annotations

import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio
from attrs import evolve

from broker.adapters.base import BusHost, Gap, Link, LocalNamespace
from broker.adapters.cluster import REQUEST_TIMEOUT, ClusterLink
from broker.adapters.cluster import new_uid as new_cluster_uid
from broker.adapters.recovery_store import SharedLog
from broker.flow.settings_checks import ConfigError
from protocol.bus.channels import ClassicChannels, ClusterChannels, SubscriptionMode
from protocol.bus.cluster import ClusterMessage
from protocol.bus.streams import stream_name, stream_names

from .address import parse_url
from .carriers import ShardedCarrier, StreamsCarrier
from .classic import ClassicLink
from .classic import new_uid as new_classic_uid
from .client import RedisClient
from .routes import Routes
from .sessions import RedisSessions
from .settings import Mode, check_choice, check_packages
from .stream_log import StreamLog
from .stream_reader import StreamReader
from .timing import Timing


class RedisAdapter:
    """Links brokers, and Socket.IO servers on Node, through a Redis server.

    All nodes of a cluster have the same mode, key and, where they matter, options. See docs/scaling.md.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, `unix:///path`.
        mode: `classic` speaks with `@socket.io/redis-adapter` and every emitter; `sharded` with its sharded
            form, on Redis 7; `streams` with `@socket.io/redis-streams-adapter` 0.3, which loses nothing while
            a connection is away.
        key: Prefix of all channels: `key` of the classic adapter, `channelPrefix` of the others.
        request_timeout: Seconds that other nodes have to tell of their sockets.
        ssl_context: For `rediss://`; None verifies by the certificates of the system.
        connect_timeout: Seconds to connect and log in, once.
        start_timeout: Seconds to reach the server when the broker opens.
        ping_interval: Seconds between two probes of the connection.
        ping_timeout: Seconds until one must be back.
        return_timeout: Classic and sharded: seconds, at most, that publications wait after an outage until as
            many nodes are back as there were; 0 sends at once.
        own_responses: Classic: answer the asking node alone (`publishOnSpecificResponseChannel`).
        subscription_mode: Sharded: which rooms have channels of their own (`subscriptionMode`).
        stream: Streams: name of the stream (`streamName`).
        stream_count: Streams: how many there are (`streamCount`); 1, unless Node servers have more.
        stream_length: Streams: entries that are kept, about (`maxLen`).
        read_count: Streams: entries read at once (`readCount`).

    Raises:
        ConfigError: An option cannot be, or the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        mode: Mode = "classic",
        key: str = "socket.io",
        request_timeout: float = REQUEST_TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
        start_timeout: float = 10.0,
        ping_interval: float = 2.0,
        ping_timeout: float = 3.0,
        return_timeout: float = 3.0,
        own_responses: bool = False,
        subscription_mode: SubscriptionMode = "dynamic",
        stream: str = "socket.io",
        stream_count: int = 1,
        stream_length: int = 10_000,
        read_count: int = 100,
    ) -> None:
        check_packages()
        check_choice(mode, subscription_mode)
        numbers = {
            "request_timeout": request_timeout,
            "connect_timeout": connect_timeout,
            "start_timeout": start_timeout,
            "ping_interval": ping_interval,
            "ping_timeout": ping_timeout,
            "stream_count": stream_count,
            "stream_length": stream_length,
            "read_count": read_count,
        }
        for name, number in numbers.items():
            if not number > 0:
                raise ConfigError(f"adapter: {name} is greater than 0, not {number!r}")
        if not 0 <= return_timeout < math.inf:
            raise ConfigError(
                f"adapter: return_timeout is a number of seconds, 0 or more, not {return_timeout!r}"
            )
        self.address = parse_url(url, ssl_context)
        self.mode: Mode = mode
        self.key = key
        self.request_timeout = request_timeout
        self.timing = Timing(
            connect_timeout=connect_timeout,
            start_timeout=start_timeout,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            return_timeout=return_timeout,
        )
        self.own_responses = own_responses
        self.subscription_mode: SubscriptionMode = subscription_mode
        self.stream = stream
        self.stream_count = stream_count
        self.stream_length = stream_length
        self.read_count = read_count

    def __repr__(self) -> str:
        return f"<RedisAdapter {self.mode} at {self.address}>"

    def bus(self, host: BusHost) -> RedisBus:
        """Make the bus of a broker."""
        if self.mode == "classic":
            return ClassicBus(self, host)
        if self.mode == "sharded":
            return ShardedBus(self, host)
        return StreamsBus(self, host)


class RedisBus(ABC):
    """What the three modes have in common: one connection, and who hears which channel."""

    publish_verb = "PUBLISH"
    subscribe_verb = "SUBSCRIBE"

    def __init__(self, options: RedisAdapter, host: BusHost, uid: str) -> None:
        self._options = options
        self._host = evolve(host, report=self._report)
        self._report_on = host.report
        self.uid = uid
        self._routes = Routes(self._host, self.subscribe_verb)
        probe = (self.publish_verb, self.subscribe_verb, f"{options.key}-probe#{uid}")
        self._client = RedisClient(
            options.address,
            self._host,
            f"broker-{uid}",
            self._routes.on_push,
            options.timing,
            probe,
            self._common(),
        )
        self._routes.client = self._client

    @abstractmethod
    def link(self, local: LocalNamespace) -> Link:
        """Connect a namespace."""

    @abstractmethod
    def _common(self) -> tuple[str, str] | None:
        """Return how to count the nodes: the verb, and the channel that all of them hear."""

    def _report(self, gap: Gap) -> None:
        self._report_on(gap)

    @property
    def trouble(self) -> str | None:
        """Why this node is out of touch with the others; None if it is not."""
        return self._client.trouble

    async def run(  # noqa: ASYNC128 - the client says that it is started
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hold the connection until cancelled."""
        await self._client.run(task_status=task_status)


class ClassicBus(RedisBus):
    """Speaks as the classic adapter."""

    def __init__(self, options: RedisAdapter, host: BusHost) -> None:
        super().__init__(options, host, new_classic_uid())

    def _common(self) -> tuple[str, str]:
        return "NUMSUB", ClassicChannels(self._options.key, "/", self.uid).request

    def link(self, local: LocalNamespace) -> Link:
        """Connect a namespace."""
        options = self._options
        return ClassicLink(
            self.uid,
            local,
            self._host,
            self._client,
            self._routes,
            key=options.key,
            request_timeout=options.request_timeout,
            own_responses=options.own_responses,
        )


class ShardedBus(RedisBus):
    """Speaks as the sharded adapter."""

    publish_verb = "SPUBLISH"
    subscribe_verb = "SSUBSCRIBE"

    def __init__(self, options: RedisAdapter, host: BusHost) -> None:
        super().__init__(options, host, new_cluster_uid())

    def _common(self) -> tuple[str, str]:
        return "SHARDNUMSUB", ClusterChannels(self._options.key, "/").public

    def link(self, local: LocalNamespace) -> Link:
        """Connect a namespace."""
        channels = ClusterChannels(self._options.key, local.name, self._options.subscription_mode)
        carrier = ShardedCarrier(self.uid, local, self._host, self._client, self._routes, channels)
        link = ClusterLink(self.uid, local, self._host, carrier, self._options.request_timeout)
        carrier.open(link.receive)
        return link


class StreamsBus(RedisBus):
    """Speaks as the streams adapter: what is to be kept goes to a stream, read on from where it stopped."""

    def __init__(self, options: RedisAdapter, host: BusHost) -> None:
        super().__init__(options, host, new_cluster_uid())
        self._links: dict[str, ClusterLink] = {}
        self._readers: list[RedisClient] = []
        self._locals: dict[str, LocalNamespace] = {}
        self._log: StreamLog | None = None
        self._waiting_gap: Gap | None = None
        self._waiting_begun = 0.0
        self._incomplete = False

    def _common(self) -> None:
        """What must not be lost is in the stream, and nobody has to be there for it."""

    def link(self, local: LocalNamespace) -> Link:
        """Connect a namespace."""
        options = self._options
        stream = stream_name(options.stream, options.stream_count, local.name)
        carrier = StreamsCarrier(
            self.uid,
            local,
            self._host,
            self._client,
            self._routes,
            ClusterChannels(options.key, local.name),
            stream,
            options.stream_length,
        )
        link = ClusterLink(self.uid, local, self._host, carrier, options.request_timeout)
        carrier.open(link.receive)
        self._links[local.name] = link
        self._locals[local.name] = local
        carrier.closed = partial(self._forget, local.name)
        return link

    def _forget(self, namespace: str) -> None:
        self._links.pop(namespace, None)
        self._locals.pop(namespace, None)

    def share_log(self, window: float, max_sessions: int) -> SharedLog | None:
        """Let the stream number the events from now on; see `LogKeeper`. One stream only can."""
        options = self._options
        if options.stream_count > 1:
            return None
        uid, client, stream = self.uid, self._client, options.stream
        store = RedisSessions(uid, self._host, client, stream, window, max_sessions)
        store.is_alive = self._is_alive
        self._log = StreamLog(
            uid,
            self._host,
            client,
            stream,
            options.stream_length,
            self._locals,
            lambda: self.trouble,
            store,
        )
        store.catch_up = self._log.catch_up
        return self._log

    async def _is_alive(self, namespace: str, uid: str) -> bool:
        """Tell whether a node hears its own channel: a dead one does not, once its connection is closed."""
        channel = ClusterChannels(self._options.key, namespace).private(uid)
        reply = await self._client.ask("PUBSUB", "NUMSUB", channel)
        return int(reply[1]) > 0

    @property
    def trouble(self) -> str | None:
        """Why this node is out of touch with the others; None if it is not."""
        troubles = [self._client.trouble, *(reader.trouble for reader in self._readers)]
        return next((one for one in troubles if one is not None), None)

    def _take(self, entry_id: str, message: ClusterMessage, fields: Sequence[bytes]) -> None:
        if self._log is not None and self._log.take(entry_id, message, fields):
            return
        link = self._links.get(message.namespace)
        if link is not None:
            link.receive(message)

    def _report(self, gap: Gap) -> None:
        """Keep a gap until the stream says whether it has been filled; the next one is then part of it."""
        waiting = self._waiting_gap
        if self._incomplete:
            self._incomplete = False
            self._report_on(gap)
        elif waiting is None:
            self._waiting_gap = gap
            self._waiting_begun = trio.current_time() - gap.seconds
        else:
            self._waiting_gap = evolve(
                gap, unconfirmed=waiting.unconfirmed + gap.unconfirmed, lost=waiting.lost + gap.lost
            )

    def _continued(self, complete: bool) -> None:
        if self._log is not None:
            self._log.continued(complete)
        gap, self._waiting_gap = self._waiting_gap, None
        if gap is not None:
            seconds = trio.current_time() - self._waiting_begun
            self._report_on(evolve(gap, seconds=seconds, replayed=complete))
        elif not complete and self._client.trouble is not None:
            self._incomplete = True  # its gap is not over yet
        elif not complete:
            self._report_on(Gap("entries of the stream are missing", 0.0))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connections until cancelled."""
        self._readers.clear()
        with plain_error():
            async with trio.open_nursery() as nursery:
                await nursery.start(self._client.run)
                for stream in stream_names(self._options.stream, self._options.stream_count):
                    await self._start_reader(nursery, stream)
                if self._log is not None:
                    nursery.start_soon(self._log.watch)
                task_status.started()

    async def _start_reader(self, nursery: trio.Nursery, stream: str) -> None:
        options = self._options
        name = f"broker-{self.uid}-reader"
        quiet = evolve(self._host, report=lambda gap: None)  # the main connection reports
        # Reading blocks the connection: it is known to be alive by the answers.
        timing = evolve(options.timing, ping_interval=float("inf"))
        client = RedisClient(options.address, quiet, name, lambda push: None, timing)
        await nursery.start(client.run)
        self._readers.append(client)
        reader = StreamReader(client, stream, self._host, self._take, count=options.read_count, block=_BLOCK)
        reader.continued = self._continued
        if (log := self._log) is not None:
            # Every position has an entry, so that what is trimmed behind it can be told.
            await reader.begin_with(log.first_entry())
            reader.started = lambda: log.begin(reader.position)
        await nursery.start(reader.run)


_BLOCK: Final = 1.0  # seconds that one read waits


@contextmanager
def plain_error() -> Iterator[None]:
    """Let what failed alone leave as it is, in no group: the caller catches it by its type."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        error = group.exceptions[0]
        raise error.with_traceback(error.__traceback__) from error.__cause__
