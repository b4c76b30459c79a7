"""What a process that is no node sends: byte for byte what the official emitter has sent."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.bus.emitting import Emission
from protocol.bus.sharded import read_published
from protocol.bus.streams import read_entry
from protocol.vectors import load_bus_vectors

SENT = {
    one["id"].partition("/")[2]: one for form in ("broadcast", "request") for one in load_bus_vectors(form)
}
ALL = Emission()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("emitter-emit-1", ALL.emit(["e1", 1, "a"])),
        ("emitter-to-1", ALL.narrowed(("room1",)).emit(["e2", 1])),
        ("emitter-to-two-1", ALL.narrowed(("room1",)).narrowed(("room2",)).emit(["e3", 1])),
        ("emitter-except-1", ALL.narrowed((), ("room2",)).emit(["e4", 1])),
        ("emitter-to-except-1", ALL.narrowed(("room1",), ("room2",)).emit(["e5", 1])),
        ("emitter-of-1", ALL.of("chat").emit(["e6", 1])),
        ("emitter-volatile-compress-1", ALL.narrowed(volatile=True, compress=False).emit(["e7", 1])),
        ("emitter-binary-1", ALL.emit(["e8", b"\x01\x02\xff"])),
        ("emitter-socketsjoin-1", ALL.narrowed(("room1",)).join(("ej1", "ej2"))),
        ("emitter-socketsjoin-all-single-1", ALL.join(("ej3",))),
    ],
)
def test_as_the_official_emitter(name: str, command: tuple[Any, ...]) -> None:
    vector = SENT[name]
    assert command == ("PUBLISH", vector["channel"], bytes.fromhex(vector["body"]))


def test_other_requests() -> None:
    for verb, command in (
        (b'{"type":3,"opts":{"rooms":[],"except":[]},"rooms":["a"]}', ALL.leave(("a",))),
        (b'{"type":4,"opts":{"rooms":[],"except":[]},"close":true}', ALL.disconnect(True)),
        (b'{"uid":"emitter","type":6,"data":["ev",1]}', ALL.server_side_emit(["ev", 1])),
    ):
        assert command == ("PUBLISH", "socket.io-request#/#", verb)


@pytest.mark.parametrize("mode", ["sharded", "streams"])
def test_cluster_messages(mode: Any) -> None:
    emission = Emission(mode=mode).of("/chat").narrowed(("room",))
    commands = [
        emission.emit(["ev", 1]),
        emission.join(("a",)),
        emission.leave(("a",)),
        emission.disconnect(False),
        emission.server_side_emit(["ev"]),
    ]
    found = []
    for verb, target, *rest in commands:
        if verb == "XADD":
            assert (target, rest[:4]) == ("socket.io", ["MAXLEN", "~", 10_000, "*"])
            found.append(read_entry([part for part in rest[4:] if isinstance(part, bytes)], 64))
        else:
            room = "room#" if mode == "sharded" and not found else ""
            assert target == f"socket.io#/chat#{room}"
            assert verb == ("SPUBLISH" if mode == "sharded" else "PUBLISH")
            found.append(read_published(rest[-1] if isinstance(rest[-1], bytes) else b"", 64))
    assert [one and int(one.type) for one in found] == [3, 4, 5, 6, 9]
    assert all(one is not None and (one.uid, one.namespace) == ("emitter", "/chat") for one in found)
