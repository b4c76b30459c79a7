"""What JavaScript nodes have sent is read, and written again byte for byte."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime
from typing import Any

import orjson
import pytest

from protocol.bus import classic, sharded, streams
from protocol.bus.channels import ClassicChannels, ClusterChannels
from protocol.bus.cluster import ClusterMessage, MessageType
from protocol.bus.values import dump_text, pack, read_any
from protocol.vectors import load_bus_vectors, to_data

DEPTH = 64
Vector = dict[str, Any]

# What has more than it needs, or a form that only old nodes and strangers use, is written otherwise by us.
OTHERWISE = {
    "request/inject-sockets-0-legacy-1",
    "request/inject-remote-join-2-legacy-sid-1",
    "request/inject-remote-leave-3-legacy-sid-1",
    "request/inject-broadcast-7-as-json-1",
    "request/inject-unknown-type-99-1",
    "broadcast/inject-broadcast-minimal-no-nsp-no-flags-1",
    "broadcast/inject-broadcast-channel-room-filter-channel-room1-but-opts-rooms-1",
    "broadcast/inject-broadcast-with-own-uid-of-b-1",
    "broadcast/inject-broadcast-wrong-nsp-1",
    "broadcast/emit-numeric-room-1",
}


def load(form: str) -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in load_bus_vectors(form)]


def dated(value: Any) -> Any:
    if isinstance(value, list):
        return [dated(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$date"}:
            return datetime.fromisoformat(value["$date"])
        return {key: dated(item) for key, item in value.items()}
    return value


def numbered(value: Any) -> bool:
    return '"$num"' in orjson.dumps(value).decode()


def check_meaning(value: Any, vector: Vector) -> None:
    if not numbered(vector["means"]):
        assert value == dated(to_data(vector["means"]))


@pytest.mark.parametrize("vector", load("broadcast"))
def test_broadcasts(vector: Vector) -> None:
    body = bytes.fromhex(vector["body"])
    check_meaning(read_any(body, DEPTH), vector)
    found = classic.read_broadcast(body, DEPTH)
    if "type5" in vector["id"]:
        assert found is None  # no node must send that: it breaks the clients
        return
    assert found is not None
    assert (classic.write_broadcast(found) != body) == (vector["id"] in OTHERWISE)
    if vector["id"] in OTHERWISE:
        return
    channels = ClassicChannels(vector["channel"].split("#")[0], found.namespace, found.uid)
    assert channels.broadcast(found.options.rooms) == vector["channel"]


@pytest.mark.parametrize("vector", load("request"))
def test_requests(vector: Vector) -> None:
    body = bytes.fromhex(vector["body"])
    check_meaning(read_any(body, DEPTH), vector)
    found = classic.read_request(body, DEPTH)
    if vector["means"]["type"] == 99:
        assert found is None
        return
    assert found is not None
    assert found.type == vector["means"]["type"]
    assert (classic.write_request(found) != body) == (vector["id"] in OTHERWISE)


@pytest.mark.parametrize("vector", load("response"))
def test_responses(vector: Vector) -> None:
    body = bytes.fromhex(vector["body"])
    check_meaning(read_any(body, DEPTH), vector)
    found = classic.read_response(body, DEPTH)
    assert found is not None
    assert write_response(found, vector["means"]) == body


def write_response(found: classic.ClassicResponse, means: dict[str, Any]) -> bytes:
    if found.type is classic.RequestType.SERVER_SIDE_EMIT:
        return classic.write_server_answer(found.request_id, found.answer)
    if found.type is classic.RequestType.BROADCAST_CLIENT_COUNT:
        return classic.write_client_count(found.request_id, found.count)
    if found.type is classic.RequestType.BROADCAST_ACK:
        return classic.write_ack(found.request_id, found.answer)
    if found.sockets is not None:
        return classic.write_response(found.request_id, sockets=found.sockets)
    if found.rooms is not None:
        return classic.write_response(found.request_id, rooms=found.rooms)
    return classic.write_response(found.request_id, **{key: means[key] for key in means if key == "sockets"})


@pytest.mark.parametrize("vector", load("sharded") + load("packed"))
def test_cluster_messages(vector: Vector) -> None:
    body = bytes.fromhex(vector["body"])
    check_meaning(read_any(body, DEPTH), vector)
    found = sharded.read_published(body, DEPTH)
    assert found is not None
    write = sharded.write_packed if vector["id"].startswith("packed") else sharded.write_sharded
    if written_otherwise(found, vector):
        assert sharded.read_published(write(found), DEPTH) == found
    else:
        assert write(found) == body
    prefix = vector["channel"].split("#")[0]
    if found.type is MessageType.BROADCAST and found.request_id is None:
        mode: Any = vector["from"].removeprefix("sharded(").removesuffix(")")
        channels = ClusterChannels(prefix, found.namespace, mode)
        assert channels.broadcast(found.options.rooms) == vector["channel"]


def written_otherwise(found: ClusterMessage, vector: Vector) -> bool:
    """Tell whether a stranger has written it, without flags or with its keys in an order of its own."""
    return found.uid.startswith("f0f0") or found.uid == "emitter"


@pytest.mark.parametrize("vector", load("entry"))
def test_entries(vector: Vector) -> None:
    fields = [part.encode() for pair in vector["body"].items() for part in pair]
    found = streams.read_entry(fields, DEPTH)
    assert found is not None
    if written_otherwise(found, vector):
        return
    only_text = '"Buffer"' in vector["body"].get("data", "")
    assert streams.write_entry(found, only_text) == fields


@pytest.mark.parametrize("vector", load("session"))
def test_sessions(vector: Vector) -> None:
    body = bytes.fromhex(vector["body"])
    found = streams.read_session(body, DEPTH)
    assert found is not None
    check_meaning(read_any(b64decode(body), DEPTH), vector)
    assert streams.write_session(found) == body
    assert vector["channel"] == f"sio:session:{found.pid}"


def test_values_that_are_numbers_of_no_json() -> None:
    """NaN and infinity travel in MessagePack; JSON has null for them, as in JavaScript."""
    assert dump_text([float("nan"), float("inf")]) == b"[null,null]"
    assert read_any(pack([float("inf")]), DEPTH) == [float("inf")]
