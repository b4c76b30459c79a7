"""The listener in bad weather: slow, large, broken and chopped heads, addresses, TLS, and HTTP's details."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

import pytest
import trio

from broker import Broker, HttpRequest, HttpResponse, Limits
from broker.server import hosting
from tests.broker import carriers
from tests.broker.carriers import Carrier
from tests.peers import (
    ENGINE_PATH,
    SEPARATOR,
    BareWebSocket,
    Door,
    HttpPeer,
    PollingPeer,
    Response,
    client,
    http,
    open_sockets,
    quick_broker,
    serving,
    settled,
    upgrade_head,
)

POLLING = f"{ENGINE_PATH}&transport=polling"
WEBSOCKET = f"{ENGINE_PATH}&transport=websocket"
ours = pytest.mark.parametrize("carrier", [carriers.plain, carriers.tls, carriers.unix, carriers.memory])


# -- request heads -----------------------------------------------------------------------


@ours
async def test_a_slow_head(carrier: Carrier) -> None:
    async with carrier(quick_broker(limits=Limits(header_timeout=0.05))) as door:
        async with await HttpPeer.open(door) as peer:
            await peer.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\n")
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (408, 105)
            assert answer.json["message"] == "Request timeout"
            assert answer.header("connection") == "close"
            assert await peer.wait_closed() == b""
        assert (await http(door, "GET", POLLING)).status == 200


@ours
async def test_a_connection_that_says_nothing(carrier: Carrier) -> None:
    async with (
        carrier(quick_broker(limits=Limits(header_timeout=0.05))) as door,
        await HttpPeer.open(door) as peer,
    ):
        assert await peer.wait_closed() == b""


@ours
@pytest.mark.parametrize("ended", [False, True])
async def test_a_head_that_is_too_large(carrier: Carrier, ended: bool) -> None:
    async with carrier(quick_broker(limits=Limits(header_bytes=1_000))) as door:
        async with await HttpPeer.open(door) as peer:
            await peer.send_raw(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1_200 + b"\r\n\r\n" * ended)
            answer = await peer.receive()
            assert (answer.status, answer.json["code"]) == (431, 106)
            assert answer.header("connection") == "close"
            assert await peer.wait_closed() == b""
        assert (await http(door, "GET", POLLING)).status == 200


@pytest.mark.parametrize("carrier", [carriers.plain, carriers.tls, carriers.unix])
async def test_an_answer_is_not_lost_to_unread_input(carrier: Carrier) -> None:
    async with carrier(quick_broker()) as door, await HttpPeer.open(door) as peer:
        for _ in range(20):
            await peer.send_raw(b"x" * 10_000)
        answer = await peer.receive()
        assert (answer.status, answer.json["code"]) == (431, 106)


async def test_a_refused_peer_that_does_not_close_is_dropped() -> None:
    async with serving(quick_broker(limits=Limits(close_timeout=0.05))) as server:
        before = open_sockets()
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(b"\r\n\r\n")
            assert (await peer.receive()).status == 400
            with trio.fail_after(2):
                while open_sockets() > before + 1:  # noqa: ASYNC110 - the broker's end closes
                    await trio.sleep(0.001)


@pytest.mark.parametrize("target", [POLLING, WEBSOCKET, "/"])
async def test_too_many_header_fields(target: str) -> None:
    fields = [(f"x-{number}", "1") for number in range(101)]
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        if target == WEBSOCKET:
            await peer.send_raw(upgrade_head(target, peer.authority, fields))
        else:
            await peer.send("GET", target, fields)
        answer = await peer.receive()
        assert (answer.status, answer.json["code"]) == (431, 106)
        assert await peer.wait_closed() == b""


async def test_too_many_header_fields_later_on_a_connection() -> None:
    broker = quick_broker()
    async with serving(broker) as server, await HttpPeer.open(server) as peer:
        assert (await peer.request("GET", POLLING)).status == 200
        answer = await peer.request("GET", POLLING, [(f"x-{number}", "1") for number in range(101)])
        assert (answer.status, answer.json["code"]) == (431, 106)
        assert answer.header("connection") == "close"
        assert await peer.wait_closed() == b""
        assert broker.statistics().refusals == {"HEAD_TOO_LARGE": 1}


GARBAGE = [
    b"\r\n\r\n",
    b"\0\1\2\3\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"POST /socket.io/?secret=1 HTTP/9\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage(garbage: bytes) -> None:
    async with serving(quick_broker()) as server:
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(garbage)
            answer = await peer.receive()
            assert answer.status in (400, 501)
            assert (answer.json["code"], answer.json["message"]) == (109, "Malformed HTTP request")
            assert b"secret" not in answer.body
            assert await peer.wait_closed() == b""
        assert (await http(server, "GET", POLLING)).status == 200


@ours
@pytest.mark.parametrize("head", [b"", b"GET / HT"])
async def test_a_peer_that_leaves_in_the_head(carrier: Carrier, head: bytes) -> None:
    async with carrier(quick_broker()) as door:
        async with await HttpPeer.open(door) as peer:
            if head:
                await peer.send_raw(head)
        await settled()
        assert (await http(door, "GET", POLLING)).status == 200


@ours
@pytest.mark.parametrize("upgrade", [False, True])
async def test_a_head_in_pieces(carrier: Carrier, upgrade: bool) -> None:
    async with carrier(quick_broker()) as door, await HttpPeer.open(door) as peer:
        head = f"GET {POLLING} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        if upgrade:
            head = upgrade_head(WEBSOCKET)
        for byte in head:
            await peer.send_raw(bytes([byte]))
            await trio.lowlevel.checkpoint()
        if upgrade:
            data = b""
            while b'maxPayload":1000000}' not in data:
                data += await peer.stream.receive_some()
            assert data.startswith(b"HTTP/1.1 101 ")
        else:
            assert (await peer.receive()).text.startswith("0{")


# -- HTTP's details ------------------------------------------------------------------------


async def test_keep_alive_and_pipelining() -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        for _ in range(3):
            answer = await peer.request("GET", POLLING)
            assert (answer.status, answer.header("connection")) == (200, None)
        session = await PollingPeer.open(server)
        await peer.send("POST", session.target, body="40")
        await peer.send("GET", session.target)
        await peer.send("POST", session.target, body='42["echo",1]')
        await peer.send("GET", session.target)
        assert (await peer.receive()).body == b"ok"
        assert (await peer.receive()).text.startswith("40{")
        assert (await peer.receive()).body == b"ok"
        assert (await peer.receive()).text == '42["echo",1]'


async def test_large_messages_over_a_connection_that_has_carried_requests() -> None:
    size = 17 * 1_048_576  # more than hypercorn lets in of itself
    broker = quick_broker(max_payload_bytes=size + 100, ping_interval=25.0)
    async with serving(broker) as server, await HttpPeer.open(server) as peer:
        assert (await peer.request("GET", "/elsewhere")).status == 404
        await peer.send_raw(upgrade_head(WEBSOCKET))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await peer.stream.receive_some()
        bare = BareWebSocket(peer, Response(101, [], b""), answer.partition(b"\r\n\r\n")[2])
        await bare.send_frame(1, b"40")
        await bare.send_frame(1, b'42["echo","%s"]' % (b"x" * size))
        payloads = [await bare.receive_frame() for _ in range(3)]
        assert payloads[-1] is not None
        assert len(payloads[-1].payload) > size


async def test_a_closed_connection_does_not_end_a_session() -> None:
    async with serving(quick_broker()) as server:
        session = await PollingPeer.open(server)
        close = [("Connection", "close")]
        async with await HttpPeer.open(server) as peer:
            answer = await peer.request("POST", session.target, close, "40")
            assert (answer.body, answer.header("connection")) == (b"ok", "close")
            assert await peer.wait_closed() == b""
        assert (await session.receive()).startswith("40{")


async def test_chunked_bodies() -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        session = await PollingPeer.open(server)
        chunks = b"1\r\n4\r\n1;x=y\r\n0\r\n0\r\n\r\n"
        answer = await peer.request("POST", session.target, [("Transfer-Encoding", "chunked")], chunks)
        assert answer.body == b"ok"
        assert (await session.receive()).startswith("40{")


async def test_chunked_bodies_are_bounded() -> None:
    async with serving(quick_broker(max_payload_bytes=100)) as server, await HttpPeer.open(server) as peer:
        session = await PollingPeer.open(server)
        await peer.send("POST", session.target, [("Transfer-Encoding", "chunked")])
        for _ in range(3):
            await peer.send_raw(b"32\r\n" + b"6" * 50 + b"\r\n")
        answer = await peer.receive()
        assert (answer.status, answer.json["code"]) == (413, 101)


async def test_expect_100_continue() -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        session = await PollingPeer.open(server)
        expecting = [("Expect", "100-continue"), ("Content-Length", "2")]
        await peer.send("POST", session.target, expecting)
        data = b""
        while b"\r\n\r\n" not in data:
            data += await peer.stream.receive_some()
        assert data.startswith(b"HTTP/1.1 100 ")
        await peer.send_raw(b"40")
        assert (await peer.receive()).body == b"ok"
        assert (await session.receive()).startswith("40{")


async def test_absolute_targets() -> None:
    async with serving(quick_broker()) as server:
        origin = f"http://127.0.0.1:{server.port}"
        assert (await http(server, "GET", origin + POLLING)).status == 200
        async with await BareWebSocket.open(server, origin + ENGINE_PATH) as bare:
            assert bare.answer.status == 101


@pytest.mark.parametrize(
    "query",
    [
        "EIO=4&transport=polling&sid={sid}&sid={sid}",
        "EIO=4&transport=polling&sid={sid}&sid=",
        "EIO=4&transport=polling&sid={sid}%00",
    ],
)
async def test_a_session_named_twice(query: str) -> None:
    async with serving(quick_broker()) as server:
        session = await PollingPeer.open(server)
        answer = await http(server, "GET", "/socket.io/?" + query.format(sid=session.sid))
        assert (answer.status, answer.json["code"]) == (400, 1)
        await session.join()


async def test_a_percent_encoded_query() -> None:
    async with serving(quick_broker()) as server:
        assert (await http(server, "GET", "/socket.io/?%45IO=%34&transport=p%6Flling&t=%zz")).status == 200


async def test_a_body_nobody_asked_for() -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        assert (await peer.request("GET", POLLING, body="x" * 1_000)).status == 200
        assert (await peer.request("GET", POLLING)).status == 200


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_old_http(version: bytes) -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        await peer.send_raw(b"GET %s HTTP/%s\r\nHost: x\r\n\r\n" % (POLLING.encode(), version))
        assert (await peer.receive()).status == 200


async def test_a_middleware_may_answer_with_any_status() -> None:
    broker = quick_broker()
    broker.engine.use(lambda request: HttpResponse(499, b"mine"))
    async with serving(broker) as server:
        assert (await http(server, "GET", POLLING)).status == 499
        async with await BareWebSocket.open(server) as bare:
            assert bare.answer.status == 499


async def test_a_hook_that_is_not_ready_does_not_hold_up_others() -> None:
    gate = trio.Event()
    broker = quick_broker()

    @broker.engine.use
    async def wait(request: HttpRequest) -> None:
        if request.header("x-slow"):
            await gate.wait()

    async with serving(broker) as server, await HttpPeer.open(server) as slow:
        await slow.send("GET", POLLING, [("X-Slow", "1")])
        async with client(server):
            gate.set()
        assert (await slow.receive()).status == 200


# -- addresses --------------------------------------------------------------------------


async def test_several_addresses(tmp_path: Path) -> None:
    path = str(tmp_path / "b.sock")
    async with serving(quick_broker(), bind=["127.0.0.1:0", f"unix:{path}"]) as server:
        assert len(server.urls) == 3
        assert server.url == f"http://127.0.0.1:{server.port}" == server.urls[0]
        assert server.urls[2] == f"unix:{path}"
        second = int(server.urls[1].rpartition(":")[2])
        for door in (Door(server.port), Door(second), Door(path=path)):
            async with client(door) as peer:
                await peer.emit("echo", 1)
                await peer.expect('42["echo",1]')


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _ipv6(), reason="no IPv6 loopback here")
async def test_ipv6() -> None:
    async with serving(quick_broker(), host=None, bind=["[::1]:0"]) as server:
        assert server.url == f"http://[::1]:{server.port}"
        async with client(Door(server.port, host="::1")):
            pass


@pytest.mark.skipif(not _ipv6(), reason="no IPv6 loopback here")
async def test_a_proxy_is_known_on_an_inherited_socket_for_both_families() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as inherited:
        port: int = inherited.getsockname()[1]
        broker = quick_broker(limits=Limits(sessions_per_address=1), ping_interval=25.0)
        async with broker, trio.open_nursery() as nursery:
            await nursery.start(partial(broker.serve, None, bind=[f"fd:{os.dup(inherited.fileno())}"]))
            for _ in range(2):
                await PollingPeer.open(port)
            nursery.cancel_scope.cancel()


async def test_a_name_is_one_port_on_all_its_addresses() -> None:
    async with serving(quick_broker(), host="localhost") as server:
        assert {url.rpartition(":")[2] for url in server.urls} == {str(server.port)}


async def test_a_port_in_use_opens_nothing(tmp_path: Path) -> None:
    broker = quick_broker()
    async with serving(broker) as server:
        before = open_sockets()
        for bind in ([f"127.0.0.1:{server.port}"], ["127.0.0.1:0", f"127.0.0.1:{server.port}"]):
            with pytest.raises(OSError, match="in use"):
                await Broker().serve(None, bind=bind)
        with pytest.raises(OSError, match="in use"):
            await Broker().serve("127.0.0.1", server.port)
        assert open_sockets() == before
        async with client(server):
            pass
    with pytest.raises(OSError, match=r"No such file|not found"):
        await Broker().serve(None, bind=[f"unix:{tmp_path}/missing/b.sock"])


@pytest.mark.parametrize("address", ["", "3000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
async def test_addresses_that_cannot_be_read(address: str) -> None:
    before = open_sockets()
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        await Broker().serve("127.0.0.1", 0, bind=[address])
    assert open_sockets() == before


async def test_a_socket_file_left_behind_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with serving(quick_broker(), host=None, bind=[f"unix:{path}"]):
        async with client(Door(path=str(path))):
            pass
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await Broker().serve(None, bind=[f"unix:{path}"])
    assert path.read_text() == "precious"


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_socket_file_of_a_server_that_lives_is_left_to_it(is_full: bool, tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(str(path))
        living.listen(0)
        if is_full:
            waiting.connect(str(path))
        with pytest.raises(OSError, match="in use"):
            await Broker().serve(None, bind=[f"unix:{path}"])
        assert path.is_socket()


async def test_a_socket_file_that_is_gone_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "b.sock"
    async with serving(quick_broker(), host=None, bind=[f"unix:{path}"]):
        path.unlink()


# -- TLS -----------------------------------------------------------------------------------


async def test_tls_garbage_and_silence() -> None:
    server_context, client_context = carriers.tls_contexts()
    broker = quick_broker(limits=Limits(header_timeout=0.1))
    async with serving(broker, ssl_context=server_context) as server:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"\0" * 500):
            async with await HttpPeer.open(server) as peer:
                await peer.send_raw(data)
                assert not (await peer.wait_closed()).startswith(b"HTTP")
        async with await HttpPeer.open(server) as peer:
            assert await peer.wait_closed() == b""
        async with client(Door(server.port, ssl_context=client_context)):
            pass


async def test_handshakes_of_tls_are_bounded_too() -> None:
    server_context, client_context = carriers.tls_contexts()
    broker = quick_broker(limits=Limits(handshakes=2))
    async with serving(broker, ssl_context=server_context) as server:
        silent = [await HttpPeer.open(server) for _ in range(2)]
        await settled()
        async with await HttpPeer.open(server) as peer:
            assert await peer.wait_closed() == b""
        assert broker.statistics().refusals == {"TOO_MANY_HANDSHAKES": 1}
        for peer in silent:
            await peer.abort()
        await settled()
        async with client(Door(server.port, ssl_context=client_context)):
            pass


@pytest.mark.clause("EIO-POLL-11")
async def test_a_refusal_over_tls_survives_the_body_that_is_still_on_its_way() -> None:
    server_context, client_context = carriers.tls_contexts()
    async with serving(quick_broker(max_payload_bytes=1_000), ssl_context=server_context) as server:
        door = Door(server.port, ssl_context=client_context)
        session = await PollingPeer.open(door)
        async with await HttpPeer.open(door) as peer:
            await peer.send("POST", session.target, [("Content-Length", "8000000")])
            # More than all buffers on the way take: it can be sent only if somebody reads it.
            await peer.send_raw(b"4" * 8_000_000)
            answer = await peer.receive("POST")
        assert (answer.status, answer.json["code"]) == (413, 101)


async def test_a_peer_that_does_not_close_after_the_last_answer_is_closed() -> None:
    broker = quick_broker(max_payload_bytes=100, limits=Limits(close_timeout=0.05))
    async with serving(broker) as server, await HttpPeer.open(server) as peer:
        session = await PollingPeer.open(server)
        await peer.send("POST", session.target, [("Content-Length", "101")])
        assert (await peer.receive("POST")).status == 413
        await peer.send_raw(b"4")
        assert await peer.wait_closed() == b""
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)), trio.fail_after(2):
            while True:
                await peer.stream.send_all(b"4")


async def test_a_connection_on_which_a_websocket_was_refused_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosting, "_KEEP_ALIVE_TIMEOUT", 0.05)
    async with serving(quick_broker(limits=Limits(close_timeout=0.05))) as server:
        async with await HttpPeer.open(server) as peer:
            await peer.send_raw(upgrade_head("/elsewhere", headers=[("sec-websocket-key", "")]))
            assert (await peer.receive()).status == 400
            assert await peer.wait_closed() == b""


# -- streams of the application's own -------------------------------------------------------


async def test_a_stream_that_breaks_does_not_raise() -> None:
    async with Broker() as broker:
        for data in (b"", b"GET"):
            ours, theirs = await carriers.socket_pair()
            assert isinstance(ours, trio.SocketStream)
            if data:
                await ours.send_all(data)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await ours.aclose()
            with trio.fail_after(2):
                await broker.handle_stream(theirs)
        _left, right = await carriers.memory_pair()
        await right.aclose()
        await broker.handle_stream(right)


@pytest.mark.parametrize("tls", [False, True])
async def test_the_address_of_a_stream_is_seen_on_every_transport(tls: bool) -> None:
    server_context, client_context = carriers.tls_contexts()
    broker = quick_broker(ping_interval=25.0)
    seen: list[tuple[str, str]] = []
    broker.on("connect")(lambda socket: seen.append((socket.transport, socket.handshake.address)))

    async def handle(stream: trio.SocketStream) -> None:
        await broker.handle_stream(
            trio.SSLStream(stream, server_context, server_side=True, https_compatible=True) if tls else stream
        )

    async with broker, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        door = Door(port, ssl_context=client_context if tls else None)
        async with client(door):
            await (await PollingPeer.open(door)).join()
        nursery.cancel_scope.cancel()
    assert seen == [("websocket", "127.0.0.1"), ("polling", "127.0.0.1")]


@pytest.mark.parametrize("target", ["/elsewhere", WEBSOCKET])
@pytest.mark.parametrize("key", ["", "dGhlIHNhbXBsZSBub25jZQ=="])
@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_frames_behind_a_request_for_a_websocket_do_not_raise(
    target: str, key: str, before: bytes
) -> None:
    ours, theirs = await carriers.socket_pair()
    head = upgrade_head(target, headers=[("sec-websocket-key", key)])
    async with quick_broker(limits=Limits(close_timeout=0.05)) as broker, trio.open_nursery() as nursery:
        nursery.start_soon(broker.handle_stream, theirs)
        await ours.send_all(before + head + b"x" * 20)
        await settled()
        await ours.aclose()


async def test_a_cancelled_stream_is_closed() -> None:
    async with Broker() as broker:
        ours, theirs = await carriers.memory_pair()
        with trio.move_on_after(0.01):
            await broker.handle_stream(theirs)
        assert await ours.receive_some() == b""


async def test_many_requests_over_one_stream() -> None:
    async with carriers.memory(quick_broker()) as door, await HttpPeer.open(door) as peer:
        opened = await peer.request("GET", POLLING)
        assert opened.text.startswith("0{")
        assert (await peer.request("GET", "/")).status == 404


async def test_many_payloads_at_once_over_pipelined_requests() -> None:
    async with serving(quick_broker()) as server:
        session = await PollingPeer.open(server)
        await session.join()
        async with await HttpPeer.open(server) as peer:
            for first in range(0, 100, 10):
                packets = SEPARATOR.join(f'42["echo",{number}]' for number in range(first, first + 10))
                await peer.send("POST", session.target, body=packets)
            for _ in range(10):
                assert (await peer.receive()).body == b"ok"
        for number in range(100):
            await session.expect(f'42["echo",{number}]')
