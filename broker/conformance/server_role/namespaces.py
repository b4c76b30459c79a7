"""Cases for section 16: joining, being refused, leaving."""

from __future__ import annotations

import re

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import TEXT, build
from broker.conformance.lab import ServerLab
from broker.conformance.packets import parse_connected, parse_refused
from protocol.vectors import Vector, load_vectors

from .catalogue import CASES
from .polling_faults import expect_reason

SOCKET_ID = re.compile(r"[A-Za-z0-9_-]{20}")


@CASES.case("namespace/join", "SIO-CON-1", "SIO-CON-3")
async def join(lab: ServerLab) -> None:
    """CONNECT is answered with the socket id."""
    peer = await lab.session()
    await peer.send("40")
    text = await peer.text()
    socket_id = parse_connected(text)
    expect_equal(text, f'40{{"sid":"{socket_id}"}}', "answer to CONNECT")


@CASES.case("namespace/join-custom", "SIO-CON-3")
async def join_custom(lab: ServerLab) -> None:
    """With a namespace part, if there is one."""
    peer = await lab.session()
    await peer.send("40/custom,")
    parse_connected(await peer.text(), "/custom")


@CASES.case("namespace/not-without-asking", "SIO-CON-1")
async def not_without_asking(lab: ServerLab) -> None:
    """Nobody is in `/` without CONNECT: the server sends nothing."""
    peer = await lab.session()
    await peer.silent(0.1)


def _add_auth(name: str, sent: str, seen: object) -> None:
    @CASES.case(f"namespace/auth/{name}", "SIO-CON-2")
    async def auth(lab: ServerLab) -> None:
        """The object of CONNECT is the application's; no data are the same as `{}`."""
        peer = await lab.session()
        await peer.send("40" + sent)
        parse_connected(await peer.text())
        event = await peer.event()
        expect_equal((event.name, event.args), ("auth", [seen]), "event `auth` of the fixture")


_add_auth("object", '{"token":"123"}', {"token": "123"})
_add_auth("empty-object", "{}", {})
_add_auth("none", "", {})
_add_auth("nested", '{"a":{"b":[1,null,"\\u00e4"]}}', {"a": {"b": [1, None, "ä"]}})


@CASES.case("namespace/auth-of-custom", "SIO-CON-2")
async def auth_custom(lab: ServerLab) -> None:
    """Each namespace has credentials of its own."""
    peer = await lab.session()
    await peer.send('40{"for":"main"}')
    parse_connected(await peer.text())
    expect_equal((await peer.event()).args, [{"for": "main"}], "auth of /")
    await peer.send('40/custom,{"for":"custom"}')
    parse_connected(await peer.text(), "/custom")
    expect_equal((await peer.event()).args, [{"for": "custom"}], "auth of /custom")


@CASES.case("namespace/answer-first", "SIO-CON-4")
async def answer_first(lab: ServerLab) -> None:
    """The answer comes before any event of the namespace."""
    peer = await lab.session()
    await peer.send("40")
    text = await peer.text()
    expect(text.startswith("40{"), f"expected the answer to CONNECT first, got {text!r}")


@CASES.case("namespace/refused", "SIO-CON-5", needs=["guarded"])
async def refused(lab: ServerLab) -> None:
    """A refusal is `44` with message and data."""
    peer = await lab.session()
    await peer.send("40/guarded,")
    answer = parse_refused(await peer.text(), "/guarded")
    expect_equal(answer, {"message": "invalid token", "data": {"retry": False}}, "CONNECT_ERROR")


@CASES.case("namespace/let-in", "SIO-CON-5", "SIO-CON-3", needs=["guarded"])
async def let_in(lab: ServerLab) -> None:
    """After a refusal a client may ask again."""
    peer = await lab.session()
    await peer.send("40/guarded,")
    parse_refused(await peer.text(), "/guarded")
    await peer.send('40/guarded,{"token":"s3cret"}')
    parse_connected(await peer.text(), "/guarded")


@CASES.case("namespace/unknown", "SIO-CON-6")
async def unknown(lab: ServerLab) -> None:
    """A namespace that does not exist is refused in these words."""
    peer = await lab.session()
    await peer.send("40/nowhere,")
    await peer.expect('44/nowhere,{"message":"Invalid namespace"}')


def _add_unknown(name: str, namespace: str) -> None:
    @CASES.case(f"namespace/unknown/{name}", "SIO-NSP-1", "SIO-CON-6")
    async def unknown_name(lab: ServerLab) -> None:
        """Names are compared byte for byte, and every other character is one like any other."""
        peer = await lab.session()
        await peer.send(f"40{namespace},")
        await peer.expect(f'44{namespace},{{"message":"Invalid namespace"}}')


for _name, _namespace in {
    "query": "/custom?a=b",
    "case": "/Custom",
    "slash": "/custom/",
    "space": "/custom ",
    "unicode": "/äöü€",
    "256-bytes": "/" + "x" * 255,
    "proto": "/__proto__",
}.items():
    _add_unknown(_name, _namespace)


