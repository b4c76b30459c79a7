"""Cases for section 8: origins, CORS and cookies.

The fixture itself allows every origin. `strict` has no list of origins; `listed` lets in
`https://app.example` with credentials, and sets a cookie.
"""

from __future__ import annotations

from broker.conformance.cases import expect, expect_equal
from broker.conformance.lab import ServerLab

from .catalogue import CASES

APP = "https://app.example"
HANDSHAKE = "EIO=4&transport=polling"


@CASES.case("origin/none-is-let-in", "EIO-ORIGIN-1", needs=["strict"])
async def none(lab: ServerLab) -> None:
    """A request without Origin is let in."""
    lab.use("strict")
    expect_equal((await lab.http("GET", HANDSHAKE)).status, 200, "status")


@CASES.case("origin/foreign-is-refused", "EIO-ORIGIN-1", "EIO-ORIGIN-3", "SEC-3", needs=["strict"])
async def foreign(lab: ServerLab) -> None:
    """Without a list a foreign origin is refused with 403, code 100 and a detail."""
    lab.use("strict")
    response = await lab.http("GET", HANDSHAKE, [("Origin", APP)])
    expect_equal((response.status, response.code), (403, 100), "status and code")
    expect(APP in response.json.get("detail", ""), "the detail does not name the origin")


@CASES.case("origin/listed-is-let-in", "EIO-ORIGIN-1", needs=["listed"])
async def listed(lab: ServerLab) -> None:
    """An origin of the list is let in."""
    lab.use("listed")
    expect_equal((await lab.http("GET", HANDSHAKE, [("Origin", APP)])).status, 200, "status")


def _add_unlisted(name: str, origin: str) -> None:
    @CASES.case(f"origin/not-listed/{name}", "EIO-ORIGIN-1", "EIO-ORIGIN-3", needs=["listed"])
    async def unlisted(lab: ServerLab) -> None:
        """Only an origin that equals one of the list is let in."""
        lab.use("listed")
        response = await lab.http("GET", HANDSHAKE, [("Origin", origin)])
        expect_equal((response.status, response.code), (403, 100), "status and code")


for _name, _origin in {
    "scheme": "http://app.example",
    "port": "https://app.example:8443",
    "prefix": "https://app.example.evil.test",
    "suffix": "https://evil-app.example",
    "null": "null",
    "empty-host": "https://",
}.items():
    _add_unlisted(_name, _origin)


@CASES.case("origin/same-is-let-in", "EIO-ORIGIN-2", needs=["strict"])
async def same(lab: ServerLab) -> None:
    """Without a list the same origin is let in."""
    target = lab.use("strict")
    expect_equal((await lab.http("GET", HANDSHAKE, [("Origin", target.origin)])).status, 200, "status")


@CASES.case("origin/same-in-any-case", "EIO-ORIGIN-2", needs=["strict"])
async def same_case(lab: ServerLab) -> None:
    """Host and origin are compared without regard to case, and the scheme is not compared."""
    lab.use("strict")
    headers = [("Host", "Broker.Example"), ("Origin", "https://broker.example")]
    expect_equal((await lab.http("GET", HANDSHAKE, headers)).status, 200, "status")


@CASES.case("origin/default-port", "EIO-ORIGIN-2", needs=["strict"])
async def default_port(lab: ServerLab) -> None:
    """The default port of the origin's scheme is left out."""
    lab.use("strict")
    headers = [("Host", "broker.example"), ("Origin", "https://broker.example:443")]
    expect_equal((await lab.http("GET", HANDSHAKE, headers)).status, 200, "status")


@CASES.case("origin/null-is-never-same", "EIO-ORIGIN-2", needs=["strict"])
async def null(lab: ServerLab) -> None:
    """The origin `null` is never the same."""
    lab.use("strict")
    response = await lab.http("GET", HANDSHAKE, [("Host", "null"), ("Origin", "null")])
    expect_equal((response.status, response.code), (403, 100), "status and code")


@CASES.case("origin/other-port", "EIO-ORIGIN-2", needs=["strict"])
async def other_port(lab: ServerLab) -> None:
    """Another port is another origin."""
    lab.use("strict")
    headers = [("Host", "broker.example:1"), ("Origin", "http://broker.example:2")]
    expect_equal((await lab.http("GET", HANDSHAKE, headers)).status, 403, "status")


