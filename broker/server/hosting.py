"""Hands connections that are no WebSocket of ours to hypercorn; the one place that knows its inside."""

from __future__ import annotations

import logging
from typing import Any

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11WSConnection
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from protocol import Limits

from .replay import ReplayStream

logger = logging.getLogger(__name__)

_KEEP_ALIVE_TIMEOUT = 30.0  # a stock client polls again at once; nobody needs an idle connection longer


class _Http1Server(TCPServer):
    """hypercorn's server without its ways into HTTP/2: a request for it is one like any other.

    HTTP/2 has attacks of its own, such as streams that are reset as fast as they are opened, and nothing that
    long-polling gains by.
    """

    _is_read_to_end = False

    @property
    def protocol(self) -> ProtocolWrapper:
        return self._wrapper

    @protocol.setter
    def protocol(self, wrapper: ProtocolWrapper) -> None:
        self._wrapper = wrapper
        wrapper.protocol._check_protocol = _stay  # type: ignore[union-attr,method-assign]

    async def _read_data(self) -> None:
        """Read until the end; then end the wait for a next request, which would stay for its whole time."""
        await super()._read_data()
        self._is_read_to_end = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        """Send; an answer to a client that is gone must not begin another wait for a next request."""
        await super().protocol_send(event)
        if self._is_read_to_end and isinstance(event, Updated):
            await self.idle_task.stop()
        elif isinstance(event, RawData) and self._has_refused_websocket():
            # hypercorn says that it closes the connection then, and leaves it to the client.
            await self.idle_task.restart(self._task_group, self._idle_timeout)
            if self._is_read_to_end:
                await self.idle_task.stop()

    def _has_refused_websocket(self) -> bool:
        asked = getattr(self._wrapper.protocol, "connection", None)
        return isinstance(asked, H11WSConnection) and asked.h11_connection.our_state is h11.MUST_CLOSE


async def _stay(request: object) -> None:
    """Stay with HTTP/1.1, whatever the request asks for."""


class HttpHost:
    """Runs an ASGI application over connections that somebody else has accepted.

    Args:
        app: The ASGI application.
        limits: Bounds on request heads.
        max_payload_bytes: What a message of the broker's own may have.

    Attributes:
        state: What the application has left for its requests while it started, as ASGI's lifespan has it.
    """

    def __init__(self, app: Any, limits: Limits, max_payload_bytes: int) -> None:
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._config.errorlog = logging.getLogger("broker.http")
        self._config.include_server_header = False
        self._config.keep_alive_timeout = _KEEP_ALIVE_TIMEOUT
        self._config.h11_max_incomplete_size = limits.header_bytes
        # For the broker the exact bound is its own; this one holds for the application beside it as well.
        self._config.websocket_max_message_size = max(
            self._config.websocket_max_message_size, max_payload_bytes
        )
        self._config.websocket_ping_interval = None  # the heartbeat is Engine.IO's
        self._context = WorkerContext(None)
        self.state: dict[str, Any] = {}

    async def serve(self, stream: ReplayStream) -> None:
        """Serve one connection until it closes; it is closed then."""
        server = _Http1Server(self._app, self._config, self._context, self.state, stream)  # type: ignore[arg-type]  # it reads, sends and closes as a stream of Trio
        try:
            await server.run()
        except* h11.LocalProtocolError as group:
            # hypercorn refuses what comes behind a request for a WebSocket, and then answers once more.
            logger.debug("a connection broke the protocol: %r", group)
