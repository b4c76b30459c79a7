"""Figure 3: connections broken at every step of handshake, upgrade and close leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trio

from bench.processes import MeasureError

from .figure import Claim, Plan, say
from .service import Service, running_service
from .wire import CLOSE, ENGINE, Gone, Line, frame, request, sid_of

AT_ONCE = 16
GROWTH_KIB = 8192  # 36 bytes for each of 230,000 aborts
GROWTH_OBJECTS = 4000  # trio takes up to a thousand cancelled deadlines, of three objects each, out late
WARM_UP = 1000
QUIET_WITHIN = 60.0
STEP_ALLOWANCE = 20.0  # seconds for one abort
POLLING = f"{ENGINE}&transport=polling"
FRAMED = f"{ENGINE}&transport=websocket"


class Victim:
    """The connections of one client, all of which are broken at the end in one way."""

    def __init__(self, port: int, reset: bool) -> None:
        self.port = port
        self._reset = reset
        self._lines: list[Line] = []

    async def line(self) -> Line:
        """Open another connection."""
        line = await Line.open(self.port)
        self._lines.append(line)
        return line

    def abort(self) -> None:
        """Break them all."""
        for line in self._lines:
            if self._reset:
                line.reset()
            else:
                line.close()

    # How far a client gets

    async def polling(self) -> tuple[Line, str]:
        """Open a session on polling; return its connection and the target of its requests."""
        line = await self.line()
        return line, f"{POLLING}&sid={sid_of(await line.ask('GET', POLLING))}"

    async def joined_polling(self) -> tuple[Line, str]:
        """Join the default namespace on polling."""
        line, target = await self.polling()
        await line.ask("POST", target, b"40")
        await line.ask("GET", target)
        return line, target

    async def websocket(self) -> Line:
        """Open a session on a WebSocket."""
        line = await self.line()
        await line.upgrade(FRAMED)
        await line.read_text()
        return line

    async def joined(self) -> Line:
        """Join the default namespace on a WebSocket."""
        line = await self.websocket()
        await line.send_text("40")
        await line.read_text()
        return line

    async def probing(self) -> tuple[Line, str]:
        """Open the WebSocket of an upgrade, beside a GET that waits."""
        line, target = await self.joined_polling()
        await line.send(request("GET", target))
        candidate = await self.line()
        await candidate.upgrade(target.replace("transport=polling", "transport=websocket"))
        return candidate, target


async def _connected(victim: Victim) -> None:
    await victim.line()


async def _half_head(victim: Victim) -> None:
    await (await victim.line()).send(request("GET", POLLING)[:40])


async def _polling_asked(victim: Victim) -> None:
    await (await victim.line()).send(request("GET", POLLING))


async def _polling_opened(victim: Victim) -> None:
    await victim.polling()


async def _half_post(victim: Victim) -> None:
    line, target = await victim.polling()
    await line.send(request("POST", target, b'40{"token":"' + b"x" * 100)[:-50])


async def _post_unanswered(victim: Victim) -> None:
    line, target = await victim.polling()
    await line.send(request("POST", target, b"40"))


async def _get_waits(victim: Victim) -> None:
    line, target = await victim.joined_polling()
    await line.send(request("GET", target))


async def _websocket_asked(victim: Victim) -> None:
    await (await victim.line()).send(request("GET", FRAMED, upgrade=True))


async def _websocket_opened(victim: Victim) -> None:
    await victim.websocket()


async def _connect_unanswered(victim: Victim) -> None:
    await (await victim.websocket()).send_text("40")


async def _half_frame(victim: Victim) -> None:
    await (await victim.joined()).send(frame(b'42["echo","half of it"]')[:12])


async def _event_unanswered(victim: Victim) -> None:
    await (await victim.joined()).send_text('421["save","x",1]')


async def _upgrade_asked(victim: Victim) -> None:
    _, target = await victim.polling()
    line = await victim.line()
    await line.send(request("GET", target.replace("polling", "websocket"), upgrade=True))


async def _upgrade_accepted(victim: Victim) -> None:
    await victim.probing()


async def _probed(victim: Victim) -> None:
    line, _ = await victim.probing()
    await line.send_text("2probe")


async def _probe_answered(victim: Victim) -> None:
    line, _ = await victim.probing()
    await line.send_text("2probe")
    await line.read_text()


async def _upgrading(victim: Victim) -> None:
    line, _ = await victim.probing()
    await line.send_text("2probe")
    await line.read_text()
    await line.send_text("5")


async def _upgraded(victim: Victim) -> None:
    line, _ = await victim.probing()
    await line.send_text("2probe")
    await line.read_text()
    await line.send_text("5")
    await line.send_text('421["echo",1]')
    await line.read_text()


async def _left(victim: Victim) -> None:
    await (await victim.joined()).send_text("41")


async def _closing(victim: Victim) -> None:
    await (await victim.joined()).send_text("1")


async def _close_frame(victim: Victim) -> None:
    await (await victim.joined()).send(frame(b"\x03\xe8", CLOSE))


async def _half_closed(victim: Victim) -> None:
    (await victim.joined()).half_close()


async def _polling_closing(victim: Victim) -> None:
    line, target = await victim.joined_polling()
    await line.send(request("POST", target, b"1"))


Step = Callable[[Victim], Awaitable[None]]

STEPS: dict[str, Step] = {
    "connected": _connected,
    "half of a head": _half_head,
    "polling asked for": _polling_asked,
    "polling opened": _polling_opened,
    "half of a POST": _half_post,
    "POST not answered": _post_unanswered,
    "GET waits": _get_waits,
    "WebSocket asked for": _websocket_asked,
    "WebSocket opened": _websocket_opened,
    "CONNECT not answered": _connect_unanswered,
    "half of a frame": _half_frame,
    "event not answered": _event_unanswered,
    "upgrade asked for": _upgrade_asked,
    "upgrade accepted": _upgrade_accepted,
    "probed": _probed,
    "probe answered": _probe_answered,
    "upgrade packet sent": _upgrading,
    "upgraded": _upgraded,
    "DISCONNECT sent": _left,
    "CLOSE sent": _closing,
    "close frame sent": _close_frame,
    "half-closed": _half_closed,
    "CLOSE posted": _polling_closing,
}
"""Where a client breaks off, each by a reset and by an end of the stream in turns."""


def measure(plan: Plan) -> list[Claim]:
    """Warm up, take the figures, break connections off, and take the figures again."""
    each = plan.full_or(plan.aborts, 20)
    options: dict[str, Any] = {
        "ping_interval": 1.0,
        "ping_timeout": 1.0,
        "connect_timeout": 2.0,
        "upgrade_timeout": 1.0,
        "limits": {"header_timeout": 2.0, "body_timeout": 2.0, "close_timeout": 1.0},
    }
    with running_service(plan.server_cpu, **options) as service:
        _break_all(service, min(each, WARM_UP), told=False)
        before = _quiet(service, None)
        unexpected = _break_all(service, each, told=not plan.short)
        after = _quiet(service, before)
    say(f"aborts: before {before}, after {after}")
    total = each * len(STEPS)
    return [
        Claim.told("connections broken off", f"{total:,}: {each:,} at each of {len(STEPS)} steps"),
        Claim.at_most("steps that did not come so far", unexpected, 0),
        Claim.at_most("sessions left", after["sessions"], 0),
        Claim.at_most("tasks more than before", after["tasks"] - before["tasks"], 0),
        Claim.at_most("file descriptors more than before", after["files"] - before["files"], 0),
        Claim.at_most(
            "Python objects more than before", after["objects"] - before["objects"], GROWTH_OBJECTS
        ),
        Claim.at_most(
            "growth of the resident memory", after["rss_kib"] - before["rss_kib"], GROWTH_KIB, " KiB"
        ),
    ]


def _break_all(service: Service, each: int, *, told: bool) -> int:
    unexpected = 0
    for name, step in STEPS.items():
        began = time.monotonic()
        unexpected += trio.run(_break_off, service.port, step, each)
        if told:
            say(f"aborts: {each:,} at '{name}' in {time.monotonic() - began:.1f} s")
    return unexpected


async def _break_off(port: int, step: Step, count: int) -> int:
    left = list(range(count))
    unexpected = 0

    async def work() -> None:
        nonlocal unexpected
        while left:
            victim = Victim(port, reset=left.pop() % 2 == 0)
            with trio.move_on_after(STEP_ALLOWANCE) as scope, _aborted(victim):
                try:
                    await step(victim)
                except Gone:
                    unexpected += 1
            unexpected += scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(work)
    return unexpected


@contextmanager
def _aborted(victim: Victim) -> Iterator[None]:
    try:
        yield
    finally:
        victim.abort()


def _quiet(service: Service, before: dict[str, Any] | None) -> dict[str, Any]:
    """Wait until no session is left, and no more files than before; return the figures then."""
    deadline = time.monotonic() + QUIET_WITHIN
    while True:
        now = service.ask("figures")
        files = before["files"] if before else now["files"]
        if (now["sessions"] == 0 and now["files"] <= files) or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    if before is None:
        if now["sessions"]:
            raise MeasureError(f"{now['sessions']} sessions do not end")
        time.sleep(3.0)  # connections that have sent no head are known by no session
        now = service.ask("figures")
    return now
