"""Cases for sections 4 and 7: requests, the headers of answers, refusals."""

from __future__ import annotations

from broker.conformance.cases import expect, expect_equal
from broker.conformance.http import Response, ResponseReader, request_head
from broker.conformance.lab import ServerLab

from .catalogue import CASES


@CASES.case("http/path-with-more-behind", "EIO-HTTP-1")
async def path_with_more(lab: ServerLab) -> None:
    """What follows the path up to the `?` carries no meaning."""
    head = request_head("GET", f"{lab.target.path}more?EIO=4&transport=polling", lab.target.authority)
    response = await lab.raw_http(head)
    expect_equal(response.status, 200, "status")


@CASES.case("http/other-path", "EIO-HTTP-1")
async def other_path(lab: ServerLab) -> None:
    """A request for another path opens no session."""
    head = request_head("GET", "/elsewhere/?EIO=4&transport=polling", lab.target.authority)
    response = await lab.raw_http(head)
    expect(not response.body.startswith(b'0{"sid"'), "a session was opened on another path")


@CASES.case("http/buster-ignored", "EIO-HTTP-2", "GEN-5")
async def buster(lab: ServerLab) -> None:
    """`t` is ignored, at the handshake and later."""
    peer = await lab.polling("&t=abc123")
    response = await lab.http("POST", peer.query + "&t=xyz", body="40")
    expect_equal(response.status, 200, "answer to a POST with t")


@CASES.case("http/unknown-parameters", "GEN-5", "EIO-HTTP-2")
async def unknown_parameters(lab: ServerLab) -> None:
    """Query parameters without a meaning are ignored."""
    peer = await lab.polling("&foo=bar&j=&flag&%20=%20")
    await peer.join()


@CASES.case("http/one-connection", "EIO-HTTP-3")
async def one_connection(lab: ServerLab) -> None:
    """All requests of a session may come over one connection."""
    stream = await lab.connect()
    reader = ResponseReader(stream)

    async def request(method: str, query: str, body: bytes | None = None) -> Response:
        head = request_head(method, lab.query(query), lab.target.authority, (), body)
        await stream.send_all(head + (body or b""))
        return await lab.answer(reader, method)

    opened = await request("GET", "EIO=4&transport=polling")
    expect_equal(opened.status, 200, "status of the handshake")
    import json

    sid = json.loads(opened.text.split("\x1e")[0][1:])["sid"]
    query = f"EIO=4&transport=polling&sid={sid}"
    posted = await request("POST", query, b"40")
    expect_equal(posted.status, 200, "answer to the POST")
    got = await request("GET", query)
    expect(got.text.startswith('40{"sid":'), f"expected the answer to CONNECT, got {got.text!r}")


@CASES.case("http/shared-connection", "EIO-HTTP-3")
async def shared_connection(lab: ServerLab) -> None:
    """Two sessions may share a connection."""
    first, second = await lab.polling(), await lab.polling()
    stream = await lab.connect()
    reader = ResponseReader(stream)
    for peer in (first, second):
        head = request_head("POST", lab.query(peer.query), lab.target.authority, (), b"40")
        await stream.send_all(head + b"40")
        answer = await lab.answer(reader, "POST")
        expect_equal(answer.status, 200, "answer to the POST")
    for peer in (first, second):
        packet = await peer.receive()
        expect(packet.startswith('40{"sid":'), f"expected the answer to CONNECT, got {packet!r}")


@CASES.case("http/connection-close", "EIO-HTTP-3")
async def connection_close(lab: ServerLab) -> None:
    """`Connection: close` ends the connection and not the session."""
    peer = await lab.polling(headers=[("Connection", "close")])
    await peer.join()
    await peer.echo("still here")


@CASES.case("http/no-store-on-handshake", "EIO-HTTP-4")
async def no_store(lab: ServerLab) -> None:
    """Answers must not be stored."""
    peer = await lab.polling()
    expect_equal(peer.opened.header("cache-control"), "no-store", "Cache-Control of the handshake")


@CASES.case("http/no-store-on-post", "EIO-HTTP-4")
async def no_store_post(lab: ServerLab) -> None:
    """The answer to a POST must not be stored."""
    peer = await lab.polling()
    response = await peer.post("40")
    expect_equal(response.header("cache-control"), "no-store", "Cache-Control")


@CASES.case("http/no-store-on-get", "EIO-HTTP-4")
async def no_store_get(lab: ServerLab) -> None:
    """The answer to a GET must not be stored, and has type and length."""
    peer = await lab.polling()
    await peer.post("40")
    response = await peer.get()
    expect_equal(response.header("cache-control"), "no-store", "Cache-Control")
    expect(response.header("content-type"), "no Content-Type")
    expect_equal(response.header("content-length"), str(len(response.body)), "Content-Length")


@CASES.case("http/no-store-on-refusal", "EIO-HTTP-4", "EIO-ERR-2")
async def no_store_refusal(lab: ServerLab) -> None:
    """Refusals must not be stored."""
    response = await lab.http("GET", "EIO=4&transport=abc")
    expect_equal(response.header("cache-control"), "no-store", "Cache-Control of a refusal")


