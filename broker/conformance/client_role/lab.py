"""The laboratory of one situation: listens, and sends the client's requests to their sessions."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from broker.conformance.cases import Deviation, Late, Skip
from broker.conformance.transcript import RecordingStream, Transcript
from protocol import Refusal

from .requests import Request, read_requests
from .session import DEADLINE, ClientSession

FIRST_DEADLINE = 30.0
"""Seconds that a client may take to start, on a machine that has other work too."""

REMIND = 5.0
"""Seconds after which a person is told that a client is missing."""

END_TIMEOUT = 5.0
"""Seconds that a client's program has to end when it is asked to; then it is killed."""

RunClient = Callable[[str, str], Awaitable[object]]


async def end_program(program: trio.Process) -> None:
    """Ask a program to end, and kill it when it does not; for `deliver_cancel` of `trio.run_process`.

    Trio's own way warns before it kills. Where warnings are errors the warning is raised in place of the
    kill, and the wait for the end of the program, which nothing can cancel, has no end.
    """
    program.terminate()
    await trio.sleep(END_TIMEOUT)
    program.kill()


@dataclass(frozen=True, slots=True)
class Meeting:
    """How clients come to the kit.

    Attributes:
        host: Where to listen.
        port: The port; with a command each situation has one of its own.
        command: Starts a client; `{url}` and `{transports}` are replaced. None: a person does, or `client`.
        wait: Seconds to wait for a client's first request.
        tell: Called with a line for the person who starts the clients.
        client: Runs a client in this program, given the URL and the transports, until it is cancelled.
    """

    host: str
    port: int
    command: str | None
    wait: float = FIRST_DEADLINE
    tell: Callable[[str], object] | None = None
    client: RunClient | None = None

    @property
    def by_hand(self) -> bool:
        """Whether a person starts the clients."""
        return self.command is None and self.client is None

    @property
    def url(self) -> str:
        """Where clients come to, if a person starts them."""
        return f"http://{self.host}:{self.port}"


