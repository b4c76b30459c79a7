"""The opening handshake: right ones in every spelling, wrong ones with the status that says what is wrong."""

from __future__ import annotations

import pytest

from tests.peers import ENGINE_PATH, BareWebSocket, HttpPeer, build_frame, quick_broker, serving

TARGET = f"{ENGINE_PATH}&transport=websocket"
LINES = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of that key, as in RFC 6455


def head(
    change: dict[str, str | None] | None = None,
    *,
    line: str = f"GET {TARGET} HTTP/1.1",
    extra: tuple[str, ...] = (),
) -> bytes:
    """Write a handshake; None takes a line out."""
    lines = {**LINES, **(change or {})}
    text = [f"{name}: {value}" for name, value in lines.items() if value is not None]
    return "\r\n".join([line, *text, *extra, "", ""]).encode("latin-1")


ACCEPTED = [
    ("as in the book", head()),
    ("upgrade in capitals", head({"Upgrade": "WebSocket"})),
    ("connection as a list", head({"Connection": "keep-alive, upgrade"})),
    ("connection in capitals", head({"Connection": "UPGRADE"})),
    ("subprotocol offered", head(extra=("Sec-WebSocket-Protocol: chat, superchat",))),
    ("compression offered", head(extra=("Sec-WebSocket-Extensions: permessage-deflate",))),
    ("extension named constructor", head(extra=("Sec-WebSocket-Extensions: constructor",))),
    ("extension named __proto__", head(extra=("Sec-WebSocket-Extensions: __proto__",))),
    ("a thousand extensions", head(extra=("Sec-WebSocket-Extensions: " + "x," * 999 + "x",))),
]

REFUSED = [
    ("no host", head({"Host": None}), 400),
    ("two hosts", head(extra=("Host: other",)), 400),
    ("HTTP 1.0", head(line=f"GET {TARGET} HTTP/1.0"), 400),
    ("POST", head(line=f"POST {TARGET} HTTP/1.1"), 400),
    ("no upgrade", head({"Upgrade": None}), 400),
    ("upgrade to h2c", head({"Upgrade": "h2c"}), 400),
    ("no connection", head({"Connection": None}), 400),
    ("connection close", head({"Connection": "close"}), 400),
    ("no version", head({"Sec-WebSocket-Version": None}), 426),
    *((f"version {one}", head({"Sec-WebSocket-Version": one}), 426) for one in ("0", "8", "12")),
    ("no key", head({"Sec-WebSocket-Key": None}), 400),
    ("key that is no base64", head({"Sec-WebSocket-Key": "not base64 at all!"}), 400),
    ("key of 15 bytes", head({"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAA"}), 400),
    ("key of 17 bytes", head({"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAA="}), 400),
    ("two keys", head(extra=("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",)), 400),
    ("head of more than 16 KiB", head(extra=("X-Long: " + "x" * 16_384,)), 431),
    ("101 headers", head(extra=tuple(f"X-{number}: 1" for number in range(101))), 431),
]


@pytest.mark.parametrize("request_head", [pytest.param(one[1], id=one[0]) for one in ACCEPTED])
async def test_accepted_without_extension(request_head: bytes) -> None:
    async with serving(quick_broker()) as server, await HttpPeer.open(server) as peer:
        await peer.send_raw(request_head)
        received = b""
        while b"\r\n\r\n" not in received:
            received += await peer.stream.receive_some()
        answer = received.partition(b"\r\n\r\n")[0].decode().lower()
        assert answer.startswith("http/1.1 101 ")
        assert f"sec-websocket-accept: {ACCEPT}".lower() in answer
        for absent in ("sec-websocket-extensions", "content-length"):
            assert absent not in answer
        assert answer.splitlines().count("sec-websocket-protocol: chat") == (b"superchat" in request_head)


@pytest.mark.parametrize(
    ("request_head", "status"), [pytest.param(one[1], one[2], id=one[0]) for one in REFUSED]
)
async def test_refused(request_head: bytes, status: int) -> None:
    broker = quick_broker()
    async with serving(broker) as server, await HttpPeer.open(server) as peer:
        await peer.send_raw(request_head)
        answer = await peer.receive()
        assert answer.status == status
        if status == 426:
            assert answer.header("sec-websocket-version") == "13"
        assert broker.statistics().sessions == 0


async def test_bytes_right_behind_the_request_are_kept() -> None:
    async with serving(quick_broker()) as server:
        async with await BareWebSocket.open(server, extra=build_frame(0x1, b"40")) as peer:
            opened, joined = await peer.receive_frame(), await peer.receive_frame()
            assert opened is not None
            assert joined is not None
            assert opened.payload.startswith(b'0{"sid"')
            assert joined.payload.startswith(b'40{"sid"')
