"""Opens a connection to a Redis server: greets it, logs in, and subscribes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import trio

from broker.adapters.errors import BusUnavailable
from protocol.bus.commands import Part, write_command

from .address import RedisAddress
from .replies import check_hello, refusal

RECEIVE_BYTES = 65_536


async def open_connection(
    address: RedisAddress, name: str, subscriptions: bytes, on_push: Callable[[list[Any]], None]
) -> tuple[trio.abc.Stream, Any]:
    """Open a connection; return it with the parser that has read from it.

    Raises:
        OSError: The server cannot be reached.
        BusError: It answers with an error, or is of no use as a bus.
    """
    stream = await address.connect()
    try:
        opening = _Opening(stream, on_push)
        await opening.greet(address, name)
        # The answers to subscriptions are pushes; the one to PING says that they are done.
        await opening.ask("subscribing", subscriptions + write_command(("PING",)))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream, opening.reader


def next_reply(reader: Any) -> Any:
    """Return the next reply that has been read whole; False if there is none.

    Raises:
        BusUnavailable: What was read is not the protocol.
    """
    try:
        return reader.gets()
    except Exception as error:
        raise BusUnavailable(f"this is not the Redis protocol: {error}") from None


class _Opening:
    def __init__(self, stream: trio.abc.Stream, on_push: Callable[[list[Any]], None]) -> None:
        self._hiredis: Any = import_module("hiredis")
        self._stream = stream
        self._on_push = on_push
        self.reader: Any = self._hiredis.Reader()

    async def greet(self, address: RedisAddress, name: str) -> None:
        hello: list[Part] = ["HELLO", "3"]
        if address.password is not None:
            hello += ["AUTH", address.username or "default", address.password]
        check_hello(await self.ask("logging in", write_command((*hello, "SETNAME", name))))
        if address.database:
            select = write_command(("SELECT", address.database))
            await self.ask("choosing the database", select)

    async def ask(self, doing: str, commands: bytes) -> Any:
        await self._stream.send_all(commands)
        while True:
            reply = next_reply(self.reader)
            if isinstance(reply, self._hiredis.PushNotification):
                self._on_push(reply)
            elif isinstance(reply, self._hiredis.ReplyError):
                raise refusal(str(reply), doing)
            elif reply is not False:
                return reply
            else:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    raise BusUnavailable("the Redis server has closed the connection")
                self.reader.feed(data)