@CASES.case("http/length-of-handshake", "EIO-HTTP-4")
async def length(lab: ServerLab) -> None:
    """The answer to the handshake has type and length."""
    peer = await lab.polling()
    expect(peer.opened.header("content-type"), "no Content-Type")
    expect_equal(peer.opened.header("content-length"), str(len(peer.opened.body)), "Content-Length")


MALFORMED: dict[str, bytes] = {
    "not-http": b"HELLO\r\n\r\n",
    "http-0.9": b"GET /socket.io/?EIO=4&transport=polling\r\n\r\n",
    "bad-version": b"GET /socket.io/?EIO=4&transport=polling HTTP/x.y\r\nHost: x\r\n\r\n",
    "space-before-colon": b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost : x\r\n\r\n",
    "no-colon": b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n",
    "nul-in-header": b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "two-lengths": b"POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n6",
    "two-ends-of-body": b"POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


def _add_malformed(name: str, data: bytes) -> None:
    @CASES.case(f"http/malformed/{name}", "EIO-HTTP-5", "EIO-ERR-1")
    async def malformed(lab: ServerLab) -> None:
        """Malformed HTTP is answered 400 with code 109, and the connection closed."""
        response = await lab.raw_http(data.replace(b"/socket.io/", lab.target.path.encode()))
        expect_equal(response.status, 400, "status")
        expect_equal(response.code, 109, "code")


for _name, _data in MALFORMED.items():
    _add_malformed(_name, _data)


@CASES.case("http/no-reflection", "EIO-HTTP-5")
async def no_reflection(lab: ServerLab) -> None:
    """Text of a request does not get into a header of the answer."""
    marker = "sentinel4711"
    response = await lab.http(
        "GET", f"EIO=4&transport={marker}&sid={marker}", [("User-Agent", marker), ("X-Name", marker)]
    )
    expect(not any(marker in value for _, value in response.headers), f"reflected: {response.headers}")


@CASES.case("refusal/body", "EIO-ERR-2", "EIO-ERR-1")
async def refusal_body(lab: ServerLab) -> None:
    """A refusal is a JSON object with code and message."""
    response = await lab.http("GET", "EIO=4&transport=abc")
    expect_equal(response.status, 400, "status")
    content = (response.header("content-type") or "").partition(";")[0].strip()
    expect_equal(content, "application/json", "Content-Type")
    body = response.json
    expect_equal((body.get("code"), body.get("message")), (0, "Transport unknown"), "code and message")
    expect(set(body) <= {"code", "message", "detail"}, f"other keys: {sorted(body)}")


@CASES.case("refusal/no-detail-for-unknown-session", "EIO-ERR-2")
async def no_detail(lab: ServerLab) -> None:
    """There is no detail for code 1."""
    response = await lab.http("GET", "EIO=4&transport=polling&sid=nobody")
    expect_equal(response.json, {"code": 1, "message": "Session ID unknown"}, "body")


@CASES.case("refusal/websocket-same-answer", "EIO-ERR-3")
async def websocket_refusal(lab: ServerLab) -> None:
    """A refused WebSocket gets the answer of any other request, and then the connection is closed."""
    peer = await lab.websocket("EIO=4&transport=websocket&sid=nobody")
    expect_equal(peer.answered.status, 400, "status")
    expect_equal(peer.answered.code, 1, "code")


@CASES.case("refusal/websocket-version", "EIO-ERR-3", "EIO-HS-9")
async def websocket_version(lab: ServerLab) -> None:
    """A WebSocket with a wrong version is refused before 101."""
    peer = await lab.websocket("EIO=3&transport=websocket")
    expect_equal(peer.answered.status, 400, "status")
    expect_equal(peer.answered.code, 5, "code")


@CASES.case("refusal/closes-connection", "EIO-ERR-3")
async def refusal_closes(lab: ServerLab) -> None:
    """After refusing a WebSocket the server closes the connection."""
    peer = await lab.websocket("EIO=4&transport=abc")
    expect_equal(peer.answered.status, 400, "status")
    lab.start_soon(peer.pump)
    await peer.ended(lab.patience)


@CASES.case("refusal/leaves-session", "EIO-ERR-5")
async def leaves_session(lab: ServerLab) -> None:
    """A refusal leaves the named session as it was."""
    peer = await lab.polling_member()
    for query in ("EIO=4&transport=abc", "EIO=4&transport=websocket"):
        await lab.http("GET", f"{query}&sid={peer.sid}")
    await lab.http("PUT", peer.query)
    await peer.echo("unharmed")


@CASES.case("refusal/leaves-others", "EIO-ERR-5", "SIO-ERR-5")
async def leaves_others(lab: ServerLab) -> None:
    """A refusal never affects another session."""
    peer = await lab.member()
    await lab.http("GET", "EIO=4&transport=polling&sid=nobody")
    await lab.raw_http(b"HELLO\r\n\r\n")
    await peer.echo("unharmed")