class ClientLab:
    """What a situation works with.

    Attributes:
        sessions: The sessions that exist, by id.
        strangers: Requests that name no session: handshakes; None, if the client's program has failed.
        started: When the situation began.
        unknown: How requests that name another session are refused.
    """

    def __init__(self, meeting: Meeting, transcript: Transcript, nursery: trio.Nursery) -> None:
        self.sessions: dict[str, ClientSession] = {}
        self.started = trio.current_time()
        self.unknown = Refusal.SESSION_UNKNOWN
        self._meeting = meeting
        self._transcript = transcript
        self._nursery = nursery
        self._ids = 0
        self._in, self._requests = trio.open_memory_channel[Request](math.inf)
        self._to_strangers, self.strangers = trio.open_memory_channel[Request | None](math.inf)
        self._failure = ""
        self._came = False
        self.transports = ""

    def new_id(self) -> str:
        """Make an id of the usual form."""
        self._ids += 1
        return f"conformanceKit{self._ids:06d}"

    def start_soon(self, function: Any, *args: Any) -> None:
        """Run something beside the situation."""
        self._nursery.start_soon(function, *args)

    async def listen(self, transports: str) -> None:
        """Listen, and start the client if there is a command."""
        self.transports = transports
        port = self._meeting.port if self._meeting.by_hand else 0
        listeners = await trio.open_tcp_listeners(port, host=self._meeting.host)
        serve = partial(trio.serve_listeners, self._serve, listeners)
        await self._nursery.start(serve)
        self._nursery.start_soon(self._dispatch)
        url = f"http://{self._meeting.host}:{listeners[0].socket.getsockname()[1]}"
        if self._meeting.client is not None:
            self._nursery.start_soon(self._meeting.client, url, transports)
        elif self._meeting.command is not None:
            words = [
                word.replace("{url}", url).replace("{transports}", transports)
                for word in shlex.split(self._meeting.command)
            ]
            self._nursery.start_soon(self._run, words)

    async def _run(self, words: list[str]) -> None:
        # Cancelling ends the client: this process started it.
        done = await trio.run_process(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            deliver_cancel=end_program,
        )
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        text = f"the client's program ended with code {done.returncode}" + "".join(
            f": {line}" for line in said[-1:]
        )
        self._transcript.note(text)
        if done.returncode:
            self._failure = text
            self._to_strangers.send_nowait(None)

    async def _remind(self) -> None:
        """Tell the person what to do, if no client comes by itself."""
        await trio.sleep(REMIND)
        if not self._came and self._meeting.tell is not None:
            self._meeting.tell(
                f"      nobody has come yet: start the client, or start it again, at {self._meeting.url} "
                f"with the transports {self.transports}\n"
            )

    async def _serve(self, stream: trio.SocketStream) -> None:
        await read_requests(RecordingStream(stream, self._transcript, "S>", "C>"), self._in)

    async def _dispatch(self) -> None:
        async for request in self._requests:
            session = self.sessions.get(request.sid or "")
            if session is not None:
                self._nursery.start_soon(session.on_request, request)
            elif request.sid is not None:
                body = {"code": self.unknown.code, "message": self.unknown.message}
                request.respond(self.unknown.status, json.dumps(body), content_type="application/json")
            else:
                self._to_strangers.send_nowait(request)

    async def handshake(self, within: float | None = None) -> Request:
        """Wait for a handshake.

        Raises:
            Skip: No client came at all.
            Late: None came in time, though one had been there before.
        """
        first = within is None
        if first and self._meeting.tell is not None:
            self._nursery.start_soon(self._remind)
        seconds = self._meeting.wait if within is None else within
        with trio.move_on_after(seconds):
            request = await self.strangers.receive()
            if request is None:
                raise (Skip if first else Deviation)(self._failure)
            self._came = True
            wanted = self.transports.split(",")[0]
            if first and self._meeting.by_hand and wanted != request.query.get("transport"):
                request.respond(503, "")
                raise Skip(f"the client came over {request.query.get('transport')}, not {wanted}")
            return request
        if first:
            raise Skip(f"no client came within {seconds:g} s")
        raise Late(f"the client did not come back within {seconds:g} s")

    async def session(self, *, probe: str = "accept", **changes: Any) -> ClientSession:
        """Wait for a client and open its session."""
        request = await self.handshake()
        session = ClientSession(self, changes.get("sid") or self.new_id())
        session.probe = probe
        if "websocket" not in self.transports.split(",")[1:]:
            changes.setdefault("upgrades", [])
        await session.open(request, **changes)
        return session

    async def member(self, **changes: Any) -> ClientSession:
        """Wait for a client, open its session, and let it into `/`; with an upgrade, wait for that too."""
        session = await self.session(**changes)
        await session.join()
        if self.transports == "polling,websocket" and session.probe == "accept":
            with trio.move_on_after(DEADLINE) as scope:
                await session.switched.wait()
            if scope.cancelled_caught:
                raise Deviation("the client did not upgrade")
        return session

    async def comes_back(self, within: float = 6.0) -> Request:
        """Wait for a new handshake."""
        return await self.handshake(within)

    async def stays_away(self, seconds: float) -> None:
        """No new handshake may come for this long."""
        with trio.move_on_after(seconds):
            while await self.strangers.receive() is None:
                continue
            raise Deviation("the client came back by itself")


@asynccontextmanager
async def open_client_lab(
    meeting: Meeting, transports: str, transcript: Transcript
) -> AsyncIterator[ClientLab]:
    """Open a laboratory for one situation."""
    async with trio.open_nursery() as nursery:
        lab = ClientLab(meeting, transcript, nursery)
        await lab.listen(transports)
        yield lab
        for session in lab.sessions.values():
            session.check()
        nursery.cancel_scope.cancel()
