"""The fault matrix: each row does something to connections and says what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio

from bench.hold.wire import ENGINE, Gone, Line, frame, request, sid_of

from .world import TRANSPORTS, World, world

FRAMED = f"{ENGINE}&transport=websocket"
POLLING = f"{ENGINE}&transport=polling"
BOTH = ("ours", "javascript")
ALL = tuple(TRANSPORTS)


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        id: Its name in README.md.
        do: Brings it about, and waits for what must come of it.
        transports: On what.
        clients: By whom it is suffered.
    """

    id: str
    do: Callable[[World], Awaitable[None]]
    transports: tuple[str, ...] = ALL
    clients: tuple[str, ...] = BOTH


async def vanish(here: World) -> None:
    """Nothing arrives any more and nobody says so: both sides notice by their heartbeats."""
    here.proxy.blackhole()
    await here.until(lambda: here.reasons["ping timeout"] == 1, "the broker has not noticed")
    await here.until(lambda: not here.heard.connected, "the client has not noticed")
    here.proxy.heal()
    await here.comes_back()


async def reset(here: World) -> None:
    """All connections are reset until it costs the client its session; it comes back."""
    joined = here.joined

    def lost() -> bool:
        # Again and again: a polling client that has no request under way just now is not touched.
        here.proxy.reset()
        return here.heard.ended > 0

    await here.until(lost, "the client has not noticed")
    await here.until(lambda: sum(here.reasons.values()) > 0, "the broker has not noticed")
    await here.until(lambda: here.joined > joined, "the client has not come back")
    await here.flows()


async def refused(here: World) -> None:
    """New connections are refused for a while, behind a reset."""
    here.proxy.refusing = True
    here.proxy.reset()
    await here.until(lambda: here.heard.ended == 1, "the client has not noticed")
    attempts = here.proxy.accepted
    await here.until(lambda: here.proxy.accepted >= attempts + 3, "the client does not try")
    here.proxy.heal()
    await here.comes_back()


async def sliced(here: World) -> None:
    """Bytes arrive one to sixteen at a time."""
    here.proxy.to_server.piece = here.proxy.to_client.piece = 16
    await here.flows(50)
    assert here.heard.ended == 0


async def late(here: World) -> None:
    """Latency with jitter, and little bandwidth: heartbeats survive, what is in flight keeps its order."""
    for way in (here.proxy.to_server, here.proxy.to_client):
        way.latency, way.jitter, way.rate = 0.08, 0.06, 64_000.0
    await here.flows(60)
    assert here.heard.ended == 0


async def coalesced(here: World) -> None:
    """What is said for a while arrives all at once, in each direction in turn."""
    for way in (here.proxy.to_server, here.proxy.to_client):
        way.hold()
        await trio.sleep(0.25)
        way.release()
        await here.flows()
    assert here.heard.ended == 0


def cut(direction: str, at: int) -> Callable[[World], Awaitable[None]]:
    """Reset each connection once so many bytes have passed, for a while; then none any more."""

    async def do(here: World) -> None:
        way = getattr(here.proxy, direction)
        way.cut_after = at
        here.proxy.reset()
        accepted = here.proxy.accepted
        await here.until(lambda: here.proxy.accepted >= accepted + 4, "the client does not try")
        way.cut_after = None
        # What is open has passed fewer bytes than that, or is about to be reset.
        await here.flows()

    return do


ROWS = [
    Row("X1", vanish),
    Row("X2 reset", reset),
    Row("X2 refused", refused),
    *(
        Row(f"X2 X9 cut {direction} at {at}", cut(direction, at), clients=("ours",))
        for direction in ("to_server", "to_client")
        for at in (1, 400, 3_000)
    ),
    Row("X6", sliced),
    Row("X7", coalesced),
    Row("X8", late),
]


