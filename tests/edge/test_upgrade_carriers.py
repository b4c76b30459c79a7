"""Cases 83 to 92, the upgrade, over everything that can carry a WebSocket."""

from __future__ import annotations

import pytest
import trio

from broker import Broker, Limits
from tests.broker.carriers import WITH_POLLING, Carrier
from tests.peers import TEXT, PollingPeer, build_frame, quick_broker, settled, websocket

from .endings import Ends, calm_broker, refused
from .test_upgrade import TURNED_AWAY, Count, abort, on_polling, probe, upgraded

ABORTS = ["close", "upgrade", "probe in binary", "text", "binary", "timeout", "drop"]

everywhere = pytest.mark.parametrize("carrier", WITH_POLLING)


@everywhere
@pytest.mark.parametrize("how", ABORTS)
async def test_087_089_aborted_upgrade_loses_nothing(carrier: Carrier, how: str) -> None:
    broker = Broker(upgrade_timeout=0.2 if how == "timeout" else 10.0, limits=Limits(close_timeout=0.5))
    count = Count(broker)
    async with carrier(broker) as door:
        polling = await on_polling(door)
        await count.traffic(polling)
        async with websocket(door, sid=polling.sid) as peer:
            if how != "upgrade":
                await probe(peer)
            await polling.send(*count.write())
            if how == "drop":
                await peer.abort()
            else:
                await abort(how, peer)
        await count.traffic(polling)
        await next_upgrade(door, polling, count)


async def next_upgrade(door: object, polling: PollingPeer, count: Count) -> None:
    """Upgrade, with messages right behind the UPGRADE packet."""
    async with websocket(door, sid=polling.sid) as peer:  # type: ignore[arg-type]
        await peer.connection.ping()
        await probe(peer)
        await peer.connection.ping()
        count.emit()
        frames = [build_frame(TEXT, packet.encode()) for packet in ["5", *count.write(50)]]
        await peer.connection._stream.send_all(b"".join(frames))
        count.emit()
        await count.finish(peer)
        refused(await polling.get(), 400, 3)


@everywhere
async def test_085_second_websocket_is_turned_away(carrier: Carrier) -> None:
    async with carrier(calm_broker(limits=Limits(close_timeout=0.5))) as door:
        polling = await on_polling(door)
        async with websocket(door, sid=polling.sid) as first:
            await probe(first)
            async with websocket(door, sid=polling.sid) as second:
                assert await second.expect_close() == TURNED_AWAY
            await first.send_text("5")
            await first.send_text('42["echo",1]')
            await first.expect('42["echo",1]')
            async with websocket(door, sid=polling.sid) as third:
                assert await third.expect_close() == TURNED_AWAY


@everywhere
async def test_088_092_session_that_ends_closes_its_probe(carrier: Carrier) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with carrier(broker) as door:
        polling = await on_polling(door)
        async with websocket(door, sid=polling.sid) as peer:
            await probe(peer)
            broker.emit("last")
            for socket in list(broker.of("/").sockets.values()):
                socket.disconnect(close=True)
            await ends.expect("server namespace disconnect")
            assert (await peer.expect_close()).code == 1000
        packets = await polling.packets()
        assert packets == ['42["last"]', "41", "6", "1"]
        await settled()
        refused(await polling.get(), 400, 1)


@everywhere
async def test_090_091_session_lives_on_after_the_upgrade(carrier: Carrier) -> None:
    broker = quick_broker(upgrade_timeout=0.1)
    ends = Ends(broker)
    async with carrier(broker) as door:
        polling = await on_polling(door)
        async with upgraded(door, polling) as peer:
            await trio.sleep(0.15)
            await peer.send_text('42["echo",1]')
            await peer.expect('42["echo",1]')
            with trio.move_on_after(0.6):  # a heartbeat goes by
                await peer.receive()
            await peer.send_text('42["echo",2]')
            await peer.expect('42["echo",2]')
        await ends.expect("transport close", within=1)
