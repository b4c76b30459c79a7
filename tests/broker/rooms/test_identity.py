"""Whose socket it is: set by a middleware, reached as a user, ended when the proof expires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, ConnectRefused, DisconnectReason, Limits, Socket
from tests.duplex import TRANSPORTS, duplex
from tests.peers import client, quick_broker, settled, websocket

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]

EPOCH = 1_700_000_000.0


def unix_now() -> float:
    """Tell a wall clock that goes along with the one of the test."""
    return EPOCH + trio.current_time()


def make_broker(**options: Any) -> Broker:
    """Return a broker whose clients say who they are and for how many seconds, and may say it again."""
    broker = quick_broker(**{"wall_clock": unix_now, "ping_interval": 25.0, "ping_timeout": 20.0, **options})

    @broker.use
    async def authenticate(socket: Socket) -> None:
        auth = socket.handshake.auth
        if "user" in auth:
            socket.identity = auth["user"]
            socket.claims = {"role": auth.get("role")}
        if "seconds" in auth:
            socket.expires_at = unix_now() + auth["seconds"]

    @broker.on("refresh")
    async def refresh(socket: Socket, user: str, seconds: float) -> None:
        socket.refresh(unix_now() + seconds, identity=user, claims={"role": "guest"})

    return broker


class Endings:
    """The reasons that disconnect handlers were given."""

    def __init__(self, broker: Broker) -> None:
        self.reasons: list[DisconnectReason] = []
        broker.on("disconnect")(lambda socket, reason: self.reasons.append(reason))


async def test_a_middleware_says_who_it_is(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with virtual_serve(broker) as server, websocket(server) as peer, websocket(server) as stranger:
        for one, auth in ((peer, {"user": "ada", "role": "admin"}), (stranger, {})):
            await one.opened()
            await one.join(auth=auth)
        ada, nobody = broker.sockets.sockets.values()
        assert (ada.identity, ada.claims, ada.expires_at) == ("ada", {"role": "admin"}, None)
        assert (nobody.identity, nobody.claims, nobody.expires_at) == (None, {}, None)
        views = {view.id: view.identity for view in await broker.fetch_sockets()}
        assert views == {ada.id: "ada", nobody.id: None}


async def test_a_user_is_reached_on_all_sockets(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with (
        virtual_serve(broker) as server,
        websocket(server) as phone,
        websocket(server) as laptop,
        websocket(server) as other,
    ):
        for peer, user in ((phone, "ada"), (laptop, "ada"), (other, "bob")):
            await peer.opened()
            await peer.join(auth={"user": user})
        assert broker.to_user("ada").emit("note", 1).queued == 2
        assert broker.of("/").to_user("ada", "bob").emit("note", 2).queued == 3
        assert broker.to_user("eve").emit("note", 3).queued == 0
        first = next(iter(broker.sockets.sockets.values()))
        assert first.to_user("ada").emit("note", 4).queued == 1
        await phone.expect('42["note",1]')
        await phone.expect('42["note",2]')
        await laptop.expect('42["note",1]')
        await laptop.expect('42["note",2]')
        await laptop.expect('42["note",4]')
        await other.expect('42["note",2]')
        await phone.abort()
        await settled()
        assert broker.to_user("ada").emit("note", 5).queued == 1


async def test_nobody_gets_into_the_room_of_a_user_by_its_name(virtual_serve: Serve) -> None:
    broker = make_broker(limits=Limits(rooms_per_socket=1))
    async with virtual_serve(broker) as server, websocket(server) as peer, websocket(server) as other:
        for one, user in ((peer, "ada"), (other, "eve")):
            await one.opened()
            await one.join(auth={"user": user})
        ada, eve = broker.sockets.sockets.values()
        (room,) = ada.rooms - {ada.id}
        with pytest.raises(ValueError, match="by setting the identity"):
            eve.join(room)
        with pytest.raises(ValueError, match="by setting the identity"):
            await broker.to(eve.id).sockets_join(room)
        ada.leave(room, "another")
        assert broker.to_user("ada").emit("note").queued == 1
        ada.join("one")  # the room of the user does not count
        with pytest.raises(ValueError, match="1 rooms at most"):
            ada.join("two")
        await broker.to_user("ada").sockets_leave("one")
        assert ada.rooms == {ada.id, room}


async def test_an_identity_is_set_once(virtual_serve: Serve) -> None:
    broker = make_broker(limits=Limits(room_bytes=8))
    async with virtual_serve(broker) as server, client(server):
        (socket,) = broker.sockets.sockets.values()
        assert broker.to_user("ada").emit("note").queued == 0
        for wrong in ("", "a" * 9):
            with pytest.raises(ValueError, match="1 to 8 bytes"):
                socket.identity = wrong
        with pytest.raises(TypeError, match="not int"):
            socket.identity = 7  # type: ignore[assignment]
        assert socket.identity is None
        socket.identity = "ada"  # by a handler that logs in
        socket.identity = "ada"
        assert broker.to_user("ada").emit("note").queued == 1
        with pytest.raises(ValueError, match="does not change"):
            socket.identity = "bob"
        assert socket.identity == "ada"


async def test_middlewares_may_change_their_minds(virtual_serve: Serve) -> None:
    broker = make_broker()

    @broker.use
    def rename(socket: Socket) -> None:
        socket.identity = "bob"
        socket.expires_at = unix_now() + 5
        socket.expires_at = None

    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada"})
        assert broker.to_user("ada").emit("note").queued == 0
        assert broker.to_user("bob").emit("note").queued == 1
        assert len(broker._engine.alarms) == 0


@both
async def test_the_session_ends_when_the_proof_expires(virtual_serve: Serve, transport: str) -> None:
    broker = make_broker()
    endings = Endings(broker)
    chat = broker.of("/chat")
    others = Endings(chat)  # type: ignore[arg-type]
    async with virtual_serve(broker) as server, duplex(server, transport) as peer:
        await peer.join(auth={"user": "ada", "seconds": 4})
        await peer.join("/chat")
        began = trio.current_time()
        await peer.expect_end()
        assert trio.current_time() - began == pytest.approx(4, abs=0.01)
        await settled()
        assert endings.reasons == others.reasons == [DisconnectReason.IDENTITY_EXPIRED]
        assert broker.statistics().disconnects["identity expired"] == 2


async def test_a_websocket_client_reads_why(virtual_serve: Serve) -> None:
    async with virtual_serve(make_broker()) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada", "seconds": 10})
        assert await peer.expect_close(deadline=60) == (1008, "identity expired")


async def test_a_refresh_on_the_same_connection_puts_it_off(virtual_serve: Serve) -> None:
    broker = make_broker(presence_grace_time=0)
    endings = Endings(broker)
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada", "role": "admin", "seconds": 10})
        await trio.sleep(9)
        await peer.send_text('420["refresh","ada",20]')
        await peer.expect("430[]")
        (socket,) = broker.sockets.sockets.values()
        assert socket.claims == {"role": "guest"}
        assert socket.expires_at == pytest.approx(unix_now() + 20, abs=0.1)
        began = trio.current_time()
        assert (await peer.expect_close(deadline=60)).reason == "identity expired"
        assert trio.current_time() - began == pytest.approx(20, abs=0.1)
        await settled()
        assert endings.reasons == [DisconnectReason.IDENTITY_EXPIRED]
        assert len(broker._engine.alarms) == 0


async def test_a_refresh_for_somebody_else_is_refused(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada", "role": "admin", "seconds": 10})
        await peer.send_text('420["refresh","bob",20]')
        answer = await peer.receive()
        assert isinstance(answer, str)
        assert '"code":"identity_changed"' in answer
        (socket,) = broker.sockets.sockets.values()
        assert (socket.identity, socket.claims) == ("ada", {"role": "admin"})
        assert (await peer.expect_close(deadline=60)).reason == "identity expired"


async def test_refresh_without_an_end(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada", "seconds": 10})
        (socket,) = broker.sockets.sockets.values()
        for wrong in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="finite"):
                socket.refresh(wrong)
        socket.refresh(None)
        assert (socket.expires_at, socket.claims) == (None, {"role": None})
        with trio.move_on_after(20):  # it answers pings, and outlives its old end
            await peer.receive(deadline=60)
        assert socket.connected


async def test_who_has_expired_already_is_not_let_in(virtual_serve: Serve) -> None:
    broker = make_broker()
    endings = Endings(broker)
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text('40{"user":"ada","seconds":-1}')
        await peer.expect('44{"message":"identity expired","data":{"code":"identity_expired"}}')
        assert "ada" not in broker.presence
        await peer.join(auth={"user": "ada", "seconds": 1})
    assert endings.reasons == [DisconnectReason.TRANSPORT_CLOSE]


async def test_who_leaves_first_is_not_ended_again(virtual_serve: Serve) -> None:
    broker = make_broker()
    endings = Endings(broker)
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"user": "ada", "seconds": 10})
        await peer.send_text("41")
        await settled()
        assert len(broker._engine.alarms) == 0
        await peer.join()
        with trio.move_on_after(20):
            await peer.receive(deadline=60)
        assert len(broker.sockets.sockets) == 1
        assert endings.reasons == [DisconnectReason.CLIENT_NAMESPACE_DISCONNECT]


async def test_a_refused_socket_leaves_nothing(virtual_serve: Serve) -> None:
    broker = make_broker()

    @broker.use
    def refuse(socket: Socket) -> None:
        raise ConnectRefused("no")

    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text('40{"user":"ada","seconds":5}')
        await peer.expect('44{"message":"no"}')
        assert len(broker._engine.alarms) == 0
        assert len(broker.presence) == 0


async def test_an_end_without_an_identity(virtual_serve: Serve) -> None:
    broker = make_broker()
    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.join(auth={"seconds": 10})
        assert not broker.presence
        assert (await peer.expect_close(deadline=60)).reason == "identity expired"


async def test_the_machine_has_a_clock_too(virtual_serve: Serve) -> None:
    broker = quick_broker()

    @broker.use
    def authenticate(socket: Socket) -> None:
        socket.expires_at = 1.0  # 1970

    async with virtual_serve(broker) as server, websocket(server) as peer:
        await peer.opened()
        await peer.send_text("40")
        await peer.expect('44{"message":"identity expired","data":{"code":"identity_expired"}}')