@CASES.case("origin/websocket", "EIO-ORIGIN-3", "SEC-3", needs=["strict"])
async def websocket(lab: ServerLab) -> None:
    """The rule holds for WebSockets too."""
    lab.use("strict")
    peer = await lab.websocket(headers=[("Origin", APP)])
    expect_equal(peer.answered.status, 403, "status")
    expect_equal(peer.answered.code, 100, "code")


@CASES.case("origin/later-requests", "EIO-ORIGIN-3", needs=["strict"])
async def later(lab: ServerLab) -> None:
    """The rule holds for later requests, and refusing one leaves the session untouched."""
    lab.use("strict")
    peer = await lab.polling_member()
    for method, body in (("POST", "6"), ("GET", None)):
        response = await lab.http(method, peer.query, [("Origin", APP)], body)
        expect_equal((response.status, response.code), (403, 100), f"status and code of {method}")
    await peer.echo("unharmed")


@CASES.case("origin/probe", "EIO-ORIGIN-3", "EIO-UPG-2", needs=["strict"])
async def probe(lab: ServerLab) -> None:
    """The rule holds for an upgrade."""
    lab.use("strict")
    peer = await lab.polling_member()
    websocket = await lab.websocket(f"EIO=4&transport=websocket&sid={peer.sid}", headers=[("Origin", APP)])
    expect_equal(websocket.answered.status, 403, "status")
    await peer.echo("unharmed")


@CASES.case("origin/after-the-other-checks", "EIO-ORIGIN-3", "EIO-HS-18", needs=["strict"])
async def after_others(lab: ServerLab) -> None:
    """The origin is checked after version and method."""
    lab.use("strict")
    response = await lab.http("GET", "EIO=3&transport=polling", [("Origin", APP)])
    expect_equal(response.code, 5, "code")


@CASES.case("cors/star", "EIO-ORIGIN-4")
async def star(lab: ServerLab) -> None:
    """With `*` and without credentials the answer allows `*`."""
    response = await lab.http("GET", HANDSHAKE, [("Origin", APP)])
    expect_equal(response.header("access-control-allow-origin"), "*", "Access-Control-Allow-Origin")


@CASES.case("cors/star-on-refusal", "EIO-ORIGIN-4", "EIO-HTTP-4")
async def star_refusal(lab: ServerLab) -> None:
    """Refusals carry the CORS headers too."""
    response = await lab.http("GET", "EIO=4&transport=abc", [("Origin", APP)])
    expect_equal(response.status, 400, "status")
    expect_equal(response.header("access-control-allow-origin"), "*", "Access-Control-Allow-Origin")


@CASES.case("cors/listed", "EIO-ORIGIN-4", needs=["listed"])
async def cors_listed(lab: ServerLab) -> None:
    """With a list the answer names the origin, and varies by it."""
    lab.use("listed")
    response = await lab.http("GET", HANDSHAKE, [("Origin", APP)])
    expect_equal(response.header("access-control-allow-origin"), APP, "Access-Control-Allow-Origin")
    expect("origin" in (response.header("vary") or "").lower(), "no Vary: Origin")


@CASES.case("cors/credentials", "EIO-ORIGIN-4", needs=["listed"])
async def credentials(lab: ServerLab) -> None:
    """A server that allows credentials says so."""
    lab.use("listed")
    response = await lab.http("GET", HANDSHAKE, [("Origin", APP)])
    expect_equal(
        response.header("access-control-allow-credentials"), "true", "Access-Control-Allow-Credentials"
    )


@CASES.case("cors/none-without-list", "EIO-ORIGIN-4", needs=["strict"])
async def cors_none(lab: ServerLab) -> None:
    """Without a list there are no CORS headers."""
    target = lab.use("strict")
    response = await lab.http("GET", HANDSHAKE, [("Origin", target.origin)])
    expect_equal(response.header("access-control-allow-origin"), None, "Access-Control-Allow-Origin")


def _preflight(origin: str) -> list[tuple[str, str]]:
    return [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-fruit"),
    ]


