"""Events, acks and binary data: cases 128 to 151 of the table in README.md."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from broker import AckTimeout, Broker, EventError, Limits, Socket
from tests.duplex import TRANSPORTS, joined
from tests.peers import Closed, PollingPeer, client, quick_broker, settled

both = pytest.mark.parametrize("transport", TRANSPORTS)
Serve = Callable[..., Any]


def ph(number: int) -> str:
    return f'{{"_placeholder":true,"num":{number}}}'


def echoing() -> Broker:
    """Return the broker that the reference's conformance suite expects."""
    broker = quick_broker()

    @broker.on("message")
    def message(socket: Socket, *args: Any) -> None:
        socket.emit("message-back", *args)

    @broker.on("message-with-ack")
    def message_with_ack(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    return broker


def only(broker: Broker) -> Socket:
    (socket,) = broker.sockets.sockets.values()
    return socket


@both
async def test_128_event_with_json(serve: Serve, transport: str) -> None:
    async with serve(echoing()) as server, joined(server, transport) as peer:
        await peer.send('42["message",1,"2",{"3":[true]}]')
        await peer.expect('42["message-back",1,"2",{"3":[true]}]')


@both
async def test_129_event_with_attachments(serve: Serve, transport: str) -> None:
    async with serve(echoing()) as server, joined(server, transport) as peer:
        await peer.send(f'452-["message",{ph(0)},{ph(1)}]', b"\x01\x02", b"\x03")
        await peer.expect(f'452-["message-back",{ph(0)},{ph(1)}]', b"\x01\x02", b"\x03")


@both
async def test_130_ack(serve: Serve, transport: str) -> None:
    async with serve(echoing()) as server, joined(server, transport) as peer:
        await peer.send('42456["message-with-ack",1,"2",{"3":[false]}]')
        await peer.expect('43456[1,"2",{"3":[false]}]')


@both
async def test_131_ack_with_attachments(serve: Serve, transport: str) -> None:
    async with serve(echoing()) as server, joined(server, transport) as peer:
        await peer.send(f'452-789["message-with-ack",{ph(0)},{ph(1)}]', b"\x01", b"\x02\x03")
        await peer.expect(f"462-789[{ph(0)},{ph(1)}]", b"\x01", b"\x02\x03")


@pytest.mark.parametrize("packet", ["42{}", '42abc["message-with-ack",1,"2",{"3":[false]}]'])
async def test_132_invalid_formats_close(serve: Serve, packet: str) -> None:
    async with serve(echoing()) as server, client(server) as peer:
        await peer.send_text(packet)
        assert await peer.expect_close() == Closed(1002, "invalid payload")


@both
async def test_133_values_that_json_and_bytes_can_have(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, joined(server, transport) as peer:
        socket = only(broker)
        socket.emit(
            "x", None, datetime(2020, 1, 2, tzinfo=UTC), {"a": [b"\x01", {"b": b""}]}, bytearray(b"\x02")
        )
        await peer.expect(
            f'453-["x",null,"2020-01-02T00:00:00+00:00",{{"a":[{ph(0)},{{"b":{ph(1)}}}]}},{ph(2)}]',
            b"\x01",
            b"",
            b"\x02",
        )


@both
async def test_133_large_values(serve: Serve, transport: str) -> None:
    broker = quick_broker(max_payload_bytes=20_000_000, ping_interval=25.0)
    # The WebSocket client of the tests takes up to 1 MiB.
    size = 2_000_000 if transport == "polling" else 500_000
    text = "é" * size
    data = bytes(range(250)) * (size // 250)
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send(f'42["echo","{text}"]')
        await peer.expect(f'42["echo","{text}"]')
        await peer.send(f'451-["echo",{ph(0)}]', data)
        await peer.expect(f'451-["echo",{ph(0)}]', data)


async def test_134_a_handler_answers_once(serve: Serve) -> None:
    """A handler here cannot ack twice; an ack that comes twice from the client counts once."""
    broker = quick_broker()
    async with serve(broker) as server, client(server) as peer, trio.open_nursery() as nursery:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await only(broker).call("which"))

        nursery.start_soon(ask)
        await peer.expect('420["which"]')
        await peer.send_text("430[1]")
        await peer.send_text("430[2]")
        await settled()
        assert answers == [1]
        assert broker.statistics().events == {"unknown ack": 1}


@both
async def test_135_binary_without_header_ends_only_that_session(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server) as other:
        async with joined(server, transport) as peer:
            await peer.send(b"\x01")
            await peer.expect_end()
        await other.emit("echo", 1)
        await other.expect('42["echo",1]')


@both
async def test_136_an_event_called_error_is_an_event(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('42["error","x"]')
        await peer.send('42["echo"]')
        await peer.expect('42["echo"]')


@pytest.mark.parametrize(
    "name", ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
)
async def test_138_reserved_names_cannot_be_sent(serve: Serve, name: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, client(server):
        socket = only(broker)
        emitters: list[Any] = [
            broker.emit,
            broker.to("x").emit,
            broker.of("/other").emit,
            socket.emit,
            socket.volatile.emit,
            socket.broadcast.emit,
        ]
        for emit in emitters:
            with pytest.raises(ValueError, match=f"'{name}' is a reserved event name"):
                emit(name)
        for call in (broker.call, socket.call, socket.send_event, broker.server_side_emit):
            with pytest.raises(ValueError, match="reserved"):
                await call(name)
    with pytest.raises(TypeError, match="not int"):
        broker.emit(1)  # type: ignore[arg-type]


@both
async def test_139_listeners_for_all_events(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    seen: list[Any] = []

    @broker.on_any
    def incoming(event: str, *args: Any) -> None:
        seen.append(("in", event, args))

    @broker.on_any_outgoing
    def outgoing(event: str, *args: Any) -> None:
        seen.append(("out", event, args))

    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('42["nobody handles this",1]')
        await peer.send(f'451-["nobody",{ph(0)}]', b"\x01")
        await settled()
        broker.emit("all", b"\x02")
        only(broker).emit("one")
        await peer.expect(f'451-["all",{ph(0)}]', b"\x02", '42["one"]')
    assert seen == [
        ("in", "nobody handles this", (1,)),
        ("in", "nobody", (b"\x01",)),
        ("out", "all", (b"\x02",)),
        ("out", "one", ()),
    ]


@both
async def test_140_event_middlewares_in_order_and_refusing(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    seen: list[Any] = []

    @broker.on("connect")
    def connect(socket: Socket) -> None:
        @socket.use
        def first(event: str, args: list[Any]) -> None:
            seen.append((1, event, list(args)))
            args.append("added")

        @socket.use
        async def second(event: str, args: list[Any]) -> None:
            seen.append((2, event, list(args)))
            await trio.lowlevel.checkpoint()
            if args[0] == "bad":
                raise EventError("not_allowed", "no", {"retry": False})

    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('42["echo","good"]')
        await peer.send('42["echo","bad"]')
        await peer.send('427["echo","bad"]')
        error = '{"error":{"code":"not_allowed","message":"no","data":{"retry":false}}}'
        await peer.expect('42["echo","good","added"]', f'42["error",{error}]', f"437[{error}]")
    assert seen[:2] == [(1, "echo", ["good"]), (2, "echo", ["good", "added"])]
    assert len(seen) == 6


@both
async def test_141_ack_in_time_late_and_never(virtual_serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with virtual_serve(broker) as server, joined(server, transport) as peer:
        socket = only(broker)
        with pytest.raises(AckTimeout, match="operation has timed out"):
            await socket.timeout(0.05).call("never")
        await peer.expect('420["never"]')
        await peer.send('430["late"]')
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await socket.call("soon", timeout=5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await peer.expect('421["soon"]')
            await peer.send("431[1,2]")
        assert answers == [(1, 2)]
        assert broker.statistics().events == {"unknown ack": 1}
        assert len(socket.acks) == 0


@both
async def test_142_acks_with_bytes_both_ways(serve: Serve, transport: str) -> None:
    broker = echoing()
    async with serve(broker) as server, joined(server, transport) as peer, trio.open_nursery() as nursery:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await only(broker).call("which", b"\x07"))

        nursery.start_soon(ask)
        await peer.expect(f'451-0["which",{ph(0)}]', b"\x07")
        await peer.send(f"461-0[{ph(0)},3]", b"\x08")
        await settled()
        assert answers == [(b"\x08", 3)]


async def test_143_events_right_behind_connect_are_in_order(serve: Serve) -> None:
    broker = quick_broker()
    seen: list[int] = []

    @broker.on("note")
    async def note(socket: Socket, number: int) -> None:
        if number % 3 == 0:
            await trio.lowlevel.checkpoint()
        seen.append(number)

    async with serve(broker) as server:
        peer = await PollingPeer.open(server)
        await peer.send("40", *(f'42["note",{number}]' for number in range(100)))
        await settled()
        assert seen == list(range(100))


@both
async def test_144_an_event_named_by_a_number(serve: Serve, transport: str) -> None:
    broker = quick_broker()

    @broker.on("1")
    def one(socket: Socket, text: str, data: dict[str, Any]) -> str:
        return text

    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('420[1,"a",{}]')
        await peer.expect('430["a"]')


@both
async def test_145_146_what_cannot_be_sent_hurts_only_the_sender(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    loop: list[Any] = []
    loop.append(loop)
    nested = {"a": [b"\x01", None, {"b": bytearray(b"\x02")}]}
    async with serve(broker) as server, joined(server, transport) as peer:
        socket = only(broker)
        for bad in (loop, object(), {1: object()}, float):
            with pytest.raises(TypeError):
                socket.emit("x", bad)
            with pytest.raises(TypeError):
                broker.emit("x", b"", bad)
        socket.emit("x", nested)
        await peer.expect(f'452-["x",{{"a":[{ph(0)},null,{{"b":{ph(1)}}}]}}]', b"\x01", b"\x02")
    assert nested == {"a": [b"\x01", None, {"b": bytearray(b"\x02")}]}


@both
async def test_148_attachment_limits(serve: Serve, transport: str) -> None:
    broker = quick_broker(limits=Limits(max_attachments=2))
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send(f'452-["echo",{ph(0)},{ph(1)}]', b"\x01", b"\x02")
        await peer.expect(f'452-["echo",{ph(0)},{ph(1)}]', b"\x01", b"\x02")
        await peer.send(f'453-["echo",{ph(0)},{ph(1)},{ph(2)}]')
        await peer.expect_end()
    assert broker.statistics().violations == {"TOO_MANY_ATTACHMENTS": 1}


async def test_148_ten_attachments_by_default(serve: Serve) -> None:
    places = ",".join(map(ph, range(10)))
    async with serve(quick_broker()) as server, joined(server) as peer:
        await peer.send(f'4510-["echo",{places}]', *(bytes([number]) for number in range(10)))
        await peer.expect(f'4510-["echo",{places}]', *(bytes([number]) for number in range(10)))


async def test_150_a_session_that_ends_within_a_binary_packet_frees_it(serve: Serve) -> None:
    """The decoder's own reset is tested in tests/protocol; here the namespace is left meanwhile."""
    broker = quick_broker()
    async with serve(broker) as server, joined(server) as peer:
        await peer.send(f'451-["echo",{ph(0)}]')
        await settled()
        only(broker).disconnect()
        await peer.expect("41")
        # What was on its way belongs to a namespace that was left: taken, and ignored.
        await peer.send(b"\x01")
        await peer.join()
        await peer.send('42["echo",1]')
        await peer.expect('42["echo",1]')
    assert broker.statistics().violations == {}


@both
async def test_unhandled_events_are_counted_and_not_acked(serve: Serve, transport: str) -> None:
    broker = quick_broker()
    async with serve(broker) as server, joined(server, transport) as peer:
        await peer.send('425["nobody"]')
        await peer.send('426["echo",1]')
        await peer.expect('42["echo",1]', "436[1]")
        assert broker.statistics().events == {"unhandled": 1}


async def test_failing_listeners_and_middlewares_are_contained(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    broker = quick_broker()

    @broker.on_any
    def broken(event: str, *args: Any) -> None:
        raise KeyError("secret")

    async with serve(broker) as server, client(server) as peer:
        with caplog.at_level(logging.CRITICAL, logger="broker"):
            await peer.send_text('420["echo"]')
            await peer.expect('430[{"error":{"code":"internal","message":"internal error"}}]')
        assert broker.statistics().events == {"failed": 1}
