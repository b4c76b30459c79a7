"""Every vector, run against the protocol layer."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import orjson
import pytest

from protocol import Limits, Violation
from protocol.engineio.handshake import EngineRequest, check_request, parse_query
from protocol.engineio.packet import Packet as EnginePacket
from protocol.engineio.packet import PacketType as EngineType
from protocol.engineio.payload import decode_payload
from protocol.engineio.transitions import UPGRADE, ProbeInput, ProbeState
from protocol.socketio.decoder import NEED_ATTACHMENTS, Decoder, decode_event
from protocol.socketio.msgpack import MsgpackParser
from protocol.socketio.msgpack import encode as encode_msgpack
from protocol.socketio.packet import Packet, PacketType, encode_packet
from protocol.socketio.transitions import NAMESPACE, NamespaceAction, NamespaceState
from protocol.vectors import KINDS, Kind, Vector, load_vectors, to_bytes, to_data
from protocol.websocket import BinaryMessage, Control, ControlFrame, FrameError, FrameReader

from .sequences import expect_sequence, run_sequence

MAX_BYTES = 1_000_000
ALL = [vector for kind in KINDS for vector in load_vectors(kind)]


def packet_of(form: dict[str, Any]) -> Packet:
    return Packet(PacketType[form["type"]], form["namespace"], form["ack_id"], to_data(form["data"]))


def form_of(packet: Packet) -> Any:
    form = packet._asdict() | {"type": packet.type.name}
    return orjson.loads(orjson.dumps(form, default=lambda data: {"$hex": data.hex()}))


def outcome_of(violation: Violation, close_code: int | None = None) -> dict[str, Any]:
    return {
        "violation": violation.name,
        "reason": str(violation.reason),
        "close_code": violation.close_code if close_code is None else close_code,
    }


def run_encode(given: dict[str, Any]) -> dict[str, Any]:
    text, attachments = encode_packet(packet_of(given["packet"]))
    return {"text": text.decode(), "attachments": [data.hex() for data in attachments]}


def run_decode(given: dict[str, Any]) -> dict[str, Any]:
    decoder = Decoder(Limits(), MAX_BYTES)
    outcome: object = decoder.feed_text(given["text"].encode())
    for attachment in given["attachments"]:
        assert outcome is NEED_ATTACHMENTS
        outcome = decoder.feed_binary(bytes.fromhex(attachment))
    assert isinstance(outcome, Packet)
    fast = decode_event(b"4" + given["text"].encode(), 15, 64) if given["text"].startswith("2") else None
    assert fast is None or fast == (outcome.ack_id, outcome.data)
    return {"packet": form_of(outcome)}


def run_refuse(given: dict[str, Any]) -> dict[str, Any]:
    decoder = Decoder(Limits(), MAX_BYTES)
    outcomes: list[object] = []
    for message in given["messages"]:
        if "text" in message:
            outcomes.append(decoder.feed_text(to_bytes(message["text"])))
        else:
            outcomes.append(decoder.feed_binary(to_bytes(message["binary"])))
    *taken, last = outcomes
    assert not any(isinstance(outcome, Violation) for outcome in taken)
    assert isinstance(last, Violation)
    return outcome_of(last)


def run_payload(given: dict[str, Any]) -> dict[str, Any]:
    packets, violation = decode_payload(to_bytes(given["body"]), Limits())
    return {"packets": packets, "refused": violation and outcome_of(violation)}


def expect_payload(expect: dict[str, Any]) -> dict[str, Any]:
    forms = expect["packets"]
    if isinstance(forms, dict):
        forms = [forms["repeat"]] * forms["times"]
    packets = [
        EnginePacket(EngineType[form["type"]], to_bytes(form["data"]), form["binary"]) for form in forms
    ]
    return expect | {"packets": packets}


def read_frames(given: dict[str, Any], step: int) -> dict[str, Any]:
    stream = to_bytes(given["bytes"])
    limits = Limits(fragments_per_message=given.get("max_fragments", 1024))
    reader = FrameReader(given.get("max_message_bytes", MAX_BYTES), limits)
    received: list[dict[str, Any]] = []
    refused = None
    for at in range(0, len(stream), step):
        for item in reader.feed(stream[at : at + step]):
            assert refused is None
            if isinstance(item, FrameError):
                refused = outcome_of(item.violation, item.close_code)
            elif isinstance(item, ControlFrame) and item.kind is Control.CLOSE:
                received.append({"close": item.code, "reason": item.payload.decode()})
            elif isinstance(item, ControlFrame):
                received.append({item.kind.name.lower(): item.payload})
            else:
                received.append({"binary" if isinstance(item, BinaryMessage) else "text": bytes(item)})
    return {"received": received, "refused": refused}


def run_frames(given: dict[str, Any]) -> dict[str, Any]:
    whole = read_frames(given, step=1_000_000)
    assert read_frames(given, step=1) == whole
    return whole


def expect_frames(expect: dict[str, Any]) -> dict[str, Any]:
    received = [
        item if "close" in item else {key: to_bytes(value) for key, value in item.items()}
        for item in expect["received"]
    ]
    return expect | {"received": received}


def run_handshake(given: dict[str, Any]) -> dict[str, Any]:
    query = parse_query(given["query"])
    assert query is not None
    request = EngineRequest(given["method"], query, given["upgrade"], given["origin"])
    refused = check_request(request, ("polling", "websocket"), given["sessions"].get)
    if refused is None:
        return {"accepted": True}
    body = {key: value for key, value in refused.body.items() if key != "detail"}
    return {"accepted": False, "status": refused.refusal.status, **body, "rule": refused.rule}


def run_upgrade(given: dict[str, Any]) -> dict[str, Any]:
    state = ProbeState.AWAITING_PROBE
    actions = []
    for name in given["inputs"]:
        state, action = UPGRADE[state, ProbeInput(name)]
        actions.append(action.value)
    return {"actions": actions, "state": state.value}


AFTER_SERVER = {
    "accept": NamespaceState.CONNECTED,
    "refuse": NamespaceState.ABSENT,
    "disconnect": NamespaceState.LEFT,
}
AFTER_CLIENT = {
    NamespaceAction.CONNECT: NamespaceState.CONNECTING,
    NamespaceAction.LEAVE: NamespaceState.ABSENT,
}


def run_namespace(given: dict[str, Any]) -> dict[str, Any]:
    state = NamespaceState.ABSENT
    outcomes = []
    for step in given["steps"]:
        if "server" in step:
            state = AFTER_SERVER[step["server"]]
            continue
        outcome = NAMESPACE[state, PacketType[step["client"]]]
        if isinstance(outcome, Violation):
            outcomes.append(outcome.name)
        else:
            state = AFTER_CLIENT.get(outcome, state)
            outcomes.append(outcome.value)
    return {"outcomes": outcomes}


def run_msgpack(given: dict[str, Any]) -> dict[str, Any]:
    pytest.importorskip("msgpack", reason="msgpack is not installed")
    decoder, message = MsgpackParser().decoder(Limits(), MAX_BYTES), given["message"]
    if "text" in message:
        outcome = decoder.feed_text(to_bytes(message["text"]))
    else:
        outcome = decoder.feed_binary(to_bytes(message["binary"]))
    if isinstance(outcome, Violation):
        return {"packet": None, "refused": outcome_of(outcome)}
    assert isinstance(outcome, Packet)
    # What is written is read as the same, whatever form it came in.
    assert decoder.feed_binary(encode_msgpack(outcome)) == outcome
    return {"packet": form_of(outcome), "refused": None}


RUN: dict[Kind, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "encode": run_encode,
    "decode": run_decode,
    "refuse": run_refuse,
    "payload": run_payload,
    "frames": run_frames,
    "handshake": run_handshake,
    "upgrade": run_upgrade,
    "namespace": run_namespace,
    "sequence": run_sequence,
    "msgpack": run_msgpack,
}
EXPECT: dict[Kind, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "payload": expect_payload,
    "frames": expect_frames,
    "sequence": expect_sequence,
}


@pytest.mark.parametrize(
    "vector",
    [pytest.param(vector, id=vector.id, marks=pytest.mark.clause(vector.clause)) for vector in ALL],
)
def test_vector(vector: Vector) -> None:
    expected = EXPECT.get(vector.kind, dict)(vector.expect)
    assert RUN[vector.kind](vector.given) == expected


def test_ids_are_unique_and_begin_with_their_kind() -> None:
    assert len({vector.id for vector in ALL}) == len(ALL) >= 150
    assert all(re.fullmatch(vector.kind + "/[a-z0-9-]+", vector.id) for vector in ALL)
    assert all(re.fullmatch(r"[A-Z]+(-[A-Z]+)?-\d+", vector.clause) for vector in ALL)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_names_the_keys_that_vectors_have(kind: Kind) -> None:
    schema = orjson.loads(files("protocol.vectors").joinpath("schema.json").read_bytes())
    shape = schema["$defs"][kind]["properties"]
    for vector in load_vectors(kind):
        for part, value in (("given", vector.given), ("expect", vector.expect)):
            keys = shape[part]
            if "$ref" in keys:
                keys = schema["$defs"][keys["$ref"].rpartition("/")[2]]
            assert set(keys["required"]) <= value.keys() <= set(keys["properties"]), vector.id


def test_bytes_of_vectors() -> None:
    assert to_bytes({"join": ["a", {"repeat": {"hex": "ff00"}, "times": 2}]}) == b"a\xff\x00\xff\x00"
    assert to_data({"a": [{"$hex": "01"}, None]}) == {"a": [b"\x01", None]}
