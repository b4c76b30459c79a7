"""Keeps several processes running that serve one address: starts, replaces and ends them."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

import trio
from attrs import asdict, field, frozen

from broker.flow.scopes import cleanup_window

from .shared_ports import SharedPorts

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STABLE_AFTER = 30.0  # seconds of life after which the delay begins anew
MARGIN = 15.0  # seconds beyond the drain: handlers and transports have their own deadlines
READY = b"R"
BEAT = b"."
SLICES = 4  # of the time that a process may be silent


@frozen(kw_only=True)
class Place:
    """What a process is told of its place among the others.

    Attributes:
        number: Its number.
        count: How many there are.
        folder: Where the processes reach each other.
        control: File descriptor to the supervisor: a byte says that it is ready, further ones that it lives,
            the end that it must end.
        listening: File descriptors of its listening sockets.
        beat_interval: Seconds between two signs of life; 0: none are wanted.
    """

    number: int
    count: int
    folder: str
    control: int
    listening: tuple[int, ...]
    beat_interval: float = 0.0

    def to_text(self) -> str:
        """Return it as one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read it again."""
        fields = json.loads(text)
        return cls(**{**fields, "listening": tuple(fields["listening"])})


@frozen(kw_only=True)
class Crew:
    """What a supervisor runs.

    Attributes:
        count: How many processes.
        addresses: Where they listen together.
        command: Returns the command of a process for its `Place`.
        drain_timeout: Seconds that connections may take to end.
        scheme: `http` or `https`, for the log.
        worker_timeout: Seconds without a sign of life after which a process is replaced; 0: never. The
            default is longer than clients wait for a ping by default: those of the process are gone by then.
    """

    count: int
    addresses: Sequence[str]
    command: Callable[[Place], list[str]]
    drain_timeout: float = 30.0
    scheme: str = "http"
    worker_timeout: float = 60.0


@frozen
class Running:
    """A crew that serves.

    Attributes:
        urls: Where.
        pids: Process ids by number, of those that run at this moment.
    """

    urls: tuple[str, ...]
    pids: dict[int, int] = field(factory=dict)


async def supervise(  # noqa: ASYNC128 - the supervisor calls it
    crew: Crew, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> int:
    """Run the processes until SIGTERM or SIGINT, and drain then; a second signal ends them at once.

    Args:
        crew: What to run.
        task_status: Told once all of them listen.

    Returns:
        0 after a clean end; 1 if one had to be killed; the exit code of a process that could not start.

    Raises:
        OSError: An address cannot be listened on.

    Cancellation kills the processes. They also end by themselves when this process dies.
    """
    with (
        contextlib.closing(SharedPorts(crew.addresses)) as ports,
        tempfile.TemporaryDirectory(prefix="broker-", ignore_cleanup_errors=True) as folder,
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        return await _Supervisor(crew, ports, folder).run(signals, task_status)


class _Supervisor:
    def __init__(self, crew: Crew, ports: SharedPorts, folder: str) -> None:
        self._crew = crew
        self._ports = ports
        self._folder = folder
        self._processes: dict[int, trio.Process] = {}
        self._running = Running(ports.describe(crew.scheme))
        self._ending = trio.Event()
        self._exit_code = 0

    async def run(self, signals: AsyncIterator[int], task_status: trio.TaskStatus[Running]) -> int:
        async with trio.open_nursery() as beside:
            beside.start_soon(self._obey, signals)
            beside.start_soon(self._kill_late)
            async with trio.open_nursery() as nursery:
                # The first alone: what is wrong with all of them is then said once.
                for number in range(self._crew.count):
                    if not self._ending.is_set():
                        await nursery.start(self._keep, number)
                if not self._ending.is_set():
                    urls = " ".join(self._running.urls)
                    logger.info("listening on %s with %d workers (Ctrl-C to end)", urls, self._crew.count)
                    task_status.started(self._running)
            beside.cancel_scope.cancel()
        if not self._exit_code:
            logger.info("ended")
        return self._exit_code

    # The end

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            logger.info("received %s", signal.Signals(number).name)
            if not self._ending.is_set():
                timeout = self._crew.drain_timeout
                logger.info("ending: up to %g s for connections; Ctrl-C again to end at once", timeout)
            self._end()

    def _end(self, exit_code: int = 0) -> None:
        """Have all processes drain; called again, have them end at once."""
        self._exit_code = self._exit_code or exit_code
        self._ending.set()
        for process in self._processes.values():
            process.terminate()

    async def _kill_late(self) -> None:
        await self._ending.wait()
        await trio.sleep(self._crew.drain_timeout + MARGIN)
        for number, process in self._processes.items():
            logger.error("worker %d did not end in time and is killed", number)
            self._exit_code = 1
            process.kill()

    # One process after another in one place

    async def _keep(  # noqa: ASYNC128 - `_tell` calls it
        self, number: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run a process in this place, and another when it has died, until the end."""
        delay = FIRST_DELAY
        started = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, started, task_status)
            while True:
                begun = trio.current_time()
                exit_code = await self._run(number, started)
                if self._ending.is_set():
                    break
                if not started.is_set():
                    self._end(exit_code if exit_code > 0 else 1)
                    break
                if trio.current_time() - begun >= STABLE_AFTER:
                    delay = FIRST_DELAY
                logger.error("worker %d %s; another starts in %g s", number, _told(exit_code), delay)
                with trio.move_on_after(delay):
                    await self._ending.wait()
                    break
                delay = min(2 * delay, LONGEST_DELAY)
            started.set()

    async def _start(self, number: int) -> tuple[trio.Process, socket.socket]:
        """Start one process; return it, and the line to it.

        Raises:
            OSError: It cannot be started now.
        """
        with contextlib.ExitStack() as held:
            listening = self._ports.open()
            for one in listening:
                held.callback(one.close)
            ours, theirs = socket.socketpair()
            held.callback(theirs.close)
            place = Place(
                number=number,
                count=self._crew.count,
                folder=self._folder,
                control=theirs.fileno(),
                listening=tuple(one.fileno() for one in listening),
                beat_interval=self._crew.worker_timeout / SLICES / 2,
            )
            try:
                # A group of its own: Ctrl-C in a terminal must come from here alone, or it would come twice.
                process = await trio.lowlevel.open_process(
                    self._crew.command(place),
                    stdin=subprocess.DEVNULL,
                    pass_fds=(place.control, *place.listening),
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        return process, ours

    async def _run(self, number: int, started: trio.Event) -> int:
        """Run one process until it ends; return its exit code."""
        try:
            process, ours = await self._start(number)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", number, error)
            return 1
        self._processes[number] = process
        self._running.pids[number] = process.pid
        control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        try:
            async with control, trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, number, process, control, started)
                if self._ending.is_set():
                    process.terminate()
                exit_code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            del self._processes[number]
            del self._running.pids[number]
            process.kill()  # nothing if it has ended
            with cleanup_window(MARGIN):
                await process.wait()  # noqa: ASYNC102 - the window is shielded and has a deadline
        if self._ending.is_set() and exit_code not in (0, -signal.SIGTERM):
            self._exit_code = self._exit_code or 1
        return exit_code

    async def _hear(
        self, number: int, process: trio.Process, control: trio.SocketStream, started: trio.Event
    ) -> None:
        """Hear that a process is ready, and kill it if it is silent for too long after that."""
        if await control.receive_some(1) != READY:
            return
        started.set()
        timeout = self._crew.worker_timeout
        silent = await _silence(control, timeout) if timeout else None
        # At the end a process stops its signs of life before it is gone; for that there is another deadline.
        if silent is not None and not self._ending.is_set():
            logger.error("worker %d hangs: silent for %.1f s, and killed", number, silent)
            process.kill()