@pytest.mark.parametrize(
    ("row", "kind", "transport"),
    [
        pytest.param(row, kind, transport, id=f"{row.id}-{kind}-{transport}".replace(" ", "_"))
        for row in ROWS
        for kind in row.clients
        for transport in row.transports
    ],
)
async def test_matrix(row: Row, kind: str, transport: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world(kind, transport) as here:
        if transport == "upgrade":
            await here.until(lambda: here.heard.transport == "websocket", "the upgrade is not made")
        await row.do(here)
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


@pytest.mark.parametrize("kind", BOTH)
async def test_x8_upgrade_over_a_slow_network(kind: str) -> None:
    """The client connects anew over latency and little bandwidth, and its upgrade is made."""
    async with world(kind, "upgrade", ping_interval=1.0, ping_timeout=1.0) as here:
        await late(here)
        here.proxy.reset()
        await here.until(lambda: here.heard.ended == 1, "the client has not noticed")
        here.heard.transport = ""
        await here.comes_back()
        await here.until(lambda: here.heard.transport == "websocket", "the upgrade is not made")
        await here.flows()


TIGHT = {
    "outbox_hard_bytes": 60_000,
    "outbox_soft_bytes": 30_000,
    "outbox_soft_time": 0.5,
    "write_timeout": 0.5,
    "close_timeout": 0.2,
}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("rate", [None, 1_000.0], ids=["X4", "X5"])
async def test_x4_x5_clients_that_read_nothing_or_slowly(rate: float | None, transport: str) -> None:
    """They are sent away with their reason, and the canary of `world` has lost nothing."""
    async with world("ours", transport, limits=TIGHT, ping_interval=5.0, ping_timeout=5.0) as here:
        if rate is None:
            here.proxy.to_client.hold()
        else:
            here.proxy.to_client.rate = rate
        padding = "x" * 10_000
        await here.until(lambda: _fill(here, padding), "it is not sent away")
        here.proxy.heal()
        here.proxy.reset()
        await here.comes_back()


def _fill(here: World, padding: str) -> bool:
    for socket_id in list(here.broker.sockets.sockets):
        if socket_id != here.canary_id:
            for _ in range(20):
                here.broker.to(socket_id).emit("padding", padding)
    return here.reasons["slow consumer"] > 0


async def test_x3_half_closed_clients() -> None:
    """On a WebSocket it is an end; a GET that waits is answered or ended, and its session with it."""
    async with world("ours", "websocket") as here:
        line = await Line.open(here.server.port)
        await _joined(line)
        joined = here.broker.statistics().sessions
        line.half_close()
        await here.until(lambda: here.broker.statistics().sessions == joined - 1, "the session stays")
        line.close()

        line = await Line.open(here.server.port)
        target = f"{POLLING}&sid={sid_of(await line.ask('GET', POLLING))}"
        await line.send(request("GET", target))
        line.half_close()
        await here.until(lambda: here.broker.statistics().sessions == joined - 1, "the session stays")
        line.close()


async def _joined(line: Line) -> None:
    await line.upgrade(FRAMED)
    await line.read_text()
    await line.send_text("40")
    await line.read_text()


async def test_x7_thousands_of_frames_in_one_segment() -> None:
    """Ten thousand events arrive at once; all are handled, and the canary of `world` hears all the while."""
    async with world("ours", "websocket") as here:
        line = await Line.open(here.proxy.port)
        await _joined(line)
        here.proxy.to_server.hold()
        burst = frame(b'42["nobody",1]') * 2_500
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for _ in range(4):
                    await line.send_all(burst)
                await line.send_all(frame(b'421["save",-2]'))
                here.proxy.to_server.release()

            nursery.start_soon(send)
            with trio.fail_after(20):
                while not (await line.read_text()).startswith("431["):
                    pass
        line.close()
        here.saved.discard(-2)
        assert here.broker.statistics().events["unhandled"] == 10_000
        await here.until(lambda: here.broker.statistics().sessions == 2, "the session stays")


async def test_x37_everybody_comes_back_at_once() -> None:
    """Two hundred clients are reset, and all are back."""
    async with world("ours", "websocket") as here:
        back = 0

        async def live() -> None:
            nonlocal back
            for _ in range(2):
                line = await Line.open(here.proxy.port)
                try:
                    await _joined(line)
                    back += 1
                    while True:
                        await line.read_text()
                except Gone:
                    pass
                finally:
                    line.close()

        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(live)
            await here.until(lambda: back == 200, "not all are there")
            here.proxy.reset()
            await here.until(lambda: back == 400, "not all are back")
            await here.flows()
            nursery.cancel_scope.cancel()
