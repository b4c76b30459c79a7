"""An upgrade that happens while a full inbox holds up the reading loses nothing."""

from __future__ import annotations

from typing import Any

import trio

from broker import Broker
from protocol import Limits
from tests.peers import BareWebSocket, PollingPeer, build_frame, serving, settled


async def test_messages_behind_an_upgrade_packet_wait_for_a_paused_session() -> None:
    broker = Broker(limits=Limits(inbox_messages=2))
    gate = trio.Event()
    got: list[int] = []

    @broker.on("number")
    async def number(socket: Any, value: int) -> None:
        await gate.wait()
        got.append(value)

    @broker.on("done")
    def done(socket: Any) -> list[int]:
        return got

    async with serving(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.join()
        await peer.send(*(f'42["number",{value}]' for value in range(6)))
        await settled()
        async with await BareWebSocket.open(server, sid=peer.sid) as websocket:
            await websocket.send_frame(1, b"2probe")
            frame = await websocket.receive_frame()
            assert frame is not None
            assert frame.payload == b"3probe"
            numbers = b"".join(build_frame(1, b'42["number",%d]' % value) for value in range(6, 12))
            await websocket.send(build_frame(1, b"5") + numbers + build_frame(1, b'420["done"]'))
            await settled()
            assert got == []
            gate.set()
            frame = await websocket.receive_frame()
            assert frame is not None
            assert frame.payload == b"430[[0,1,2,3,4,5,6,7,8,9,10,11]]"
