"""Cases for section 10: overlapping, aborted, malformed and oversized requests."""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, expect, expect_equal
from broker.conformance.http import ResponseReader, request_head
from broker.conformance.lab import ServerLab
from broker.conformance.polling import PollingPeer
from broker.conformance.websocket import WebSocketPeer

from .catalogue import CASES


async def expect_reason(lab: ServerLab, watcher: WebSocketPeer, socket_id: str, reason: str) -> None:
    """Ask the fixture why a socket ended."""
    for _ in range(20):
        found = (await watcher.call("reason-of", socket_id))[0]
        if found is not None:
            expect_equal(found, reason, "disconnect reason on the server")
            return
        await trio.sleep(lab.patience / 10)
    raise Deviation("the socket has not ended on the server")


async def watched(lab: ServerLab) -> tuple[PollingPeer, str, WebSocketPeer | None]:
    """Open a session on polling, and another session that can ask for reasons if the fixture tells them."""
    watcher = await lab.member() if lab.fixture.has("reasons") else None
    peer = await lab.polling()
    socket_id = await peer.join()
    return peer, socket_id, watcher


@CASES.case("polling/get-overlap", "EIO-POLL-7", "EIO-POLL-1")
async def get_overlap(lab: ServerLab) -> None:
    """A second GET is refused with code 103, the first gets `1`, and the session ends."""
    peer, socket_id, watcher = await watched(lab)
    first = await peer.parked()
    second = await peer.get(lab.patience)
    expect_equal((second.status, second.code), (400, 103), "status and code of the second")
    answer = await lab.answer(first, "GET", lab.patience)
    expect_equal((answer.status, answer.text), (200, "1"), "answer to the first")
    await peer.expect_gone()
    if watcher is not None:
        await expect_reason(lab, watcher, socket_id, "transport error")


@CASES.case("polling/get-aborted", "EIO-POLL-8")
async def get_aborted(lab: ServerLab) -> None:
    """An aborted GET ends the session with `transport error`, while it is parked."""
    peer, socket_id, watcher = await watched(lab)
    reader = await peer.parked()
    await trio.aclose_forcefully(reader.stream)
    await trio.sleep(lab.patience)
    await peer.expect_gone()
    if watcher is not None:
        await expect_reason(lab, watcher, socket_id, "transport error")


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "unknown-type": b"abc",
    "digit-7": b"7",
    "empty-packet-between": b"6\x1e\x1e6",
    "separator-at-end": b"6\x1e",
    "separator-at-start": b"\x1e6",
    "not-utf8": b"4\xff",
    "bad-base64": b"b!!!!",
    "eio3-length": b"5:4hello",
}


def _add_bad_body(name: str, body: bytes) -> None:
    @CASES.case(f"polling/malformed/{name}", "EIO-POLL-10", "EIO-PKT-7", "EIO-ERR-4")
    async def bad_body(lab: ServerLab) -> None:
        """A malformed payload is refused with code 104; the parked GET gets `1`, and the session ends."""
        peer = await lab.polling_member()
        parked = await peer.parked()
        response = await peer.post(body)
        expect_equal((response.status, response.code), (400, 104), "status and code")
        answer = await lab.answer(parked, "GET", lab.patience)
        expect_equal(answer.text.split("\x1e")[-1], "1", "answer to the parked GET")
        await peer.expect_gone()


for _name, _body in BAD_BODIES.items():
    if _name != "eio3-length":
        _add_bad_body(_name, _body)


@CASES.case("polling/malformed-reason", "EIO-POLL-10", "EIO-PKT-7", "SIO-REASON-1", needs=["reasons"])
async def malformed_reason(lab: ServerLab) -> None:
    """A malformed payload ends the session with `parse error`."""
    peer, socket_id, watcher = await watched(lab)
    await peer.post("abc")
    assert watcher is not None
    await expect_reason(lab, watcher, socket_id, "parse error")


@CASES.case("polling/too-large", "EIO-POLL-11", "EIO-PKT-8", "LIM-3")
async def too_large(lab: ServerLab) -> None:
    """A body above maxPayload is refused with 413 and code 101, and the session stays."""
    peer = await lab.polling_member()
    response = await peer.post("4" * (lab.fixture.max_payload + 1))
    expect_equal((response.status, response.code), (413, 101), "status and code")
    await peer.echo("unharmed")


@CASES.case("polling/too-large-declared", "EIO-POLL-11", "SEC-4")
async def too_large_declared(lab: ServerLab) -> None:
    """A declared length above maxPayload is refused without waiting for the body."""
    peer = await lab.polling_member()
    headers = [("Content-Length", str(10**12)), ("Content-Type", "text/plain")]
    head = request_head("POST", lab.query(peer.query), lab.target.authority, headers)
    response = await lab.raw_http(head + b"4", "POST", 2 * lab.patience)
    expect_equal((response.status, response.code), (413, 101), "status and code")
    await peer.echo("unharmed")


