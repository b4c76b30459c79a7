"""The cross-origin matrix: who comes in by GET, POST, preflight and WebSocket, and what a page may read."""

from __future__ import annotations

import pytest

from tests.peers import ENGINE_PATH, BareWebSocket, PollingPeer, Response, http

from .arena import Arena, arena

POLLING = f"{ENGINE_PATH}&transport=polling"
GOOD = "https://good.example"

STRANGERS = (
    "https://evil.example",
    "null",
    "http://good.example",
    "https://good.example:444",
    "https://good.example.evil.example",
    "https://evilgood.example",
    "https://good.example.",
    "https://user@good.example",
    "https://good.example@evil.example",
    "file://",
    "*",
    "https://",
)

CONFIGURED = {
    "same origin": {},
    "one origin": {"cors_allowed_origins": [GOOD]},
    "with credentials": {"cors_allowed_origins": [GOOD], "cors_credentials": True},
}


async def _answers(where: Arena, peer: PollingPeer, origin: str) -> list[Response]:
    """Ask in each of the four ways."""
    header = [("Origin", origin)]
    async with await BareWebSocket.open(where.server, headers=header) as framed:
        upgraded = framed.answer
    return [
        await http(where.server, "GET", POLLING, header),
        await peer.post("6", header),
        await http(where.server, "OPTIONS", POLLING, [*header, ("Access-Control-Request-Method", "POST")]),
        upgraded,
    ]


@pytest.mark.parametrize("origin", STRANGERS)
@pytest.mark.parametrize("configured", list(CONFIGURED))
async def test_strangers(origin: str, configured: str) -> None:
    """None opens or uses a session, and no header lets a page read what came."""
    async with arena(**CONFIGURED[configured]) as where:
        peer = await PollingPeer.open(where.server)
        sessions = where.broker.statistics().sessions
        get, post, preflight, upgraded = await _answers(where, peer, origin)
        for answer in (get, post, upgraded):
            assert answer.status in (400, 403)
        for answer in (get, post, preflight, upgraded):
            assert not [name for name, _ in answer.headers if name.startswith("access-control-allow")]
        assert where.broker.statistics().sessions == sessions
        assert await peer.status() == 200  # the session is unharmed
        await peer.post("1")


async def test_no_wildcard_with_credentials() -> None:
    async with arena(cors_allowed_origins=[GOOD], cors_credentials=True) as where:
        answer = await http(where.server, "GET", POLLING, [("Origin", GOOD)])
        assert answer.header("access-control-allow-origin") == GOOD
        assert answer.header("access-control-allow-credentials") == "true"
        assert "origin" in (answer.header("vary") or "").lower()
        sid = answer.text.split('"')[3]
        await http(where.server, "POST", f"{POLLING}&sid={sid}", [("Origin", GOOD)], "1")


async def test_a_request_without_an_origin_comes_from_no_page() -> None:
    async with arena(cors_allowed_origins=[GOOD]) as where:
        peer = await PollingPeer.open(where.server)
        assert peer.opened.header("access-control-allow-origin") is None
        await peer.post("1")
