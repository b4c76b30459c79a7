"""Cluster messages: what is written is read again, and what is none is refused."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.bus.cluster import ClusterMessage, MessageType, read_message
from protocol.bus.options import BroadcastOptions, read_options

OPTIONS = BroadcastOptions(("a", "42"), ("b",), {"volatile": True})
OPTS = {"rooms": ["a", 42], "except": ["b"], "flags": {"volatile": True}}
PACKET = {"type": 2, "data": ["ev", 1]}
SOCKET = {"id": "x", "handshake": {}, "rooms": ["x"], "data": 1}

GOOD: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"packet": PACKET, "opts": OPTS}, {"event": ["ev", 1], "options": OPTIONS}, 3),
    ({"packet": PACKET, "requestId": "r", "opts": OPTS}, {"event": ["ev", 1], "options": OPTIONS}, 3),
    ({"opts": OPTS, "rooms": ["c"]}, {"options": OPTIONS, "rooms": ("c",)}, 4),
    ({"opts": OPTS, "rooms": ["c"]}, {"options": OPTIONS, "rooms": ("c",)}, 5),
    ({"opts": OPTS, "close": True}, {"options": OPTIONS, "close": True}, 6),
    ({"opts": OPTS, "requestId": "r"}, {"options": OPTIONS}, 7),
    ({"requestId": "r", "sockets": [SOCKET]}, {"sockets": [SOCKET]}, 8),
    ({"packet": ["ev"]}, {"event": ["ev"]}, 9),
    ({"requestId": "r", "packet": ["ev"]}, {"event": ["ev"]}, 9),
    ({"requestId": "r", "packet": 5}, {"answer": 5}, 10),
    ({"requestId": "r", "clientCount": 0}, {"count": 0}, 11),
    ({"requestId": "r"}, {"answer": None}, 12),
]


@pytest.mark.parametrize(("data", "fields", "number"), GOOD)
def test_each_type_there_and_back(data: dict[str, Any], fields: dict[str, Any], number: int) -> None:
    kind = MessageType(number)
    message = ClusterMessage(type=kind, uid="u", namespace="/", request_id=data.get("requestId"), **fields)
    wire = {"type": number, "data": data, "uid": "u", "nsp": "/"}
    assert read_message(wire) == message
    written = message.to_wire()
    assert list(written) == ["type", "data", "uid", "nsp"]
    assert list(written["data"]) == list(data)
    assert read_message(written) == message


@pytest.mark.parametrize("number", [1, 2, 13])
def test_those_without_data(number: int) -> None:
    message = ClusterMessage(type=MessageType(number), uid="u", namespace="/")
    assert message.to_wire() == {"type": number, "uid": "u", "nsp": "/"}
    assert read_message(message.to_wire()) == message


BAD: list[tuple[Any, Any]] = [
    (3, None),
    (3, []),
    (3, {}),
    (3, {"packet": PACKET}),
    (3, {"packet": PACKET, "opts": []}),
    (3, {"packet": PACKET, "opts": {"rooms": "a"}}),
    (3, {"packet": PACKET, "opts": {"rooms": [None]}}),
    (3, {"packet": PACKET, "opts": {"rooms": [True]}}),
    (3, {"packet": PACKET, "opts": {"except": [1.5]}}),
    (3, {"packet": PACKET, "opts": {"flags": [1]}}),
    (3, {"packet": PACKET, "opts": OPTS, "requestId": 5}),
    (3, {"packet": {"type": 5, "data": ["ev"]}, "opts": OPTS}),
    (3, {"packet": {"type": 2, "data": []}, "opts": OPTS}),
    (3, {"packet": {"type": 2, "data": [5]}, "opts": OPTS}),
    (3, {"packet": {"type": 2, "data": "ev"}, "opts": OPTS}),
    (3, {"packet": [], "opts": OPTS}),
    (4, {"opts": OPTS}),
    (5, {"rooms": ["a"]}),
    (6, {}),
    (7, {"requestId": "r"}),
    (7, {"opts": OPTS}),
    (8, {"requestId": "r", "sockets": {}}),
    (8, {"requestId": "r", "sockets": [5]}),
    (8, {"requestId": "r", "sockets": [{"id": 5, "rooms": []}]}),
    (8, {"requestId": "r", "sockets": [{"id": "x", "rooms": [], "handshake": []}]}),
    (8, {"requestId": "r", "sockets": [{"id": "x"}]}),
    (9, {"packet": "ev"}),
    (10, {}),
    (11, {"requestId": "r", "clientCount": -1}),
    (11, {"requestId": "r", "clientCount": True}),
    (12, {"packet": 1}),
    (0, {}),
    (14, {}),
    (True, None),
    ("3", {}),
    ([], {}),
]


@pytest.mark.parametrize(("number", "data"), BAD)
def test_what_is_none(number: Any, data: Any) -> None:
    assert read_message({"type": number, "data": data, "uid": "u", "nsp": "/"}) is None


@pytest.mark.parametrize("wire", [None, [], "x", {"type": 2}, {"type": 2, "uid": 5, "nsp": "/"}])
def test_what_is_no_message_at_all(wire: Any) -> None:
    assert read_message(wire) is None


def test_options_may_be_sparse() -> None:
    assert read_options({}) == BroadcastOptions()
    assert read_options({"rooms": [], "flags": None}) == BroadcastOptions()
    assert OPTIONS.volatile
    assert not BroadcastOptions(flags={"volatile": 1}).volatile
    assert BroadcastOptions(flags={"timeout": 1500}).timeout(30, 300) == 1.5
    assert BroadcastOptions(flags={"timeout": 10**12}).timeout(30, 300) == 300
    for odd in (-1, 0, "5", float("nan"), None):
        assert BroadcastOptions(flags={"timeout": odd}).timeout(30, 300) == 30
