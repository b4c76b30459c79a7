"""How the client gets to a server: TLS, an HTTP proxy, and what stands in its way."""

from __future__ import annotations

import ssl
from functools import partial

import h11
import pytest
import trio
import trustme

from broker import ConnectError, Limits, open_client
from tests.client.fake import Talk, scripted
from tests.client.servers import make_broker
from tests.peers import serving

BOTH = pytest.mark.parametrize("transports", [("polling",), ("websocket",), ("polling", "websocket")])

pytestmark = pytest.mark.usefixtures("within_the_deadline")


class Proxy:
    """An HTTP proxy for tunnels and plain requests, on a free port."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.status = 200

    async def serve(self, stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER)
        while not isinstance(event := http.next_event(), h11.Request):
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.ConnectionClosed):
                return
        headers = dict(event.headers)
        self.asked.append((event.method.decode(), headers.get(b"proxy-authorization", b"").decode()))
        if event.method != b"CONNECT" or self.status != 200:
            await stream.send_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = event.target.decode().rpartition(":")
        await stream.send_all(b"HTTP/1.1 200 Go\r\n\r\n")
        async with await trio.open_tcp_stream(host, int(port)) as onward, trio.open_nursery() as nursery:
            nursery.start_soon(copy, stream, onward, nursery.cancel_scope)
            nursery.start_soon(copy, onward, stream, nursery.cancel_scope)


async def copy(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        async for data in source:
            await target.send_all(data)
    except trio.BrokenResourceError:
        pass
    scope.cancel()


@pytest.fixture
async def proxy():
    served = Proxy()
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, served.serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        yield served, f"http://ada:p%40ss@127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


@BOTH
async def test_tls(transports):
    authority = trustme.CA()
    there, here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(there)
    authority.configure_trust(here)
    async with serving(make_broker(), ssl_context=there) as server:
        url = f"https://127.0.0.1:{server.port}"
        async with open_client(url, transports=transports, ssl_context=here) as client:
            assert await client.call("echo", "over TLS") == "over TLS"
        async with open_client(url, transports=transports, reconnect=None) as client:
            with pytest.raises(ConnectError, match="certificate"):
                await client.wait_connected()


async def test_a_websocket_through_a_proxy(proxy):
    served, url = proxy
    async with serving(make_broker()) as server:
        async with open_client(server.url, transports=("websocket",), proxy=url) as client:
            assert await client.call("echo", 1) == 1
        assert served.asked == [("CONNECT", "Basic YWRhOnBAc3M=")]
        served.status = 407
        async with open_client(server.url, transports=("websocket",), proxy=url, reconnect=None) as client:
            with pytest.raises(ConnectError, match="refused the connection with status 407"):
                await client.wait_connected()


async def test_polling_through_a_proxy(proxy):
    served, url = proxy
    async with open_client(
        "http://127.0.0.1:9", transports=("polling",), proxy=url, reconnect=None
    ) as client:
        with pytest.raises(ConnectError, match="status 407"):
            await client.wait_connected()
    assert served.asked == [("GET", "Basic YWRhOnBAc3M=")]


async def test_a_server_that_hangs_up_during_the_handshake():
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        for transport in ("websocket", "polling"):
            async with open_client(url, transports=(transport,), reconnect=None) as client:
                with pytest.raises(ConnectError, match=r"ended the connection|disconnected without"):
                    await client.wait_connected()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-Other\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", "bad Content-Length"),
        (
            b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\n",
            "Bad accept token",
        ),
    ],
)
async def test_an_answer_that_is_no_handshake(answer, why):
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_client(url, transports=("websocket",), reconnect=None) as client:
            with pytest.raises(ConnectError, match=why):
                await client.wait_connected()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize(
    "options", [{"url": "http://\u2603.example"}, {"headers": {"X": "a\nb"}}, {"path": "/\0"}]
)
async def test_what_cannot_be_asked_is_an_error_of_the_connection(transport, options):
    async with serving(make_broker()) as server:
        given = {"url": server.url, "transports": (transport,), "reconnect": None, **options}
        async with open_client(**given) as client:
            with pytest.raises(ConnectError):
                await client.wait_connected()


async def test_a_handler_that_never_ends_has_a_name():
    async def flood(talk: Talk) -> None:
        await talk.enter()
        await talk.say(*['42["x"]'] * 20)

    limits = Limits(inbox_messages=3, pause_timeout=0.02)
    async with (
        scripted(flood) as url,
        open_client(url, transports=("websocket",), limits=limits, reconnect=None) as client,
    ):
        client.on("x")(trio.sleep_forever)
        closed = trio.Event()
        reasons: list[str] = []

        @client.io.on("close")
        def close(reason: str) -> None:
            reasons.append(reason)
            closed.set()

        await closed.wait()
        assert reasons == ["handler stalled"]
