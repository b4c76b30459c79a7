"""Cases for sections 9 and 10: packets in payloads, GET and POST."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.http import ResponseReader, request_head
from broker.conformance.lab import ServerLab

from .catalogue import CASES


@CASES.case("polling/whole-session", "EIO-POLL-1", "EIO-PKT-1", "EIO-PKT-2")
async def whole(lab: ServerLab) -> None:
    """Handshake, CONNECT, echo and end, on polling alone."""
    peer = await lab.polling_member()
    await peer.echo("a", 1)
    await peer.send("1")
    await peer.expect_gone()


@CASES.case("polling/get-and-post-at-once", "EIO-POLL-1")
async def at_once(lab: ServerLab) -> None:
    """A GET and a POST may be under way at the same time."""
    peer = await lab.polling_member()
    reader = await peer.parked()
    await peer.send('42["message","x"]')
    response = await lab.answer(reader)
    expect_equal(response.text, '42["message-back","x"]', "body of the parked GET")


@CASES.case("polling/joined-packets", "EIO-POLL-2", "EIO-POLL-5")
async def joined_packets(lab: ServerLab) -> None:
    """Packets that wait come together, joined with 1e, none at the ends."""
    peer = await lab.polling()
    await peer.send("40")
    response = await peer.get()
    packets = response.text.split("\x1e")
    while len(packets) < 2:
        packets += (await peer.get()).text.split("\x1e")
    expect("" not in packets, f"a separator at an end or two in a row: {response.text!r}")
    expect(packets[0].startswith('40{"sid"') and packets[1].startswith('42["auth"'), f"packets: {packets}")


@CASES.case("polling/packets-in-an-answer", "EIO-POLL-5", "LIM-1", needs=["burst"])
async def packets_in_an_answer(lab: ServerLab) -> None:
    """An answer to a GET has at most 16 packets, however many wait."""
    peer = await lab.polling_member()
    await peer.send('42["burst",40]')
    found: list[str] = []
    while len(found) < 40:
        packets = (await peer.get()).text.split("\x1e")
        expect(len(packets) <= 16, f"{len(packets)} packets in an answer")
        found += [packet for packet in packets if packet != "2"]
    expect_equal(found, [f'42["number",{number}]' for number in range(40)], "events")


@CASES.case("polling/several-in-one-post", "EIO-POLL-3", "EIO-POLL-16", "FLOW-2")
async def several(lab: ServerLab) -> None:
    """The packets of one POST are taken in order."""
    peer = await lab.polling_member()
    await peer.send(*(f'42["message",{number}]' for number in range(20)))
    found = [(await peer.event()).args[0] for _ in range(20)]
    expect_equal(found, list(range(20)), "order of the echoes")


@CASES.case("polling/many-in-one-post", "EIO-POLL-4")
async def many(lab: ServerLab) -> None:
    """A payload may hold as many packets as stock clients put into one."""
    peer = await lab.polling_member()
    await peer.send(*["6"] * 2_000)
    await peer.echo("still here")


@CASES.case("polling/too-many-in-one-post", "EIO-POLL-4", needs=["bounded"])
async def too_many(lab: ServerLab) -> None:
    """A payload of too many packets is refused as a whole and ends the session."""
    lab.use("bounded")
    peer = await lab.polling_member()
    response = await peer.post("\x1e".join(["6"] * 65))
    expect_equal((response.status, response.code), (400, 104), "status and code")
    await peer.expect_gone()


@CASES.case("polling/too-many-none-acted-on", "EIO-POLL-3", "EIO-POLL-4", needs=["bounded", "broadcast"])
async def none_acted_on(lab: ServerLab) -> None:
    """Of a payload with too many packets none is acted on."""
    lab.use("bounded")
    watcher = await lab.watcher()
    peer = await lab.polling_member()
    await peer.post("\x1e".join(['42["shout","no"]', *["6"] * 65]))
    await watcher.silent(lab.patience)


@CASES.case("polling/good-before-bad", "EIO-POLL-3", "SIO-ERR-2", needs=["broadcast"])
async def good_before_bad(lab: ServerLab) -> None:
    """Packets before the first bad one are acted on, and none after it."""
    watcher = await lab.watcher()
    peer = await lab.polling_member()
    token = peer.sid[:8]
    await peer.post(f'42["shout","{token}-good"]\x1ex\x1e42["shout","{token}-bad"]')
    seen = []
    with trio.move_on_after(2 * lab.patience):
        while True:
            event = await watcher.event()
            if event.name == "shouted" and str(event.args[0]).startswith(token):
                seen.append(event.args[0])
    expect_equal(seen, [f"{token}-good"], "what was acted on")


@CASES.case("polling/get-answer", "EIO-POLL-5")
async def get_answer(lab: ServerLab) -> None:
    """A GET is answered 200, text/plain; charset=UTF-8, with at least one packet."""
    peer = await lab.polling()
    await peer.send("40")
    response = await peer.get()
    content = (response.header("content-type") or "").replace(" ", "").lower()
    expect_equal((response.status, content), (200, "text/plain;charset=utf-8"), "status and Content-Type")
    expect(response.body, "an empty answer to a GET")


@CASES.case("polling/get-parked", "EIO-POLL-6")
async def get_parked(lab: ServerLab) -> None:
    """A GET is parked until there is a packet; the next PING answers it at the latest."""
    peer = await lab.polling_member()
    start = trio.current_time()
    response = await peer.get()
    expect_equal(response.text, "2", "answer to a GET that nothing waits for")
    waited = trio.current_time() - start
    limit = lab.fixture.ping_interval + 0.1 + lab.patience
    expect(waited <= limit, f"the GET was parked for {waited:.3f} s")


@CASES.case("polling/get-not-answered-empty", "EIO-POLL-6", "EIO-POLL-5")
async def not_empty(lab: ServerLab) -> None:
    """A parked GET is not answered with nothing."""
    peer = await lab.polling_member()
    for _ in range(3):
        response = await peer.get()
        expect(response.body, "an empty answer")
        await peer.send("3")


@CASES.case("polling/post-answer", "EIO-POLL-9")
async def post_answer(lab: ServerLab) -> None:
    """A POST is answered 200, text/html, `ok`."""
    peer = await lab.polling()
    response = await peer.post("40")
    content = (response.header("content-type") or "").partition(";")[0].strip()
    expect_equal((response.status, content, response.body), (200, "text/html", b"ok"), "answer")


def _add_content_type(name: str, headers: list[tuple[str, str]]) -> None:
    @CASES.case(f"polling/post-type/{name}", "EIO-POLL-9")
    async def content_type(lab: ServerLab) -> None:
        """Every type but application/octet-stream is taken."""
        peer = await lab.polling_member()
        response = await peer.post('42["message","x"]', headers)
        expect_equal(response.status, 200, "answer")
        expect_equal((await peer.event()).args, ["x"], "echo")


for _name, _headers in {
    "text-plain": [("Content-Type", "text/plain;charset=UTF-8")],
    "none": [],
    "json": [("Content-Type", "application/json")],
    "form": [("Content-Type", "application/x-www-form-urlencoded")],
    "odd": [("Content-Type", "x/y; z")],
}.items():
    _add_content_type(_name, _headers)


@CASES.case("polling/post-chunked", "EIO-POLL-9")
async def chunked(lab: ServerLab) -> None:
    """A chunked body is taken."""
    peer = await lab.polling_member()
    headers = [("Transfer-Encoding", "chunked"), ("Content-Type", "text/plain")]
    body = b'5\r\n42["m\r\n' + b'c\r\nessage","x"]\r\n0\r\n\r\n'
    head = request_head("POST", lab.query(peer.query), lab.target.authority, headers)
    response = await lab.raw_http(head + body, "POST")
    expect_equal(response.status, 200, "answer")
    expect_equal((await peer.event()).args, ["x"], "echo")


@CASES.case("polling/post-in-pieces", "EIO-POLL-9")
async def in_pieces(lab: ServerLab) -> None:
    """A body that arrives byte by byte is taken."""
    peer = await lab.polling_member()
    body = '42["message","ä€"]'.encode()
    stream = await lab.connect()
    await stream.send_all(request_head("POST", lab.query(peer.query), lab.target.authority, (), body))
    for at in range(len(body)):
        await stream.send_all(body[at : at + 1])
        await trio.sleep(0.001)
    response = await lab.answer(ResponseReader(stream), "POST")
    expect_equal(response.status, 200, "answer")
    expect_equal((await peer.event()).args, ["ä€"], "echo")


@CASES.case("polling/max-payload", "EIO-PKT-8")
async def max_payload(lab: ServerLab) -> None:
    """A body of exactly maxPayload bytes is taken."""
    peer = await lab.polling()
    body = "6\x1e" * ((lab.fixture.max_payload - 4) // 2 - 1)
    body = "4" + "0" + "\x1e" + "6" + "x" * (lab.fixture.max_payload - 4)
    response = await peer.post(body)
    expect_equal(response.status, 200, "answer")


@CASES.case("polling/server-not-bounded", "EIO-PKT-8", needs=["burst"])
async def not_bounded(lab: ServerLab) -> None:
    """MaxPayload does not bound what the server sends."""
    lab.use("bounded") if lab.fixture.has("bounded") else None
    peer = await lab.polling_member()
    size = int(peer.open_packet["maxPayload"]) if lab.fixture.has("bounded") else 1_000
    await peer.send(f'42["letters",{size + 100}]')
    event = await peer.event()
    expect_equal(len(event.args[0]), size + 100, "length of what the server sent")


@CASES.case("polling/waits-for-client", "EIO-POLL-17", needs=["burst"])
async def waits(lab: ServerLab) -> None:
    """Packets for a client that has no GET under way wait."""
    peer = await lab.polling_member()
    await peer.send('42["burst",5]')
    await trio.sleep(0.1)
    found = [(await peer.event()).args[0] for _ in range(5)]
    expect_equal(found, list(range(5)), "what waited")


def _add_ignored(digit: str, text: str, meaning: str) -> None:
    @CASES.case(f"packet/ignored/{meaning}", "EIO-PKT-6", "EIO-STATE-2")
    async def ignored(lab: ServerLab) -> None:
        """The payload is ignored, and so are OPEN, UPGRADE and NOOP of a client."""
        peer = await lab.member()
        await peer.send(digit + text)
        await peer.echo("unharmed")


for _digit, _text, _meaning in (
    ("3", "abc", "pong-with-payload"),
    ("5", "", "upgrade"),
    ("5", "probe", "upgrade-with-payload"),
    ("6", "", "noop"),
    ("6", "abc", "noop-with-payload"),
    ("0", "", "open"),
    ("0", "{}", "open-with-payload"),
):
    _add_ignored(_digit, _text, _meaning)


@CASES.case("packet/ignored/on-polling", "EIO-PKT-6", "EIO-STATE-2")
async def ignored_polling(lab: ServerLab) -> None:
    """So it is on polling."""
    peer = await lab.polling_member()
    await peer.send("6", "5", "5probe", "3x", "0", "6x")
    await peer.echo("unharmed")