@CASES.case("cors/preflight", "EIO-ORIGIN-5")
async def preflight(lab: ServerLab) -> None:
    """A preflight request is answered 204 with methods and headers."""
    response = await lab.http("OPTIONS", HANDSHAKE, _preflight(APP))
    expect_equal(response.status, 204, "status")
    methods = (response.header("access-control-allow-methods") or "").upper()
    expect("GET" in methods and "POST" in methods, f"methods: {methods}")
    expect(
        "x-fruit" in (response.header("access-control-allow-headers") or "").lower(), "headers not allowed"
    )


@CASES.case("cors/preflight-before-checks", "EIO-ORIGIN-5")
async def preflight_first(lab: ServerLab) -> None:
    """A preflight request is answered before the checks of the query."""
    response = await lab.http("OPTIONS", "EIO=3&transport=abc&sid=nobody", _preflight(APP))
    expect_equal(response.status, 204, "status")


@CASES.case("cors/preflight-of-foreign", "EIO-ORIGIN-5", needs=["listed"])
async def preflight_foreign(lab: ServerLab) -> None:
    """A preflight request of another origin is refused."""
    lab.use("listed")
    response = await lab.http("OPTIONS", HANDSHAKE, _preflight("https://evil.test"))
    expect_equal((response.status, response.code), (403, 100), "status and code")


@CASES.case("cors/options-without-list", "EIO-ORIGIN-6", "EIO-HS-8", needs=["strict"])
async def options(lab: ServerLab) -> None:
    """Without a list OPTIONS is a wrong method for a handshake."""
    lab.use("strict")
    response = await lab.http("OPTIONS", HANDSHAKE)
    expect_equal((response.status, response.code), (400, 2), "status and code")


@CASES.case("cors/options-on-session", "EIO-ORIGIN-6", "EIO-POLL-15", needs=["strict"])
async def options_session(lab: ServerLab) -> None:
    """Without a list OPTIONS is a wrong method on a session."""
    lab.use("strict")
    peer = await lab.polling()
    response = await lab.http("OPTIONS", peer.query)
    expect_equal((response.status, response.code), (405, 102), "status and code")


@CASES.case("cookie/set-on-polling", "EIO-COOKIE-1", needs=["listed"])
async def cookie(lab: ServerLab) -> None:
    """The cookie is `io`, the session id, and its attributes."""
    lab.use("listed")
    peer = await lab.polling()
    found = peer.opened.header("set-cookie") or ""
    name, *attributes = [piece.strip() for piece in found.split(";")]
    expect_equal(name, f"io={peer.sid}", "cookie")
    expect_equal(sorted(attributes), ["HttpOnly", "Path=/", "SameSite=Lax"], "attributes")


@CASES.case("cookie/not-on-websocket", "EIO-COOKIE-1", needs=["listed"])
async def cookie_websocket(lab: ServerLab) -> None:
    """A WebSocket handshake sets none."""
    lab.use("listed")
    peer = await lab.session()
    expect_equal(peer.answered.header("set-cookie"), None, "Set-Cookie")


@CASES.case("cookie/not-on-later-answers", "EIO-COOKIE-1", needs=["listed"])
async def cookie_later(lab: ServerLab) -> None:
    """Only the answer to the handshake sets it."""
    lab.use("listed")
    peer = await lab.polling()
    response = await peer.post("40")
    expect_equal(response.header("set-cookie"), None, "Set-Cookie")


@CASES.case("cookie/not-by-default", "EIO-COOKIE-1")
async def cookie_default(lab: ServerLab) -> None:
    """A server that is not configured to sets none."""
    peer = await lab.polling()
    expect_equal(peer.opened.header("set-cookie"), None, "Set-Cookie")


@CASES.case("cookie/no-authority", "EIO-COOKIE-2", needs=["listed"])
async def no_authority(lab: ServerLab) -> None:
    """A session id in a cookie names no session."""
    lab.use("listed")
    peer = await lab.polling()
    response = await lab.http("POST", "EIO=4&transport=polling", [("Cookie", f"io={peer.sid}")], "6")
    expect_equal((response.status, response.code), (400, 2), "status and code")
