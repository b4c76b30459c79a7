"""The terminal client: tail what comes in, and say what is typed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, TextIO

import trio
from attrs import field, frozen

from broker import (
    AckTimeout,
    Backoff,
    BrokerError,
    Client,
    ClientReason,
    ClientSocket,
    ConnectError,
    open_client,
)
from broker.cli.errors import EXIT_FAILED, CommandError
from broker.cli.screen import Screen

HELP = "emit [/NAMESPACE] EVENT JSON... | call [/NAMESPACE] EVENT JSON... | join /NS | leave /NS | quit"


@frozen(kw_only=True)
class Plan:
    """What the command line asks for.

    Attributes:
        url: The server.
        options: Options of `open_client`.
        once: Commands to carry out before ending, `emit ...` and `call ...`; with none it goes on.
        timeout: Seconds to wait for an ack.
    """

    url: str
    options: dict[str, Any]
    once: Sequence[str] = field(factory=list)
    timeout: float = 10.0


class Quit(Exception):
    """The user has had enough."""


def parse_values(text: str) -> list[Any]:
    """Read JSON values with blanks between them.

    Raises:
        ValueError: It is something else; the message says where.
    """
    values: list[Any] = []
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            raise ValueError(f"not JSON: {text[:40]} (text goes into double quotes)") from None
        values.append(value)
        text = text[end:].lstrip()
    return values


def parse_sending(verb: str, text: str) -> tuple[str | None, str, list[Any]]:
    """Read `[/NAMESPACE] EVENT JSON...`; the namespace is None if there is none.

    Raises:
        ValueError: It is something else; the message says where.
    """
    name = None
    if text.startswith("/"):
        name, _, text = text.partition(" ")
    event, _, values = text.strip().partition(" ")
    if not event:
        raise ValueError(f"{verb} needs the name of an event")
    return name, event, parse_values(values)


async def read_line(stream: TextIO) -> str:
    """Read a line, empty at the end; a wait that is cancelled leaves its thread to the end of the process."""
    return await trio.to_thread.run_sync(stream.readline, abandon_on_cancel=True)


class Terminal:
    """One run of the terminal client."""

    def __init__(self, plan: Plan, client: Client, screen: Screen) -> None:
        self._plan = plan
        self._client = client
        self._screen = screen
        self._main = next(iter(client.sockets))
        self.failed = False
        for socket in tuple(client.sockets.values()):
            self._watch(socket)

    def _watch(self, socket: ClientSocket) -> None:
        def connect() -> None:
            self._screen.show("connect", socket.name, id=socket.id, transport=self._client.transport)

        def disconnect(reason: ClientReason) -> None:
            self._screen.show("disconnect", socket.name, str(reason))

        def connect_error(error: ConnectError) -> None:
            self._screen.show(
                "error", socket.name, error.message, None if error.data is None else [error.data]
            )
            if not error.retryable:
                self.failed = True

        for handler in (connect, disconnect, connect_error):
            socket.on(handler.__name__)(handler)

    async def tail(self) -> None:
        """Show the events until none can come any more."""
        try:
            async for event in self._client:
                note = "(wants an ack)" if event.wants_ack else None
                self._screen.show("event", event.namespace, event.name, list(event.args), ack=note)
        except ConnectError:
            self.failed = True

    async def obey(self, line: str, nursery: trio.Nursery) -> None:
        """Carry out one line.

        Raises:
            Quit: It says so.
        """
        verb, _, rest = line.partition(" ")
        rest = rest.strip()
        try:
            if verb == "quit":
                raise Quit
            if verb == "join":
                self._join(rest)
            elif verb == "leave":
                self._socket(rest).disconnect()
            elif verb in ("emit", "call"):
                await self._send(verb, rest, nursery)
            elif line:
                self._screen.show("error", self._main, f"there is no such command: {HELP}")
        except (ValueError, BrokerError) as error:
            self._screen.show("error", self._main, str(error))
            self.failed = True

    def _join(self, name: str) -> None:
        known = name in self._client.sockets
        socket = self._client.of(name)
        if not known:
            self._watch(socket)
        socket.connect()

    async def _send(self, verb: str, rest: str, nursery: trio.Nursery) -> None:
        name, event, values = parse_sending(verb, rest)
        socket = self._socket(self._main if name is None else name)
        if verb == "emit":
            await socket.send_event(event, *values)
        else:
            nursery.start_soon(self._call, socket, event, values)

    def _socket(self, name: str) -> ClientSocket:
        if name not in self._client.sockets:
            raise ValueError(
                f"not in {name}: join it first" if name else "leave needs the name of a namespace"
            )
        return self._client.of(name)

    async def _call(self, socket: ClientSocket, event: str, values: list[Any]) -> None:
        began = trio.current_time()
        try:
            answer = await socket.call(event, *values, timeout=self._plan.timeout)
        except (AckTimeout, BrokerError) as error:
            self._screen.show("error", socket.name, f"{event}: {error}")
            self.failed = True
            return
        milliseconds = round((trio.current_time() - began) * 1000, 2)
        answers = list(answer) if isinstance(answer, tuple) else [] if answer is None else [answer]
        self._screen.show("ack", socket.name, event, answers, took=f"{milliseconds} ms")


async def run(plan: Plan, screen: Screen, source: TextIO) -> int:
    """Connect, and go on until told to end.

    Args:
        plan: What the command line asks for.
        screen: Where to show what happens.
        source: Where commands are typed.

    Returns:
        The exit code: 0; 1 if the server refused, or a command failed that was to be carried out once.

    Raises:
        CommandError: The options, or what is to be sent, cannot be.
    """
    options = dict(plan.options)
    options["reconnect"] = None if plan.once else Backoff()
    try:
        for line in plan.once:
            verb, _, rest = line.partition(" ")
            parse_sending(verb, rest)
        async with open_client(plan.url, **options) as client:
            return await _converse(plan, Terminal(plan, client, screen), client, source)
    except (ValueError, ModuleNotFoundError) as error:
        raise CommandError(str(error)) from error


async def _converse(plan: Plan, terminal: Terminal, client: Client, source: TextIO) -> int:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as tailing:
            tailing.start_soon(_tail, terminal, tailing.cancel_scope)
            tailing.start_soon(_end_at_signal, signals, terminal, tailing.cancel_scope)
            if plan.once:
                await _carry_out(plan, terminal, client)
                tailing.cancel_scope.cancel()
            else:
                await _listen(terminal, source, tailing)
    failed = terminal.failed and (bool(plan.once) or not client.active)
    return EXIT_FAILED if failed else 0


async def _tail(terminal: Terminal, scope: trio.CancelScope) -> None:
    await terminal.tail()
    scope.cancel()


async def _end_at_signal(signals: AsyncIterator[int], terminal: Terminal, scope: trio.CancelScope) -> None:
    await anext(signals)
    terminal.failed = True  # what was to be carried out once has not been
    scope.cancel()


async def _carry_out(plan: Plan, terminal: Terminal, client: Client) -> None:
    try:
        await client.wait_connected()
    except BrokerError:
        terminal.failed = True
        await trio.lowlevel.checkpoint()  # the handler of the error shows it
        return
    async with trio.open_nursery() as nursery:
        for line in plan.once:
            await terminal.obey(line, nursery)


async def _listen(terminal: Terminal, source: TextIO, tailing: trio.Nursery) -> None:
    """Obey what is typed, up to the end of a terminal, or of a pipe that has said something."""
    # The end of /dev/null, which says nothing, is no reason to stop the tailing.
    over = source.isatty()
    try:
        async with trio.open_nursery() as calls:
            while line := await read_line(source):
                over = True
                await terminal.obey(line.strip(), calls)
    except* Quit:
        over = True
    if over:
        tailing.cancel_scope.cancel()


def colour_wanted(no_color: bool, environ_no_color: str | None) -> bool:
    """Tell whether to colour: on a terminal, unless an option or NO_COLOR says otherwise."""
    return not no_color and not environ_no_color and sys.stdout.isatty()
