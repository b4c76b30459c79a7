"""The polling transport: cases 31 to 56 of the table in README.md."""

from __future__ import annotations

import socket as plain_socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import trio

from broker import Broker, Limits, Socket
from tests.peers import HttpPeer, PollingPeer, http, quick_broker, settled

from .endings import Ends, calm_broker, refused, soon

Serve = Callable[..., Any]


async def joined(server: Any, **options: Any) -> PollingPeer:
    """Open a session on polling and join `/`."""
    peer = await PollingPeer.open(server, **options)
    await peer.join()
    return peer


async def test_031_post_is_delivered_and_echoed(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        response = await peer.post('42["echo","hello"]')
        assert (response.status, response.body) == (200, b"ok")
        assert response.header("content-type") == "text/html"
        response = await peer.get()
        assert (response.status, response.text) == (200, '42["echo","hello"]')
        assert response.header("content-type") == "text/plain; charset=UTF-8"


async def test_032_packets_of_a_payload_are_answered_in_one(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        payload = '42["echo",1]\x1e42["echo",2]\x1e42["echo",3]'
        await peer.post(payload)
        assert (await peer.get()).text == payload


async def test_033_text_and_binary_in_one_payload(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        payload = '42["echo","hello"]\x1e451-["echo",{"_placeholder":true,"num":0}]\x1ebAQIDBA=='
        await peer.post(payload)
        assert (await peer.get()).text == payload


async def test_034_bad_payload_is_refused_and_ends_the_session(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        with soon():
            refused(await peer.post("abc"), 400, 104)
            await ends.expect("parse error")
            refused(await peer.get(), 400, 1)


async def test_034_what_stands_before_the_bad_packet_is_acted_on(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    got: list[str] = []
    broker.on("note")(lambda socket, text: got.append(text))
    async with serve(broker) as server:
        peer = await joined(server)
        refused(await peer.post('42["note","before"]\x1eabc\x1e42["note","behind"]'), 400, 104)
        await ends.expect("parse error")
        assert got == ["before"]


async def test_035_second_get_ends_the_session(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        async with await peer.begin_get() as parked:
            with soon():
                refused(await peer.get(), 400, 103)
                first = await parked.receive()
                assert (first.status, first.text) == (200, "1")
                await ends.expect("transport error")
                refused(await peer.get(), 400, 1)


@pytest.mark.parametrize("reset", [False, True])
async def test_036_044_aborted_get_ends_the_session(serve: Serve, reset: bool) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        parked = await peer.begin_get()
        if reset:
            assert isinstance(parked.stream, trio.SocketStream)
            parked.stream.socket.setsockopt(
                plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        await parked.abort()
        await ends.expect("transport error")
        refused(await peer.get(), 400, 1)


async def test_037_octet_stream_is_refused_without_delay(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        # Only the head, so that the answer cannot have waited for the body.
        async with await HttpPeer.open(server) as half:
            with soon():
                headers = [("Content-Type", "application/octet-stream"), ("Content-Length", "100")]
                await half.send("POST", peer.target, headers)
                refused(await half.receive("POST"), 400, 3)
                await ends.expect("transport error")


def chunked(body: bytes, size: int) -> bytes:
    """Write a body in the chunked coding."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


@pytest.mark.parametrize("coding", ["plain", "chunked"])
@pytest.mark.parametrize("middleware", [False, True])
async def test_038_048_body_up_to_max_payload(serve: Serve, coding: str, middleware: bool) -> None:
    broker = calm_broker(max_payload_bytes=1000)
    if middleware:
        broker.engine.use(lambda request: None)
    async with serve(broker) as server:
        peer = await joined(server)

        async def post(size: int) -> Any:
            body = b'42["echo","%s"]' % (b"x" * (size - 13))
            assert len(body) == size
            if coding == "plain":
                return await peer.post(body)
            return await peer.post(chunked(body, 300), [("Transfer-Encoding", "chunked")])

        refused(await post(1001), 413, 101)
        assert (await post(1000)).status == 200
        await peer.expect('42["echo","%s"]' % ("x" * 987))


async def test_039_declared_length_is_refused_before_the_body(serve: Serve) -> None:
    async with serve(calm_broker(max_payload_bytes=1000)) as server:
        peer = await joined(server)
        async with await HttpPeer.open(server) as half:
            with soon():
                await half.send("POST", peer.target, [("Content-Length", "1000000000")])
                refused(await half.receive("POST"), 413, 101)
        assert await peer.status() == 200


async def test_040_unknown_session(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        for method, body in (("GET", None), ("POST", "2")):
            response = await http(
                server, method, "/socket.io/?EIO=4&transport=polling&sid=abcdefghijklmnopqrst", (), body
            )
            assert response.status == 400
            assert response.body == b'{"code":1,"message":"Session ID unknown"}'


WIDE = '42["echo","кот 猫 😀"]'


async def test_041_body_in_pieces_within_a_character(virtual_serve: Serve) -> None:
    async with virtual_serve(calm_broker()) as server:
        peer = await joined(server)
        data = WIDE.encode()
        async with await HttpPeer.open(server) as slow:
            await slow.send("POST", peer.target, [("Content-Length", str(len(data)))])
            for start in range(len(data)):
                await slow.send_raw(data[start : start + 1])
                await settled()
            assert (await slow.receive("POST")).body == b"ok"
        await peer.expect(WIDE)


async def test_041_body_in_chunks_within_a_character(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        response = await peer.post(chunked(WIDE.encode(), 1), [("Transfer-Encoding", "chunked")])
        assert response.body == b"ok"
        await peer.expect(WIDE)


async def test_042_connection_close_does_not_touch_the_session(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server, headers=[("Connection", "close")])
        for number in range(3):
            await peer.send(f'42["echo",{number}]')
            await peer.expect(f'42["echo",{number}]')


async def test_042_one_connection_for_everything(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        other = await joined(server)
        async with await HttpPeer.open(server) as kept:
            for number in range(3):
                for one in (peer, other):
                    await kept.send("POST", one.target, (), f'42["echo",{number}]')
                    assert (await kept.receive("POST")).body == b"ok"
                    answer = await kept.request("GET", one.target)
                    assert answer.text == f'42["echo",{number}]'


@pytest.mark.parametrize("request_line", ["GET", "POST"])
async def test_043_server_closes_while_a_request_is_open(request_line: str) -> None:
    broker = calm_broker(limits=Limits(close_timeout=0.1))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(broker.serve, "127.0.0.1", 0)
        peer = await joined(server)
        open_one = await HttpPeer.open(server)
        if request_line == "POST":
            await open_one.send("POST", peer.target, [("Content-Length", "100")])
        else:
            await open_one.send("GET", peer.target)
        await settled()
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 1
    await open_one.wait_closed()
    await open_one.abort()


@pytest.mark.parametrize("parked", [False, True])
async def test_043_session_ends_while_a_post_is_open(serve: Serve, parked: bool) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        peer = await joined(server)
        waiting = await peer.begin_get() if parked else None
        async with await HttpPeer.open(server) as half:
            await half.send("POST", peer.target, [("Content-Length", "100")])
            await settled()
            for socket in list(broker.of("/").sockets.values()):
                socket.disconnect(close=True)
            with soon():
                refused(await half.receive("POST"), 400, 1)
        if waiting is not None:
            assert (await waiting.receive()).text.split("\x1e")[0] == "41"
            await waiting.abort()


async def test_045_close_while_the_client_is_away(virtual_serve: Serve) -> None:
    broker = calm_broker(limits=Limits(close_timeout=0.1))
    ends = Ends(broker)
    async with virtual_serve(broker) as server:
        peer = await joined(server)
        for socket in list(broker.of("/").sockets.values()):
            socket.disconnect(close=True)
        await ends.expect("server namespace disconnect")
        with trio.fail_after(0.5):
            for session in list(broker._engine.sessions.values()):
                await session.wait_ended()
        assert broker.statistics().sessions == 0
        refused(await peer.get(), 400, 1)


async def test_045_close_is_told_to_a_client_that_comes_back(serve: Serve) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        peer = await joined(server)
        for socket in list(broker.of("/").sockets.values()):
            socket.emit("last", 1)
            socket.disconnect(close=True)
        await settled()
        assert await peer.packets() == ['42["last",1]', "41", "6", "1"]
        await settled()
        refused(await peer.get(), 400, 1)


async def test_049_what_is_sent_before_a_get_is_one_payload(serve: Serve) -> None:
    broker = calm_broker()
    async with serve(broker) as server:
        peer = await joined(server)
        for number in range(10):
            broker.emit("number", number)
        assert await peer.packets() == [f'42["number",{number}]' for number in range(10)]
        async with await peer.begin_get() as parked:
            broker.emit("number", 10)
            assert (await parked.receive()).text == '42["number",10]'


async def test_050_ping_comes_before_a_thousand_messages_that_wait(virtual_serve: Serve) -> None:
    broker = quick_broker(ping_interval=0.2, ping_timeout=3.0)
    async with virtual_serve(broker) as server:
        peer = await joined(server)
        for number in range(500):
            broker.emit("number", number)
        await trio.sleep(0.3)  # the ping goes ahead of the queue
        for number in range(500, 1000):
            broker.emit("number", number)
        packets: list[str] = []
        while len(packets) < 1001:
            packets += await peer.packets()
        expected = [f'42["number",{number}]' for number in range(1000)]
        assert packets == ["2", *expected]
        await peer.send("3")
        await peer.send('42["echo","alive"]')
        await peer.expect('42["echo","alive"]')


@pytest.mark.parametrize("text", ["你好世界", "😀👩‍👩‍👧", "Съешь ещё этих", "\u2028\x00é"])
async def test_052_every_character_passes_both_ways(serve: Serve, text: str) -> None:
    broker = calm_broker()
    got: list[str] = []

    @broker.on("text")
    def take(socket: Socket, value: str) -> None:
        got.append(value)
        socket.emit("text", value)

    async with serve(broker) as server:
        peer = await joined(server)
        escaped = text.replace("\x00", "\\u0000")
        await peer.send(f'42["text","{escaped}"]')
        await peer.expect(f'42["text","{escaped}"]')
        assert got == [text]


async def test_053_second_post_ends_the_session(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    got: list[int] = []
    broker.on("number")(lambda socket, value: got.append(value))
    async with serve(broker) as server:
        peer = await joined(server)
        async with await HttpPeer.open(server) as half:
            await half.send("POST", peer.target, [("Content-Length", "15")])
            await half.send_raw(b'42["num')
            await settled()
            with soon():
                refused(await peer.post('42["number",2]'), 400, 103)
                await ends.expect("transport error")
            await half.send_raw(b'ber",11]')
            refused(await half.receive("POST"), 400, 1)
        refused(await peer.get(), 400, 1)
        assert got == []


async def test_053_aborted_post_ends_the_session(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        async with await HttpPeer.open(server) as half:
            await half.send("POST", peer.target, [("Content-Length", "15")])
            await half.send_raw(b'42["num')
            await settled()
        await ends.expect("transport error")
        refused(await peer.get(), 400, 1)


async def test_053_slow_post_ends_the_session(virtual_serve: Serve) -> None:
    broker = Broker(limits=Limits(body_timeout=0.1))
    ends = Ends(broker)
    async with virtual_serve(broker) as server:
        peer = await joined(server)
        async with await HttpPeer.open(server) as half:
            await half.send("POST", peer.target, [("Content-Length", "15")])
            refused(await half.receive("POST"), 408, 105)
            await ends.expect("transport error")


async def test_053_post_is_served_beside_a_parked_get(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        async with await peer.begin_get() as parked:
            await peer.send('42["echo",1]')
            assert (await parked.receive()).text == '42["echo",1]'


async def test_054_empty_post_ends_the_session(serve: Serve) -> None:
    broker = calm_broker()
    ends = Ends(broker)
    async with serve(broker) as server:
        peer = await joined(server)
        async with await peer.begin_get() as parked:
            with soon():
                refused(await peer.post(""), 400, 104)
                await ends.expect("parse error")
                assert (await parked.receive()).text == "1"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
async def test_055_other_methods_leave_the_session(serve: Serve, method: str) -> None:
    async with serve(calm_broker()) as server:
        peer = await joined(server)
        response = await http(server, method, peer.target, (), "4hello")
        refused(response, 405, 102)
        assert response.header("allow") == "GET, POST"
        await peer.send('42["echo",1]')
        await peer.expect('42["echo",1]')


async def test_056_cache_buster_is_ignored(serve: Serve) -> None:
    async with serve(calm_broker()) as server:
        peer = await PollingPeer.open(server, "/socket.io/?t=abc.1&EIO=4")
        for number in range(3):
            peer.target += f"&t=xyz.{number}"
            await peer.post("40" if number == 0 else f'42["echo",{number}]')
            assert (await peer.get()).status == 200
