"""Cases for sections 5 and 6: session ids and the handshake."""

from __future__ import annotations

import json
import re

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import TEXT, build
from broker.conformance.lab import ServerLab

from .catalogue import CASES

SID = re.compile(r"[A-Za-z0-9_-]{20}")
MANY = 40
KEYS = ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]


@CASES.case("sid/form-polling", "EIO-SID-1")
async def sid_form(lab: ServerLab) -> None:
    """A session id is 20 characters of A-Z a-z 0-9 - _."""
    peer = await lab.polling()
    expect(SID.fullmatch(peer.sid), f"not the form of a session id: {peer.sid!r}")


@CASES.case("sid/form-websocket", "EIO-SID-1")
async def sid_form_websocket(lab: ServerLab) -> None:
    """So it is on WebSocket."""
    peer = await lab.session()
    expect(SID.fullmatch(peer.sid), f"not the form of a session id: {peer.sid!r}")


@CASES.case("sid/unlike-each-other", "EIO-SID-2")
async def sid_random(lab: ServerLab) -> None:
    """Ids are not given twice, and no position of them counts up or stays the same."""
    sids = [(await lab.polling()).sid for _ in range(MANY)]
    expect_equal(len(set(sids)), MANY, "number of different ids")
    random_positions = sum(len({sid[at : at + 1] for sid in sids}) > MANY // 5 for at in range(20))
    # 88 bits are 15 characters of 6 bits.
    expect(random_positions >= 14, f"only {random_positions} of 20 characters look random")


@CASES.case("sid/lives-across-upgrade", "EIO-SID-4")
async def sid_across(lab: ServerLab) -> None:
    """The id names the session across the upgrade."""
    peer, websocket = await lab.upgraded()
    await websocket.echo("same session")
    response = await lab.http("POST", peer.query, body="6")
    expect_equal(response.code, 3, "code for polling after the upgrade")


@CASES.case("sid/dies-with-session", "EIO-SID-4", "EIO-CLOSE-6")
async def sid_dies(lab: ServerLab) -> None:
    """After the end of the session its id names nothing."""
    peer = await lab.polling_member()
    await peer.send("1")
    await peer.expect_gone()


@CASES.case("open/keys-polling", "EIO-HS-10")
async def keys_polling(lab: ServerLab) -> None:
    """OPEN on polling has exactly its keys, in order."""
    peer = await lab.polling()
    expect_equal(list(peer.open_packet), KEYS, "keys of OPEN")


@CASES.case("open/keys-websocket", "EIO-HS-10")
async def keys_websocket(lab: ServerLab) -> None:
    """OPEN on WebSocket has exactly its keys, in order."""
    peer = await lab.session()
    expect_equal(list(peer.open_packet), KEYS, "keys of OPEN")


@CASES.case("open/values", "EIO-HS-10", "GEN-4")
async def values(lab: ServerLab) -> None:
    """The numbers in OPEN are whole milliseconds and bytes."""
    peer = await lab.polling()
    for key in ("pingInterval", "pingTimeout", "maxPayload"):
        value = peer.open_packet[key]
        expect(type(value) is int and value > 0, f"{key} is {value!r}")


@CASES.case("open/fixture-values", "EIO-HS-10", "LIM-1")
async def fixture_values(lab: ServerLab) -> None:
    """OPEN tells the options that the fixture asks for: 300 ms, 200 ms, 1 000 000 bytes."""
    peer = await lab.polling()
    found = [peer.open_packet[key] for key in KEYS[2:]]
    expect_equal(found, [300, 200, 1_000_000], "pingInterval, pingTimeout, maxPayload")


@CASES.case("open/upgrades-polling", "EIO-HS-11")
async def upgrades_polling(lab: ServerLab) -> None:
    """A session on polling may move to WebSocket."""
    peer = await lab.polling()
    expect_equal(peer.open_packet["upgrades"], ["websocket"], "upgrades")


@CASES.case("open/upgrades-websocket", "EIO-HS-11")
async def upgrades_websocket(lab: ServerLab) -> None:
    """A session on WebSocket has no upgrades."""
    peer = await lab.session()
    expect_equal(peer.open_packet["upgrades"], [], "upgrades")


@CASES.case("open/compact", "GEN-4")
async def compact(lab: ServerLab) -> None:
    """JSON is written without white space between tokens."""
    peer = await lab.polling()
    text = peer.opened.text.split("\x1e")[0][1:]
    expect_equal(text, json.dumps(peer.open_packet, separators=(",", ":")), "text of OPEN")


@CASES.case("open/known-at-once", "EIO-HS-12")
async def known_at_once(lab: ServerLab) -> None:
    """A client that answers OPEN at once is known."""
    peer = await lab.polling()
    await peer.send("40")
    packet = await peer.receive()
    expect(packet.startswith('40{"sid"'), f"expected the answer to CONNECT, got {packet!r}")


@CASES.case("open/known-at-once-websocket", "EIO-HS-12", "WS-1")
async def known_at_once_websocket(lab: ServerLab) -> None:
    """Bytes right behind the WebSocket handshake belong to the session."""
    peer = await lab.websocket(behind=build(TEXT, b"40"))
    await peer.opened()
    text = await peer.text()
    expect(text.startswith('40{"sid"'), f"expected the answer to CONNECT, got {text!r}")


@CASES.case("open/polling-answer", "EIO-HS-13")
async def polling_answer(lab: ServerLab) -> None:
    """On polling OPEN is the first packet of a 200 of type text/plain; charset=UTF-8."""
    peer = await lab.polling()
    content = (peer.opened.header("content-type") or "").replace(" ", "").lower()
    expect_equal(content, "text/plain;charset=utf-8", "Content-Type")


@CASES.case("open/websocket-text", "EIO-HS-14")
async def websocket_text(lab: ServerLab) -> None:
    """On WebSocket OPEN is the first message, as text."""
    peer = await lab.websocket()
    peer.answered_101()
    text = await peer.text()
    expect(text.startswith('0{"sid"'), f"expected OPEN, got {text!r}")


@CASES.case("handshake/too-many-parameters", "EIO-HS-1", "EIO-HS-18")
async def too_many_parameters(lab: ServerLab) -> None:
    """A query of more than 200 parameters is refused with code 3, whatever else is wrong."""
    response = await lab.http("GET", "EIO=4&transport=nonsense" + "&a=1" * 200)
    expect_equal((response.status, response.code), (400, 3), "status and code")


@CASES.case("handshake/200-parameters", "EIO-HS-1")
async def parameters_200(lab: ServerLab) -> None:
    """A query of 200 parameters is taken."""
    response = await lab.http("GET", "EIO=4&transport=polling" + "&a=1" * 198)
    expect_equal(response.status, 200, "status")


@CASES.case("handshake/version-twice", "EIO-HS-1", "EIO-HS-9")
async def version_twice(lab: ServerLab) -> None:
    """A repeated EIO counts as wrong."""
    response = await lab.http("GET", "EIO=4&EIO=4&transport=polling")
    expect_equal((response.status, response.code), (400, 5), "status and code")


@CASES.case("handshake/percent-encoded", "EIO-HS-1")
async def percent_encoded(lab: ServerLab) -> None:
    """The query is read as a form: encoded letters are letters."""
    response = await lab.http("GET", "EIO=%34&transport=poll%69ng")
    expect_equal(response.status, 200, "status")


@CASES.case("handshake/upgrade-header-in-any-case", "EIO-HS-4")
async def any_case(lab: ServerLab) -> None:
    """`Upgrade: WebSocket` counts in any case."""
    peer = await lab.websocket(headers=[("Upgrade", "WebSocket")])
    await peer.opened()


@CASES.case("handshake/refused-by-application", "EIO-HS-15", needs=["strict"])
async def refused_by_application(lab: ServerLab) -> None:
    """The application may refuse a handshake: 403, code 4, its own message."""
    lab.use("strict")
    response = await lab.http("GET", "EIO=4&transport=polling", [("X-Refuse", "go away")])
    expect_equal(response.status, 403, "status")
    expect_equal((response.code, response.json.get("message")), (4, "go away"), "code and message")


@CASES.case("handshake/application-not-asked-again", "EIO-HS-15", needs=["strict"])
async def not_asked_again(lab: ServerLab) -> None:
    """Requests that name a session are not put to the application."""
    lab.use("strict")
    peer = await lab.polling()
    response = await lab.http("POST", peer.query, [("X-Refuse", "go away")], "40")
    expect_equal(response.status, 200, "status")


@CASES.case("handshake/application-asked-last", "EIO-HS-15", "EIO-HS-18", needs=["strict"])
async def asked_last(lab: ServerLab) -> None:
    """The application is asked after all other checks."""
    lab.use("strict")
    response = await lab.http("GET", "EIO=3&transport=polling", [("X-Refuse", "go away")])
    expect_equal(response.code, 5, "code")


@CASES.case("handshake/full", "EIO-HS-16", needs=["full"])
async def full(lab: ServerLab) -> None:
    """A server that holds as many sessions as it may refuses with 503 and code 107."""
    lab.use("full")
    opened = [await lab.http("GET", "EIO=4&transport=polling") for _ in range(4)]
    last = opened[-1]
    expect_equal(last.status, 503, "status")
    expect_equal((last.code, last.json.get("message")), (107, "Too many sessions"), "body")


@CASES.case("handshake/unjoined", "EIO-HS-16", "LIM-6", needs=["unjoined"], alone=True)
async def unjoined(lab: ServerLab) -> None:
    """So does one that holds as many as may be in no namespace (2 in the fixture), until one joins."""
    lab.use("unjoined")
    first = await lab.session()
    await lab.session()
    response = await lab.http("GET", "EIO=4&transport=polling")
    expect_equal((response.status, response.code), (503, 107), "status and code")
    await first.join()
    await lab.polling()


@CASES.case("handshake/what-is-kept", "EIO-HS-17", needs=["handshake"])
async def what_is_kept(lab: ServerLab) -> None:
    """The application sees query and headers of the handshake request, not of later ones."""
    peer = await lab.polling("&fruit=apple", [("X-Fruit", "apple")])
    await peer.join()
    changed = [("X-Fruit", "pear")]
    response = await lab.http("POST", peer.query + "&fruit=pear", changed, '421["handshake"]')
    expect_equal(response.status, 200, "status")
    seen = (await peer.event()).data[0]
    expect_equal((seen.get("fruit"), seen.get("header")), ("apple", "apple"), "query and header")