@CASES.case("polling/too-large-chunked", "EIO-POLL-11")
async def too_large_chunked(lab: ServerLab) -> None:
    """A chunked body above maxPayload is refused too, and none of its packets is acted on."""
    peer = await lab.polling_member()
    headers = [("Transfer-Encoding", "chunked"), ("Content-Type", "text/plain")]
    head = request_head("POST", lab.query(peer.query), lab.target.authority, headers)
    body = b'42["message","no"]\x1e6' + b"x" * lab.fixture.max_payload
    stream = await lab.connect()
    await stream.send_all(head)
    try:
        await stream.send_all(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    except trio.BrokenResourceError:
        pass
    response = await lab.answer(ResponseReader(stream), "POST")
    expect_equal((response.status, response.code), (413, 101), "status and code")
    await peer.echo("unharmed")


@CASES.case("polling/octet-stream", "EIO-POLL-12")
async def octet_stream(lab: ServerLab) -> None:
    """application/octet-stream is refused at once with code 3, and the session ends."""
    peer, socket_id, watcher = await watched(lab)
    response = await peer.post(b"\x01\x02", [("Content-Type", "application/octet-stream")])
    expect_equal((response.status, response.code), (400, 3), "status and code")
    await peer.expect_gone()
    if watcher is not None:
        await expect_reason(lab, watcher, socket_id, "transport error")


async def half_post(lab: ServerLab, peer: PollingPeer) -> trio.abc.Stream:
    """Send the head of a POST and half of its body."""
    stream = await lab.connect()
    headers = [("Content-Length", "20"), ("Content-Type", "text/plain")]
    head = request_head("POST", lab.query(peer.query), lab.target.authority, headers)
    await stream.send_all(head + b'42["mess')
    await trio.sleep(0.05)
    return stream


@CASES.case("polling/post-overlap", "EIO-POLL-13", "EIO-POLL-1")
async def post_overlap(lab: ServerLab) -> None:
    """A POST while another is not complete is refused with code 103, and the session ends."""
    peer, socket_id, watcher = await watched(lab)
    await half_post(lab, peer)
    response = await peer.post("6")
    expect_equal((response.status, response.code), (400, 103), "status and code")
    await peer.expect_gone()
    if watcher is not None:
        await expect_reason(lab, watcher, socket_id, "transport error")


@CASES.case("polling/post-aborted", "EIO-POLL-14")
async def post_aborted(lab: ServerLab) -> None:
    """An aborted POST ends the session with `transport error`."""
    peer, socket_id, watcher = await watched(lab)
    stream = await half_post(lab, peer)
    await trio.aclose_forcefully(stream)
    await trio.sleep(lab.patience)
    await peer.expect_gone()
    if watcher is not None:
        await expect_reason(lab, watcher, socket_id, "transport error")


@CASES.case("polling/post-slow", "EIO-POLL-14", "LIM-3", needs=["bounded"])
async def post_slow(lab: ServerLab) -> None:
    """A body that is not complete in time is answered 408 with code 105, and the session ends."""
    lab.use("bounded")
    peer = await lab.polling_member()
    stream = await half_post(lab, peer)
    response = await lab.answer(ResponseReader(stream), "POST", 0.4 + 2 * lab.patience)
    expect_equal((response.status, response.code), (408, 105), "status and code")
    await peer.expect_gone()


def _add_method(method: str) -> None:
    @CASES.case(f"polling/method/{method.lower()}", "EIO-POLL-15")
    async def other_method(lab: ServerLab) -> None:
        """Another method on a session is refused with 405 and code 102; the session stays."""
        peer = await lab.polling_member()
        response = await lab.http(method, peer.query)
        expect_equal(response.status, 405, "status")
        allow = {word.strip() for word in (response.header("allow") or "").split(",")}
        expect_equal(allow, {"GET", "POST"}, "Allow")
        if method != "HEAD":
            expect_equal(response.code, 102, "code")
        await peer.echo("unharmed")


for _method in ("PUT", "DELETE", "PATCH"):
    _add_method(_method)


@CASES.case("polling/never-polls", "EIO-HB-7", "EIO-POLL-17", "EIO-HB-2")
async def never_polls(lab: ServerLab) -> None:
    """A client that never polls is ended pingInterval + pingTimeout after OPEN, and not before."""
    peer = await lab.polling()
    fixture = lab.fixture
    await trio.sleep(fixture.ping_interval + fixture.ping_timeout - 0.1)
    # Anything sent would be a sign of life, so only a refused request looks whether it is there.
    alive = await lab.http("PUT", peer.query)
    expect(alive.status != 400 or alive.code != 1, "the session ended too early")
    await trio.sleep(0.1 + 2 * lab.patience)
    await peer.expect_gone()