@CASES.case("namespace/refusal-keeps-session", "SIO-CON-7", "SIO-NSP-2")
async def keeps_session(lab: ServerLab) -> None:
    """A refusal leaves the session and its other namespaces open."""
    peer = await lab.member()
    await peer.send("40/nowhere,")
    parse_refused(await peer.text(), "/nowhere")
    await peer.echo("unharmed")


@CASES.case("namespace/too-many-refusals", "SIO-CON-7", "LIM-1")
async def too_many_refusals(lab: ServerLab) -> None:
    """More than refused_connects refusals are TOO_MANY_REFUSALS."""
    peer = await lab.member()
    for number in range(21):
        await peer.send(f"40/nowhere{number},")
    await peer.expect_closed(1008, "too many refused CONNECTs", 2 * lab.patience)


@CASES.case("namespace/refusals-forgiven", "SIO-CON-7")
async def refusals_forgiven(lab: ServerLab) -> None:
    """Those before an accepted CONNECT do not count any more."""
    peer = await lab.member()
    for namespace in ("/custom", None):
        await peer.raw(b"".join(build(TEXT, b"40/nowhere%d," % number) for number in range(20)))
        for _ in range(20):
            expect((await peer.text()).startswith("44/nowhere"), "expected CONNECT_ERROR")
        if namespace is not None:
            await peer.join(namespace)
    await peer.echo("unharmed")


@CASES.case("namespace/connect-timeout", "SIO-CON-8")
async def connect_timeout(lab: ServerLab) -> None:
    """A session that joins nothing within the connect timeout (1 s) is closed, though it answers PINGs."""
    peer = await lab.session()
    start = trio.current_time()
    await peer.expect_closed(1008, "no namespace joined in time", 1 + 2 * lab.patience)
    waited = trio.current_time() - start
    expect(waited > 0.85, f"closed after {waited:.3f} s")


@CASES.case("namespace/connect-timeout-despite-refusals", "SIO-CON-8")
async def timeout_refusals(lab: ServerLab) -> None:
    """Refusals do not stop this clock."""
    peer = await lab.session()
    for number in range(3):
        await peer.send(f"40/nowhere{number},")
        await trio.sleep(0.2)
    await peer.expect_closed(1008, "no namespace joined in time", 0.4 + 2 * lab.patience)


@CASES.case("namespace/connect-timeout-stopped", "SIO-CON-8")
async def timeout_stopped(lab: ServerLab) -> None:
    """The first accepted CONNECT stops it for good, also for a client that leaves again."""
    peer = await lab.member()
    await peer.send("41")
    await peer.silent(1.0 + lab.patience)
    await peer.join("/custom")


@CASES.case("namespace/event-too-early", "SIO-CON-9")
async def event_too_early(lab: ServerLab) -> None:
    """An EVENT before CONNECT is NOT_CONNECTED."""
    peer = await lab.session()
    await peer.send('42["message","x"]')
    await peer.expect_closed(1002, "namespace not connected", lab.patience)


@CASES.case("namespace/event-while-connecting", "SIO-CON-9", needs=["slow"])
async def event_while_connecting(lab: ServerLab) -> None:
    """An EVENT before the answer to CONNECT is NOT_CONNECTED."""
    peer = await lab.session()
    await peer.raw(build(TEXT, b"40/slow,") + build(TEXT, b'42/slow,["message","x"]'))
    await peer.expect_closed(1002, "namespace not connected", lab.patience)


@CASES.case("namespace/second-connect", "SIO-CON-9", "SIO-CON-1")
async def second_connect(lab: ServerLab) -> None:
    """A second CONNECT is ALREADY_CONNECTED."""
    peer = await lab.member()
    await peer.send("40")
    await peer.expect_closed(1002, "namespace already connected", lab.patience)


@CASES.case("namespace/second-connect-while-connecting", "SIO-CON-9", needs=["slow"])
async def second_while_connecting(lab: ServerLab) -> None:
    """Also while the first has no answer."""
    peer = await lab.session()
    await peer.raw(build(TEXT, b"40/slow,") * 2)
    await peer.expect_closed(1002, "namespace already connected", lab.patience)


@CASES.case("namespace/withdrawn", "SIO-CON-10", needs=["slow"])
async def withdrawn(lab: ServerLab) -> None:
    """A DISCONNECT while connecting withdraws the CONNECT: there is no answer to it."""
    peer = await lab.session()
    await peer.raw(build(TEXT, b"40/slow,") + build(TEXT, b"41/slow,"))
    await peer.silent(0.15 + lab.patience)
    await peer.join()


@CASES.case("namespace/socket-ids", "SIO-CON-11", "EIO-SID-1")
async def socket_ids(lab: ServerLab) -> None:
    """A socket id has the form of a session id, and is another one for each socket."""
    peer = await lab.session()
    first, second = await peer.join(), await peer.join("/custom")
    for socket_id in (first, second):
        expect(SOCKET_ID.fullmatch(socket_id), f"not the form of a socket id: {socket_id!r}")
    expect_equal(len({first, second, peer.sid}), 3, "number of different ids")


