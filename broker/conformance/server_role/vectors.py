"""The test vectors of `protocol/vectors` over the wire: each that a server can be given is a case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.frames import PONG, TEXT, build
from broker.conformance.lab import ServerLab
from broker.conformance.packets import compact
from broker.conformance.polling import PollingPeer
from broker.conformance.websocket import WebSocketPeer
from protocol import Violation
from protocol.vectors import Vector, load_vectors, to_bytes

from .catalogue import CASES

LARGE = 20_000

Run = Callable[[ServerLab], Awaitable[None]]
Decorator = Callable[[Run], Run]


def _case(vector: Vector, *clauses: str, needs: tuple[str, ...] = ()) -> Decorator:
    return CASES.case(f"vector/{vector.id}", vector.clause, *clauses, needs=needs)


async def _expect_violation(
    lab: ServerLab, peer: WebSocketPeer, expected: dict[str, Any], size: int = 0
) -> None:
    violation = Violation[expected["violation"]]
    await peer.expect_closed(
        expected["close_code"], violation.text, lab.patience * (1 if size < LARGE else 3)
    )


def _add_refuse(vector: Vector) -> None:
    @_case(vector)
    async def refuse(lab: ServerLab) -> None:
        """The packet is refused with the violation of its row, at once."""
        peer = await lab.member()
        size = 0
        for message in vector.given["messages"]:
            (kind, value), *_ = message.items()
            data = to_bytes(value)
            size += len(data)
            await peer.raw(build(TEXT, b"4" + data) if kind == "text" else build(2, data))
        await _expect_violation(lab, peer, vector.expect, size)


def _add_decode(vector: Vector) -> None:
    packet = vector.expect["packet"]
    if packet["namespace"] != "/" or packet["type"] not in ("EVENT", "ACK"):
        return

    @_case(vector)
    async def decode(lab: ServerLab) -> None:
        """The packet is taken, and the session goes on."""
        peer = await lab.member()
        await peer.raw(build(TEXT, b"4" + to_bytes(vector.given["text"])))
        for attachment in vector.given["attachments"]:
            await peer.send(
                bytes.fromhex(attachment) if isinstance(attachment, str) else to_bytes(attachment)
            )
        await peer.emit("message", "mark")
        while (event := await peer.event()).args != ["mark"]:
            expect(event.kind in (2, 3, 5, 6), "another packet")


def _add_encode(vector: Vector) -> None:
    packet, expected = vector.given["packet"], vector.expect
    if packet["namespace"] != "/" or packet["type"] not in ("EVENT", "ACK"):
        return
    name = "message" if packet["type"] == "EVENT" else "message-with-ack"
    text = expected["text"]
    bracket = text.index("[")
    args = text[bracket + 1 : -1]
    if packet["type"] == "EVENT":
        first = compact(packet["data"][0])
        args = args.removeprefix(first).removeprefix(",")
    count = text[1 : text.index("-")] if text[0] in "56" else ""
    binary = bool(expected["attachments"])
    ack_id = "" if packet["ack_id"] is None else str(packet["ack_id"])
    if packet["type"] == "EVENT" and ack_id:
        return

    @_case(vector)
    async def encode(lab: ServerLab) -> None:
        """The server writes the packet as the vector says."""
        peer = await lab.member()
        head = f"45{count}-" if binary else "42"
        sent = f'["{name}"' + (f",{args}]" if args else "]")
        await peer.send(head + ack_id + sent)
        for attachment in expected["attachments"]:
            await peer.send(bytes.fromhex(attachment))
        if name == "message":
            wanted = "4" + text[:bracket] + '["message-back"' + (f",{args}]" if args else "]")
        else:
            wanted = "4" + text
        await peer.expect(wanted)
        for attachment in expected["attachments"]:
            await peer.expect(bytes.fromhex(attachment))


def _add_payload(vector: Vector) -> None:
    body = to_bytes(vector.given["body"])
    refused = vector.expect["refused"]
    if refused is None or len(body) > 1_000_000:
        return

    @_case(vector, "EIO-POLL-10")
    async def payload(lab: ServerLab) -> None:
        """The POST is refused with code 104, and the session ends."""
        # Messages of these vectors would be violations of Socket.IO before the fault is reached.
        peer = await lab.polling()
        response = await peer.post(body)
        expect_equal((response.status, response.code), (400, 104), "status and code")
        await peer.expect_gone()


def _add_frames(vector: Vector) -> None:
    refused, received = vector.expect["refused"], vector.expect["received"]
    bounded = {"max_fragments", "max_message_bytes"} & set(vector.given)
    if bounded or any(not set(item) & {"ping", "pong", "close"} for item in received):
        return
    data = to_bytes(vector.given["bytes"])

    @_case(vector)
    async def frames(lab: ServerLab) -> None:
        """The frames are answered, or refused, as the vector says."""
        peer = await lab.member()
        await peer.raw(data)
        for item in received:
            if "ping" in item:
                expect_equal(
                    await peer.control_frame(PONG), to_bytes(item["ping"]), "payload of the pong frame"
                )
            if "close" in item:
                closed = await peer.ended(lab.patience)
                expect(closed.code != 1006, "the close frame was not answered with one")
                return
        if refused is not None:
            await _expect_violation(lab, peer, refused)
        elif received:
            await peer.echo("unharmed")


def _add_handshake(vector: Vector) -> None:
    given, expected = vector.given, vector.expect
    origin = given["origin"]
    if origin is not None and ("\n" in origin or "\r" in origin):
        return
    if given["method"] == "OPTIONS":  # a preflight here, where every origin is allowed: see cors/options
        return

    @_case(vector)
    async def handshake(lab: ServerLab) -> None:
        """The request is accepted, or refused with the status and code of its row."""
        query = await _with_sessions(lab, given["query"])
        headers = [] if origin is None else [("Origin", origin)]
        if given["upgrade"] and given["method"] == "GET":
            websocket = await lab.websocket(query, headers=headers)
            response = websocket.answered
            accepted = response.status == 101
        else:
            if "sid=" in query and expected["accepted"] and given["method"] == "GET":
                # Give the parked GET something to say.
                lab.start_soon(_noise, lab, query)
            response = await lab.http(
                given["method"], query, headers, "6" if given["method"] == "POST" else None
            )
            accepted = response.status == 200
        if expected["accepted"]:
            expect(accepted, f"refused with {response.status} {response.text[:200]}")
            return
        expect_equal(response.status, expected["status"], "status")
        found = response.json
        expect_equal(
            (found.get("code"), found.get("message")), (expected["code"], expected["message"]), "body"
        )


async def _noise(lab: ServerLab, query: str) -> None:
    await trio.sleep(0.05)
    await lab.http("POST", query.replace("GET", "POST"), body="40")


async def _with_sessions(lab: ServerLab, query: str) -> str:
    pieces = query.split("&")
    for at, piece in enumerate(pieces):
        if piece == "sid=p":
            opened = PollingPeer(lab, [])
            await opened.open()
            pieces = [f"sid={opened.sid}" if other == "sid=p" else other for other in pieces]
            break
        if piece == "sid=w":
            peer = await lab.session()
            pieces[at] = f"sid={peer.sid}"
    return "&".join(pieces)


def _add_upgrade(vector: Vector) -> None:
    inputs = vector.given["inputs"]
    needs = ("bounded",) if "timeout" in inputs else ()

    @_case(vector, "EIO-UPG-1", needs=needs)
    async def upgrade(lab: ServerLab) -> None:
        """The probe goes through the states that the vector gives."""
        if needs:
            lab.use("bounded")
        peer = await lab.polling_member()
        if needs:
            lab.start_soon(peer.keep_alive)
        probe = await lab.probe(peer.sid)
        probe.answered_101()
        for given, action in zip(inputs, vector.expect["actions"], strict=True):
            if given == "transport closed":
                await trio.aclose_forcefully(probe.stream)
            elif given == "session closed":
                await peer.send("1")
            elif given != "timeout":
                await probe.send(given if given in ("2probe", "5") else "x")
            if action == "send 3probe":
                await probe.expect("3probe")
        if vector.expect["state"] == "switched":
            await probe.echo("on websocket")
        elif vector.expect["state"] == "failed":
            await probe.ended(lab.patience + (0.4 if needs else 0))
            if needs:
                await peer.expect_alive()
            elif "session closed" not in inputs:
                await peer.echo("on polling")


for _add, _kind in (
    (_add_refuse, "refuse"),
    (_add_decode, "decode"),
    (_add_encode, "encode"),
    (_add_payload, "payload"),
    (_add_frames, "frames"),
    (_add_handshake, "handshake"),
    (_add_upgrade, "upgrade"),
):
    for _vector in load_vectors(_kind):  # type: ignore[arg-type]  # the literals above are its kinds
        _add(_vector)