async def _tell(started: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    await started.wait()
    task_status.started()


async def _silence(control: trio.abc.ReceiveStream, timeout: float) -> float | None:
    """Wait until a process is silent for that long; return the seconds, or None if it has closed the line.

    The time is counted in slices, and one in which this process itself was held up, or the whole machine,
    counts as one: what the others said meanwhile is heard first.
    """
    heard = trio.current_time()
    missed = 0
    while missed < SLICES:
        with trio.move_on_after(timeout / SLICES):
            if not await control.receive_some():
                return None
            heard = trio.current_time()
            missed = 0
            continue
        missed += 1
    return trio.current_time() - heard


def _told(exit_code: int) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


async def watch_supervisor(control: socket.socket, beat_interval: float = 0.0) -> None:
    """Say that this process is ready, then that it lives, and return when the supervisor is gone.

    Args:
        control: The socket to it.
        beat_interval: Seconds between two signs of life; 0: none.
    """
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
    async with stream, trio.open_nursery() as nursery:
        try:
            await stream.send_all(READY)
            if beat_interval:
                nursery.start_soon(_beat, stream, beat_interval)
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            logger.debug("the supervisor is gone")
        nursery.cancel_scope.cancel()


async def _beat(stream: trio.SocketStream, interval: float) -> None:
    """Show again and again that the loop of this process turns."""
    with contextlib.suppress(trio.BrokenResourceError):  # who reads will notice
        while True:
            await trio.sleep(interval)
            await stream.send_all(BEAT)
