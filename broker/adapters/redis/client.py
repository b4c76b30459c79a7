"""One connection to a Redis server that comes back by itself, and says what may have been lost meanwhile.

Commands and subscriptions share the connection, so that their order is the server's. What is to be sent waits
in one queue with a budget of bytes; what comes in is handed on at once, by the task that reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import trio

from broker.adapters.base import BusHost, Gap
from broker.adapters.errors import BusError, BusRefused, BusUnavailable
from broker.flow.scopes import outliving
from protocol.bus.commands import Part, write_command

from .address import RedisAddress
from .barrier import COUNT_INTERVAL, Barrier
from .opening import RECEIVE_BYTES, next_reply, open_connection
from .outgoing import Command, Outgoing, Waiter
from .replies import refusal
from .subscriptions import Subscriptions, opposite, write_subscriptions
from .timing import Timing, delays

logger = logging.getLogger(__name__)

_CONFIRMATIONS: Final = (b"subscribe", b"unsubscribe", b"ssubscribe", b"sunsubscribe")

_NOT_YET: Final = "not connected yet"

Push = Callable[[list[Any]], None]


class RedisClient:
    """One connection to a server.

    Args:
        address: Where.
        host: The broker's side.
        name: Shown by the server in `CLIENT LIST`.
        on_push: Called with each message: kind, channel, payload.
        timing: How patient it is.
        probe: Command and subscription for the loop-back probe, `("PUBLISH", "SUBSCRIBE", channel)`; None:
            it is only asked to answer.
        common: How to count the nodes, `("NUMSUB", channel)`: after a return, publications wait until as many
            are there as before; None sends at once.

    Attributes:
        trouble: Why it is of no use now; None if it is.
    """

    def __init__(
        self,
        address: RedisAddress,
        host: BusHost,
        name: str,
        on_push: Push,
        timing: Timing,
        probe: tuple[str, str, str] | None = None,
        common: tuple[str, str] | None = None,
    ) -> None:
        self._hiredis: Any = import_module("hiredis")
        self._reader: Any = None
        self._address = address
        self._host = host
        self._name = name
        self._on_push = on_push
        self._timing = timing
        self._probe = probe
        self._probed: bytes = b""
        self._heard_probe = trio.Event()
        self._outgoing = Outgoing(host.limits.bus_buffer_bytes)
        self._subscriptions = Subscriptions(common[1] if common else None)
        self._barrier: Barrier | None = None
        if common is not None and timing.return_timeout > 0:
            self._barrier = Barrier(self.ask, *common, timing.return_timeout)
        self._scope: trio.CancelScope | None = None
        self._runs = False
        self._lost = 0
        self._lost_cause = ""
        self._lost_since = 0.0
        self._last_heard = 0.0
        self.trouble: str | None = _NOT_YET

    # Sending

    def send(self, *parts: Part) -> bool:
        """Queue a command whose reply nobody needs; False if there is no room, or if it does not run.

        It is sent once at most. While the server is away it waits, and after that for the other nodes.
        """
        if not self._runs:
            return False
        taken = self._outgoing.offer(Command(write_command(parts)))
        if not taken:
            self._host.events["bus buffer full"] += 1
            self._note_lost("the bus buffer was full")
        return taken

    def _note_lost(self, cause: str) -> None:
        if not self._lost:
            self._lost_cause, self._lost_since = cause, trio.current_time()
        self._lost += 1

    async def ask(self, *parts: Part, timeout: float | None = None, messages: int = 1) -> Any:
        """Send a command and return its reply.

        Args:
            parts: The command.
            timeout: Seconds; None takes the time of a probe.
            messages: How many messages of the bus the reply may hold.

        Raises:
            BusUnavailable: The server is away, or does not answer in time.
            BusRefused: It answers with an error.
        """
        if self.trouble is not None:
            await trio.lowlevel.checkpoint()
            raise BusUnavailable(self.trouble)
        waiter = Waiter()
        self._outgoing.put(Command(write_command(parts), waiter, messages=messages))
        return await self._wait(waiter, str(parts[0]), timeout)

    async def _wait(self, waiter: Waiter, doing: str, timeout: float | None = None) -> Any:
        try:
            with trio.move_on_after(self._timing.ping_timeout if timeout is None else timeout):
                await waiter.done.wait()
        finally:
            waiter.left = True
        if not waiter.done.is_set() or waiter.lost:
            raise BusUnavailable(f"{doing}: the Redis server has not answered")
        if isinstance(waiter.reply, self._hiredis.ReplyError):
            raise refusal(str(waiter.reply), doing)
        return waiter.reply

    # Subscribing; what is subscribed to is remembered

    def subscribe(self, verb: str, channel: str) -> None:
        """Hear a channel, now and after each return; `verb` is SUBSCRIBE or SSUBSCRIBE."""
        if self._subscriptions.add((verb, channel)):
            self._control(verb, channel)

    def unsubscribe(self, verb: str, channel: str) -> None:
        """Hear a channel no longer."""
        if self._subscriptions.remove((verb, channel)):
            self._control(*opposite((verb, channel)))

    def _control(self, verb: str, channel: str) -> None:
        # Answered by a push, not by a reply; sent anew as a whole when the server has been away.
        if self.trouble is None:
            self._outgoing.put(Command(write_command((verb, channel)), has_reply=False))

    # Living

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the connection until cancelled; then send what is queued, within the time for endings.

        Raises:
            BusError: The server cannot be reached when it begins.
        """
        self._runs = True
        try:
            stream = await self._start()
            async with outliving(lambda: self._stay(stream), self._flush, self._host.limits.close_timeout):
                task_status.started()
                await trio.sleep_forever()
        finally:
            # A broker that is opened again must wait for no answers to what was sent before.
            self._runs = False
            self._give_up()
            self._outgoing = Outgoing(self._host.limits.bus_buffer_bytes)
            self.trouble = _NOT_YET

    async def _start(self) -> trio.abc.Stream:
        error: Exception = BusUnavailable("the Redis server cannot be reached in time")
        with trio.move_on_after(self._timing.start_timeout):
            for delay in delays():
                try:
                    return await self._connect()
                except BusRefused:
                    raise
                except (OSError, BusError, trio.BrokenResourceError, trio.TooSlowError) as failure:
                    error = failure
                await trio.sleep(delay)
        raise BusUnavailable(f"no connection to Redis at {self._address}: {_worded(error)}") from error

    async def _stay(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._live(stream)
            logger.warning("connection to Redis at %s lost: %s", self._address, self.trouble)
            stream = await self._return(self._sure_until(), self._give_up())

    async def _return(self, since: float, unconfirmed: int) -> trio.abc.Stream:
        """Connect again, for as long as it takes; report the gap."""
        cause = self.trouble or "connection lost"
        for delay in delays():
            try:
                stream = await self._connect()
                break
            except (OSError, BusError, trio.BrokenResourceError, trio.TooSlowError) as error:
                logger.info("no connection to Redis at %s: %s", self._address, _worded(error))
            await trio.sleep(delay)
        else:
            raise AssertionError("delays do not end")
        lost, self._lost = self._lost, 0
        self._host.report(Gap(cause, trio.current_time() - since, unconfirmed, lost))
        return stream

    def _sure_until(self) -> float:
        """Return up to when nothing can be missing, here or at the other nodes."""
        oldest = next(self._outgoing.publications(), None)
        return self._last_heard if oldest is None else min(self._last_heard, oldest.queued_at)

    def _give_up(self) -> int:
        """Settle what was sent and not answered; return how many publications are among it."""
        unconfirmed = self._outgoing.give_up()
        self._host.events["unconfirmed bus message"] += unconfirmed
        return unconfirmed

    async def _connect(self) -> trio.abc.Stream:
        """Connect, log in, and subscribe anew; the answer to all of it is read."""
        heard = self._subscriptions.all()
        with trio.fail_after(self._timing.connect_timeout):
            stream, self._reader = await open_connection(
                self._address, self._name, write_subscriptions(heard), self._on_push
            )
        self.trouble = None
        self._last_heard = trio.current_time()
        if self._barrier is None:
            self._outgoing.release()
        for change in self._subscriptions.changes_since(heard):
            self._control(*change)
        return stream

    async def _live(self, stream: trio.abc.Stream) -> None:
        """Read, write and probe until the connection is lost; `trouble` says why."""
        tasks = [self._read, self._write, self._watch]
        if self._barrier is not None:
            tasks.append(self._gather)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                for task in tasks:
                    nursery.start_soon(self._guard, task, stream)
        finally:
            self._scope = None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(stream)

    async def _guard(self, task: Callable[[trio.abc.Stream], Any], stream: trio.abc.Stream) -> None:
        try:
            await task(stream)
        except (OSError, BusError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._lose(_worded(error))

    def drop(self, cause: str) -> None:
        """Give a connection up that has shown to be of no use; a new one is made."""
        self._lose(cause)

    def _lose(self, cause: str) -> None:
        if self.trouble is None:
            self.trouble = cause
        if self._scope is not None:
            self._scope.cancel()

    async def _read(self, stream: trio.abc.Stream) -> None:
        push_type = self._hiredis.PushNotification
        pending = 0
        while True:
            reply = next_reply(self._reader)
            while reply is not False:
                pending = 0
                if isinstance(reply, push_type):
                    self._take_push(reply)
                else:
                    self._take_reply(reply)
                reply = next_reply(self._reader)
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise BusUnavailable("the Redis server has closed the connection")
            self._last_heard = trio.current_time()
            pending += len(data)
            due = self._outgoing.oldest_sent
            messages = 1 if due is None else due.messages
            if pending > 4 * messages * self._host.limits.bus_message_bytes:
                self._host.events["oversized bus message"] += 1
                raise BusUnavailable("a message on the bus is far too large")
            self._reader.feed(data)

    def _take_push(self, push: list[Any]) -> None:
        if push[0] in _CONFIRMATIONS:
            sent = self._outgoing.oldest_sent
            if sent is not None and not sent.has_reply:
                self._outgoing.answered()
        elif self._probe is not None and push[1] == self._probe[2].encode():
            if push[2] == self._probed:
                self._heard_probe.set()
        else:
            self._on_push(push)

    def _take_reply(self, reply: Any) -> None:
        command = self._outgoing.oldest_sent
        if command is None:
            raise BusUnavailable(f"the Redis server answers what was not asked: {str(reply)[:100]!r}")
        self._outgoing.answered()
        waiter = command.waiter
        if not command.has_reply:
            # A subscription is confirmed by a push: this is an error.
            error = refusal(str(reply), "subscribing")
            logger.error("%s", error)
            raise error
        if waiter is not None:
            waiter.settle(reply)
        elif isinstance(reply, self._hiredis.ReplyError):
            self._host.events["refused publication"] += 1
            error = refusal(str(reply), "publishing")
            self._note_lost(str(error))
            if isinstance(error, BusRefused):
                logger.error("%s", error)

    async def _write(self, stream: trio.abc.Stream) -> None:
        while True:
            await stream.send_all(await self._outgoing.take())

    async def _gather(self, stream: trio.abc.Stream) -> None:
        """Let what is held go once the other nodes are back too; then go on counting them."""
        barrier = self._barrier
        assert barrier is not None
        if self._outgoing.holds:
            await barrier.wait()
            self._outgoing.release()
            self._report_lost()
        while True:
            await barrier.count()
            await trio.sleep(min(COUNT_INTERVAL, self._timing.ping_interval))

    def _report_lost(self) -> None:
        """Report what was lost though the connection stands: found no room, or was refused."""
        lost, self._lost = self._lost, 0
        if lost:
            self._host.report(Gap(self._lost_cause, trio.current_time() - self._lost_since, 0, lost))

    async def _watch(self, stream: trio.abc.Stream) -> None:
        """Look again and again whether the server answers, and whether what is published comes back."""
        if self._probe is not None:
            _, subscribe, channel = self._probe
            self.subscribe(subscribe, channel)
        number = 0
        while True:
            await trio.sleep(self._timing.ping_interval)
            number += 1
            await self._look(number)
            if not self._outgoing.holds:
                self._report_lost()

    async def _look(self, number: int) -> None:
        if self._probe is None:
            await self.ask("PING")
            return
        publish, _, channel = self._probe
        self._probed = b"%d" % number
        self._heard_probe = trio.Event()
        started = trio.current_time()
        await self.ask(publish, channel, self._probed)
        with trio.move_on_after(started + self._timing.ping_timeout - trio.current_time()):
            await self._heard_probe.wait()
        if not self._heard_probe.is_set():
            self._host.events["deaf to the bus"] += 1
            raise BusUnavailable("the Redis server answers, but what is published does not come back")

    async def _flush(self) -> None:
        """Wait until what is queued has been sent and answered; for other nodes there is no time."""
        await trio.lowlevel.checkpoint()  # those who asked, and are cancelled too, want no answer then
        if self.trouble is None and self._outgoing.is_wanted:
            self._outgoing.release()
            await self._outgoing.settle()


def _worded(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "it does not answer"
    if isinstance(error, trio.BrokenResourceError):
        error = error.__cause__ or error
    return str(error) or type(error).__name__


def is_message(push: Sequence[Any]) -> bool:
    """Tell whether a push is a message of a channel, and not the confirmation of a subscription."""
    return len(push) == 3 and push[0] in (b"message", b"smessage")
