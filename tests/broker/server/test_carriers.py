"""The same behaviour whatever carries a session: TCP, TLS, Unix sockets, ASGI, streams, trio-websocket."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest
import trio
from trio_websocket import (
    ConnectionRejected,
    WebSocketRequest,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)

from broker import Broker, DisconnectReason, HttpRequest, HttpResponse, Limits, Socket
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.peers import (
    DEADLINE,
    ENGINE_PATH,
    BareWebSocket,
    Closed,
    HttpPeer,
    PollingPeer,
    RawWebSocket,
    build_frame,
    client,
    http,
    open_sockets,
    quick_broker,
    settled,
    until,
    upgrade_head,
    websocket,
)

every = pytest.mark.parametrize("carrier", carriers.ALL)
with_polling = pytest.mark.parametrize("carrier", carriers.WITH_POLLING)
POLLING = f"{ENGINE_PATH}&transport=polling"
WEBSOCKET = f"{ENGINE_PATH}&transport=websocket"


def patient_broker(**options: Any) -> Broker:
    """Return an echoing broker whose heartbeat does not come into a test."""
    return quick_broker(**{"ping_interval": 25.0, **options})


def reasons_of(broker: Broker) -> list[DisconnectReason]:
    """Record why sockets end."""
    seen: list[DisconnectReason] = []
    broker.on("disconnect")(lambda socket, reason: seen.append(reason))
    return seen


# -- both directions -------------------------------------------------------------------


@every
async def test_echo_with_ack_and_attachments(carrier: Carrier) -> None:
    async with carrier(patient_broker()) as door, client(door) as peer:
        await peer.send_text('427["echo","a\u20ac",{"b":[1.5,null]}]')
        await peer.expect('42["echo","a\u20ac",{"b":[1.5,null]}]')
        await peer.expect('437["a\u20ac",{"b":[1.5,null]}]')
        await peer.send_text('451-8["echo",{"_placeholder":true,"num":0}]')
        await peer.send_binary(b"\0\1\xff" * 1_000)
        await peer.expect('451-["echo",{"_placeholder":true,"num":0}]')
        await peer.expect(b"\0\1\xff" * 1_000)
        await peer.expect('461-8[{"_placeholder":true,"num":0}]')
        await peer.expect(b"\0\1\xff" * 1_000)


@every
async def test_large_and_many(carrier: Carrier) -> None:
    text = "x" * 200_000
    async with carrier(patient_broker()) as door, client(door) as peer:
        await peer.emit("echo", text)
        await peer.expect(f'42["echo","{text}"]')
        for number in range(200):
            await peer.emit("echo", number)
        for number in range(200):
            await peer.expect(f'42["echo",{number}]')


@every
async def test_heartbeat(carrier: Carrier) -> None:
    broker = quick_broker(ping_interval=0.05, ping_timeout=0.05)
    reasons = reasons_of(broker)
    async with carrier(broker) as door, client(door, pongs=False) as peer:
        for _ in range(3):
            await peer.expect("2")
            await peer.send_text("3")
        await peer.expect("2")
        assert (await peer.expect_close()).code == DisconnectReason.PING_TIMEOUT.close_code
        await until(lambda: reasons)
    assert reasons == [DisconnectReason.PING_TIMEOUT]


@every
async def test_broadcast(carrier: Carrier) -> None:
    broker = patient_broker()
    async with carrier(broker) as door, client(door) as one, client(door) as other:
        assert broker.emit("all", b"\1\2").queued == 2
        for peer in (one, other):
            await peer.expect('451-["all",{"_placeholder":true,"num":0}]')
            await peer.expect(b"\1\2")


@every
async def test_base64_if_asked_for(carrier: Carrier) -> None:
    broker = patient_broker()
    async with carrier(broker) as door, client(door, path=f"{ENGINE_PATH}&b64=1") as peer:
        broker.emit("all", b"\1\2")
        await peer.expect('451-["all",{"_placeholder":true,"num":0}]')
        await peer.expect("bAQI=")


# -- polling and the upgrade --------------------------------------------------------------


@with_polling
async def test_polling(carrier: Carrier) -> None:
    broker = patient_broker()
    reasons = reasons_of(broker)
    async with carrier(broker) as door:
        peer = await PollingPeer.open(door)
        await peer.join()
        await peer.send('420["echo",1]', "451-" + '["echo",{"_placeholder":true,"num":0}]', "bAQI=")
        await peer.expect('42["echo",1]')
        await peer.expect("430[1]")
        await peer.expect('451-["echo",{"_placeholder":true,"num":0}]')
        await peer.expect("bAQI=")
        async with await peer.begin_get() as get:
            broker.emit("late")
            assert (await get.receive()).body == b'42["late"]'
        async with await peer.begin_get() as get:
            await get.abort()
            await until(lambda: reasons)
        assert reasons == [DisconnectReason.TRANSPORT_ERROR]
        assert await peer.status() == 400


@with_polling
async def test_upgrade(carrier: Carrier) -> None:
    broker = patient_broker()
    upgraded: list[str] = []
    broker.on("where")(lambda socket: upgraded.append(socket.transport))
    async with carrier(broker) as door:
        polling = await PollingPeer.open(door)
        await polling.join()
        get = await polling.begin_get()
        async with websocket(door, sid=polling.sid) as probe:
            await probe.send_text("2probe")
            await probe.expect("3probe")
            assert (await get.receive()).body == b"6"
            await get.abort()
            broker.emit("between", b"\1")
            await probe.send_text("5")
            await probe.expect('451-["between",{"_placeholder":true,"num":0}]')
            await probe.expect(b"\1")
            await probe.emit("echo", 1)
            await probe.expect('42["echo",1]')
            await probe.emit("where")
            await until(lambda: upgraded)
        assert upgraded == ["websocket"]


@with_polling
async def test_an_upgrade_that_fails_leaves_the_session_as_it_was(carrier: Carrier) -> None:
    broker = patient_broker(upgrade_timeout=0.1)
    async with carrier(broker) as door:
        polling = await PollingPeer.open(door)
        await polling.join()
        async with websocket(door, sid=polling.sid) as probe:
            await probe.send_text("4nonsense")
            assert await probe.expect_close() == Closed(1000, "upgrade failed")
        async with websocket(door, sid=polling.sid) as probe:
            await probe.send_text("2probe")
            await probe.expect("3probe")
            assert await probe.expect_close() == Closed(1000, "upgrade failed")
        async with websocket(door, sid=polling.sid) as probe, websocket(door, sid=polling.sid) as second:
            await second.expect_close()
            await probe.abort()
        await polling.send('42["echo",1]')
        await polling.expect('42["echo",1]')


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.tls, carriers.unix, carriers.sockets])
async def test_a_failed_probe_that_never_closes_is_dropped(carrier: Carrier) -> None:
    broker = patient_broker(limits=Limits(close_timeout=0.05))
    async with carrier(broker) as door:
        polling = await PollingPeer.open(door)
        await settled()
        before = open_sockets()
        async with await BareWebSocket.open(door, sid=polling.sid) as bare:
            await bare.send(build_frame(1, b"4nonsense"))
            assert await bare.expect_close() == Closed(1000, "upgrade failed")
            await until(lambda: open_sockets() == before + 1)  # ours; the broker has closed its own
        await polling.join()


# -- the end --------------------------------------------------------------------------------


@every
async def test_the_client_closes(carrier: Carrier) -> None:
    broker = patient_broker()
    reasons = reasons_of(broker)
    async with carrier(broker) as door:
        async with client(door) as peer:
            await peer.close()
        await until(lambda: reasons)
        assert reasons == [DisconnectReason.TRANSPORT_CLOSE]


@every
async def test_the_client_vanishes(carrier: Carrier) -> None:
    broker = patient_broker()
    reasons = reasons_of(broker)
    async with carrier(broker) as door:
        async with client(door) as peer:
            await peer.abort()
        await until(lambda: reasons)
        assert reasons[0] in (DisconnectReason.TRANSPORT_CLOSE, DisconnectReason.TRANSPORT_ERROR)
        assert broker.emit("nobody").queued == 0


@every
async def test_the_server_disconnects(carrier: Carrier) -> None:
    broker = patient_broker()
    reasons = reasons_of(broker)

    @broker.on("leave")
    def leave(socket: Socket) -> None:
        socket.emit("bye")
        socket.disconnect(close=True)

    async with carrier(broker) as door, client(door) as peer:
        await peer.emit("leave")
        await peer.expect('42["bye"]')
        await peer.expect("41")
        closed = await peer.expect_close()
        assert closed.code == DisconnectReason.SERVER_NAMESPACE_DISCONNECT.close_code
        await until(lambda: reasons)
        assert reasons == [DisconnectReason.SERVER_NAMESPACE_DISCONNECT]


@every
async def test_a_violation_is_told_by_its_close_code(carrier: Carrier) -> None:
    broker = patient_broker(max_payload_bytes=1_000)
    reasons = reasons_of(broker)
    async with carrier(broker) as door:
        async with client(door) as peer:
            await peer.send_text("9")
            assert (await peer.expect_close()).code == 1002
        async with client(door) as peer:
            await peer.send_text("4" + "x" * 1_000)
            assert (await peer.expect_close()).code == 1009
        await until(lambda: len(reasons) == 2)
    assert reasons == [DisconnectReason.PARSE_ERROR, DisconnectReason.TRANSPORT_ERROR]


@pytest.mark.parametrize("carrier", [one for one in carriers.ALL if one is not carriers.hypercorn])
async def test_a_peer_that_does_not_close_is_dropped(carrier: Carrier) -> None:
    broker = patient_broker(limits=Limits(close_timeout=0.05))
    broker.on("leave")(lambda socket: socket.disconnect(close=True))
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(1, b"40") + build_frame(1, b'42["leave"]'))
        frames = []
        while (frame := await bare.receive_frame()) is not None:
            frames.append(frame)
        assert frames[-1].opcode == 0x8
        await until(lambda: broker.statistics().sessions == 0)


@pytest.mark.parametrize("carrier", [one for one in carriers.ALL if one is not carriers.memory])
async def test_a_peer_that_does_not_read_is_dropped(carrier: Carrier) -> None:
    limits = Limits(write_timeout=0.1, close_timeout=0.05, outbox_hard_bytes=1 << 20)
    broker = patient_broker(limits=limits)
    reasons = reasons_of(broker)
    async with carrier(broker) as door, await BareWebSocket.open(door) as bare:
        await bare.send(build_frame(1, b"40"))
        await until(lambda: broker.sockets.sockets)
        with trio.fail_after(5):
            while not reasons:
                broker.emit("flood", "x" * 50_000)
                await trio.sleep(0.001)
        assert reasons == [DisconnectReason.SLOW_CONSUMER]
        await until(lambda: broker.statistics().sessions == 0)


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.tls, carriers.unix])
async def test_the_server_stops(carrier: Carrier) -> None:
    broker = patient_broker()
    reasons = reasons_of(broker)
    peers: list[Closed] = []

    async with trio.open_nursery() as nursery:
        async with carrier(broker) as door:

            async def stay(task_status: trio.TaskStatus[None]) -> None:
                async with client(door) as peer:
                    task_status.started()
                    peers.append(await peer.expect_close())

            await nursery.start(stay)
    assert peers == [Closed(1001, "server shutting down")]
    assert reasons == [DisconnectReason.SERVER_SHUTTING_DOWN]


# -- the handshake --------------------------------------------------------------------------


async def test_refusals_of_requested_websockets() -> None:
    broker = patient_broker(cors_allowed_origins=["https://app.example"])
    async with carriers.requested(broker) as door:
        async with await HttpPeer.open(door) as peer:
            evil = [("Origin", "https://evil.example")]
            await peer.send_raw(upgrade_head(f"{ENGINE_PATH}&transport=websocket", peer.authority, evil))
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (403, 100)
            assert answer.header("content-type") == "application/json"
        async with client(door, headers=[("Origin", "https://app.example")]):
            pass
        broker.engine.use(lambda request: HttpResponse(503, b"later", (("Retry-After", "7"),)))
        async with await BareWebSocket.open(door) as bare:
            assert (bare.answer.status, bare.answer.header("retry-after")) == (503, "7")


@with_polling
async def test_refusals(carrier: Carrier) -> None:
    broker = patient_broker()
    async with carrier(broker) as door:
        refused = await http(door, "GET", "/socket.io/?EIO=3&transport=polling")
        assert (refused.status, refused.json["code"]) == (400, 5)
        async with await BareWebSocket.open(door, "/socket.io/?EIO=3") as bare:
            assert bare.answer.status == 400
            assert b'"code":5' in bare.answer.body + await bare.peer.wait_closed()
        with pytest.raises(ConnectionRejected) as rejected:
            async with websocket(door, sid="unknown"):
                pass
        assert rejected.value.status_code == 400
        async with client(door):
            pass
        assert broker.statistics().refusals == {"UNSUPPORTED_PROTOCOL": 2, "SESSION_UNKNOWN": 1}


async def test_refusals_of_accepted_websockets() -> None:
    broker = patient_broker(generate_id=lambda request: "same")
    async with carriers.accepted(broker) as door:
        async with websocket(door, sid="unknown") as peer:
            assert await peer.expect_close() == Closed(1008, "Session ID unknown")
        async with client(door), websocket(door) as peer:
            assert await peer.expect_close() == Closed(1008, "Bad request")
    broker = patient_broker()
    broker.engine.use(lambda request: HttpResponse(503))
    async with carriers.accepted(broker) as door, websocket(door) as peer:
        assert await peer.expect_close() == Closed(1008, "refused")


@pytest.mark.parametrize("leave", ["reset", "close"])
@pytest.mark.parametrize("while_asked", [True, False])
@pytest.mark.parametrize("let_in", [True, False])
@pytest.mark.parametrize("accepted", [True, False])
async def test_a_client_that_leaves_before_it_is_answered_takes_nobody_with_it(
    accepted: bool, let_in: bool, while_asked: bool, leave: str
) -> None:
    asked, answer, called = trio.Event(), trio.Event(), trio.Event()

    async def allow(request: HttpRequest) -> bool:
        asked.set()
        await answer.wait()
        return let_in

    broker = patient_broker(allow_request=allow)

    async def handle(request: WebSocketRequest) -> None:
        websocket = await request.accept() if accepted else request
        if not while_asked:
            await called.wait()
        await broker.handle_websocket(websocket)

    with trio.fail_after(DEADLINE):
        async with broker, trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, handle, "127.0.0.1", 0, None))
            peer = await HttpPeer.open(server.port)
            await peer.send_raw(upgrade_head(WEBSOCKET))
            await settled()
            assert asked.is_set() is while_asked
            if leave == "reset":
                peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await peer.abort()
            await settled()
            called.set()
            answer.set()
            await settled()
            nursery.cancel_scope.cancel()


async def test_a_websocket_over_a_unix_socket() -> None:
    broker = patient_broker()
    seen: list[Socket] = []
    broker.on("connect")(seen.append)
    ours, theirs = await carriers.socket_pair()
    async with ours, theirs, broker, trio.open_nursery() as nursery:

        async def handle() -> None:
            await broker.handle_websocket(await wrap_server_stream(nursery, theirs))

        nursery.start_soon(handle)
        connection = await wrap_client_stream(nursery, ours, "localhost", WEBSOCKET)
        peer = RawWebSocket(connection)
        await peer.opened()
        await peer.join()
        assert seen[0].handshake.address == ""
        await peer.close()
        nursery.cancel_scope.cancel()


@every
async def test_what_the_application_sees_of_the_peer(carrier: Carrier) -> None:
    broker = patient_broker()
    seen: list[Socket] = []
    broker.on("connect")(seen.append)
    async with carrier(broker) as door, client(door, headers=[("X-One", "1")]):
        handshake = seen[0].handshake
        assert handshake.secure is (carrier is carriers.tls)
        local = (carriers.unix, carriers.memory, carriers.sockets)
        assert handshake.address == ("" if carrier in local else "127.0.0.1")
        # trio-websocket keeps no headers with a connection.
        assert handshake.headers.get("x-one") == (None if carrier is carriers.accepted else "1")
        assert handshake.query == {"EIO": "4", "transport": "websocket"}


@pytest.mark.parametrize("carrier", [one for one in carriers.ALL if one is not carriers.accepted])
async def test_the_first_subprotocol_is_chosen(carrier: Carrier) -> None:
    async with carrier(patient_broker()) as door:
        for offer, chosen in (("chat, superchat", "chat"), ("", None)):
            async with await BareWebSocket.open(door, headers=[("Sec-WebSocket-Protocol", offer)]) as bare:
                assert bare.answer.status == 101
                assert bare.answer.header("sec-websocket-protocol") == chosen
        await settled()


@pytest.mark.parametrize("carrier", [*carriers.WITH_POLLING, carriers.requested])
async def test_header_hooks(carrier: Carrier) -> None:
    broker = patient_broker()
    broker.engine.on("headers")(lambda headers, request: headers.append(("X-Hook", "1")))
    async with carrier(broker) as door:
        if carrier is not carriers.requested:
            assert (await http(door, "GET", POLLING)).header("x-hook") == "1"
        async with await BareWebSocket.open(door) as bare:
            assert bare.answer.status == 101
            assert bare.answer.header("x-hook") == "1"
            frame = await bare.receive_frame()
            assert frame is not None
            assert frame.payload.startswith(b"0{")
        await settled()