@CASES.case("namespace/several", "SIO-NSP-2")
async def several(lab: ServerLab) -> None:
    """One session may be in several namespaces, each by itself."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.emit("message", "main")
    expect_equal((await peer.event()).namespace, "/", "namespace of the echo")
    await peer.emit("message", "custom", namespace="/custom")
    expect_equal((await peer.event()).namespace, "/custom", "namespace of the echo")


@CASES.case("namespace/leave-one", "SIO-DIS-1", "SIO-NSP-2")
async def leave_one(lab: ServerLab) -> None:
    """Leaving one namespace does not touch the others, and has no answer."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.send("41/custom,")
    await peer.silent(0.05)
    await peer.echo("unharmed")


@CASES.case("namespace/leave-all", "SIO-DIS-1")
async def leave_all(lab: ServerLab) -> None:
    """The session stays open when its last namespace is left."""
    peer = await lab.member()
    await peer.send("41")
    await peer.silent(lab.patience)
    await peer.join()
    await peer.echo("back again")


@CASES.case("namespace/leave-reason", "SIO-DIS-1", "SIO-REASON-1", needs=["reasons"])
async def leave_reason(lab: ServerLab) -> None:
    """The reason is `client namespace disconnect`."""
    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await peer.send("41")
    await expect_reason(lab, watcher, socket_id, "client namespace disconnect")


@CASES.case("namespace/event-after-leaving", "SIO-DIS-4", "SIO-STATE-2")
async def after_leaving(lab: ServerLab) -> None:
    """An EVENT after leaving is NOT_CONNECTED."""
    peer = await lab.member()
    await peer.raw(build(TEXT, b"41") + build(TEXT, b'42["message","x"]'))
    await peer.expect_closed(1002, "namespace not connected", lab.patience)


@CASES.case("namespace/kicked", "SIO-DIS-2", needs=["kick"])
async def kicked(lab: ServerLab) -> None:
    """The server leaves with the same packet; the session stays."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.emit("kick", False)
    await peer.expect("41")
    await peer.emit("message", "x", namespace="/custom")
    expect_equal((await peer.event()).namespace, "/custom", "namespace of the echo")


@CASES.case("namespace/kicked-reason", "SIO-DIS-2", "SIO-REASON-1", needs=["kick", "reasons"])
async def kicked_reason(lab: ServerLab) -> None:
    """The reason is `server namespace disconnect`."""
    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await peer.emit("kick", False)
    await expect_reason(lab, watcher, socket_id, "server namespace disconnect")


@CASES.case("namespace/kicked-with-session", "SIO-DIS-3", needs=["kick"])
async def kicked_with_session(lab: ServerLab) -> None:
    """With the session: a DISCONNECT for each namespace, then the end."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.emit("kick", True)
    found = {await peer.text(), await peer.text()}
    expect_equal(found, {"41", "41/custom,"}, "packets before the end")
    await peer.ended(lab.patience)


@CASES.case("namespace/ignored-after-kick", "SIO-STATE-3", "SIO-DIS-4", needs=["kick"])
async def ignored_after_kick(lab: ServerLab) -> None:
    """After it DISCONNECT, EVENT and ACK are ignored, and a CONNECT starts anew."""
    peer = await lab.member()
    await peer.emit("kick", False)
    await peer.expect("41")
    for text in ('42["message","x"]', '421["message-with-ack"]', "431[]", "41"):
        await peer.send(text)
    await peer.silent(0.05)
    await peer.join()
    await peer.echo("back again")


STATES = {"accept": "accept", "refuse": "refuse", "disconnect": "kick"}


def _add_states(vector: Vector) -> None:
    @CASES.case(
        f"state/{vector.id.partition('/')[2]}", vector.clause, "SIO-STATE-1", "SIO-STATE-2", needs=["slow"]
    )
    async def states(lab: ServerLab) -> None:
        """The packets of the client lead to what the table of states says."""
        peer = await lab.session()
        steps, outcomes = vector.given["steps"], list(vector.expect["outcomes"])
        refused = any(step.get("server") == "refuse" for step in steps)
        for step in steps:
            if "server" in step:
                if step["server"] == "disconnect":
                    await peer.send('42/slow,["kick",false]')
                    await peer.expect("41/slow,")
                elif step["server"] == "refuse":
                    parse_refused(await peer.text(), "/slow")
                    refused = False
                else:
                    parse_connected(await peer.text(), "/slow")
                    expect_equal((await peer.event()).name, "auth", "first event")
                continue
            auth = '{"refuse":true}' if refused else ""
            packet = {
                "CONNECT": "40/slow," + auth,
                "EVENT": '42/slow,["nobody listens"]',
                "ACK": "43/slow,77[]",
                "DISCONNECT": "41/slow,",
                "CONNECT_ERROR": '44/slow,{"message":"x"}',
            }[step["client"]]
            await peer.send(packet)
            outcome = outcomes.pop(0)
            if outcome.isupper():
                from protocol import Violation

                violation = Violation[outcome]
                await peer.expect_closed(int(violation.close_code), violation.text, lab.patience)
                return
        await peer.send("6")
        await trio.sleep(0.02)
        expect(peer.closed is None, f"the session ended: {peer.closed}")


for _vector in load_vectors("namespace"):
    _add_states(_vector)
