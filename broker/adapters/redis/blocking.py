"""A connection to a Redis server for programs without an event loop: one command, one reply."""

from __future__ import annotations

import selectors
import socket
from importlib import import_module
from threading import Lock
from typing import Any

from broker.adapters.errors import BusError, BusRefused, BusUnavailable
from protocol.bus.commands import Part, write_command

from .address import RedisAddress
from .replies import check_hello, refusal


class BlockingConnection:
    """Connects when it is first needed, and anew after a loss. May be shared by threads.

    Args:
        address: Where.
        timeout: Seconds for each step: connecting, sending, a reply.
    """

    def __init__(self, address: RedisAddress, timeout: float) -> None:
        self._hiredis: Any = import_module("hiredis")
        self._address = address
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._reader: Any = None
        self._turn = Lock()

    def ask(self, *parts: Part) -> Any:
        """Send a command, once at most, and return its reply.

        Raises:
            BusUnavailable: The server cannot be reached, or its reply did not come: it may have been heard.
            BusRefused: The server answers with an error.
        """
        with self._turn:
            try:
                if self._socket is not None and _is_closed(self._socket):
                    self._drop()
                if self._socket is None:
                    self._connect()
                return self._exchange(parts, str(parts[0]))
            except BusError:
                raise
            except OSError as error:
                self._drop()
                raise BusUnavailable(f"no answer from Redis at {self._address}: {error}") from error
            except BaseException:
                # A signal handler has raised: the reply that is still due would be taken for the next one.
                self._drop()
                raise

    def _connect(self) -> None:
        self._socket = self._open()
        self._reader = self._hiredis.Reader()
        address = self._address
        hello: list[Part] = ["HELLO", "3"]
        if address.password is not None:
            hello += ["AUTH", address.username or "default", address.password]
        try:
            check_hello(self._exchange(hello, "logging in"))
            if address.database:
                self._exchange(("SELECT", address.database), "choosing the database")
        except (BusRefused, BusUnavailable):
            self._drop()
            raise

    def _open(self) -> socket.socket:
        address = self._address
        if address.path is not None:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                plain.settimeout(self._timeout)
                plain.connect(address.path)
            except BaseException:
                plain.close()
                raise
            return plain
        plain = socket.create_connection((address.host, address.port), self._timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.ssl_context is None:
            return plain
        return address.ssl_context.wrap_socket(plain, server_hostname=address.host)

    def _exchange(self, parts: Any, doing: str) -> Any:
        assert self._socket is not None
        self._socket.sendall(write_command(parts))
        while True:
            try:
                reply = self._reader.gets()
            except Exception as error:
                raise OSError(f"this is not the Redis protocol: {error}") from None
            if isinstance(reply, self._hiredis.ReplyError):
                raise refusal(str(reply), doing)
            if reply is not False:
                return reply
            data = self._socket.recv(65_536)
            if not data:
                raise OSError("the Redis server has closed the connection")
            self._reader.feed(data)

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the connection; the next command makes a new one."""
        with self._turn:
            self._drop()


def _is_closed(idle: socket.socket) -> bool:
    """Tell whether the server has closed a connection on which nothing is due: what is sent there is lost."""
    with selectors.DefaultSelector() as selector:
        selector.register(idle, selectors.EVENT_READ)
        return bool(selector.select(0))
