"""Cases for section 28: recovery, on the server `recovering` of the fixture, whose window is one second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import trio

from broker.conformance.cases import Deviation, expect, expect_equal
from broker.conformance.lab import ServerLab
from broker.conformance.websocket import WebSocketPeer

from .catalogue import CASES

WINDOW = 1.0


@dataclass
class Member:
    """A peer in `/`, with what the answer to its CONNECT said and the last offset it got."""

    peer: WebSocketPeer
    sid: str
    pid: str
    offset: str


async def enter(lab: ServerLab, auth: dict[str, Any] | None = None) -> tuple[WebSocketPeer, dict[str, Any]]:
    """Ask to be let in; return the answer."""
    peer = await lab.session()
    await peer.send("40" + json.dumps(auth or {}))
    text = await peer.text()
    expect(text.startswith("40{"), f"expected an answer to CONNECT, got {text}")
    return peer, json.loads(text[2:])


async def joined(lab: ServerLab) -> Member:
    """Join the server that recovers, and take the event `auth`."""
    lab.use("recovering")
    peer, answer = await enter(lab)
    expect(isinstance(answer.get("pid"), str), f"no pid in {answer}")
    event = await peer.event()
    return Member(peer, answer["sid"], answer["pid"], offset_of(event.args))


def offset_of(args: list[Any]) -> str:
    """Return the offset at the end of an event."""
    expect(
        bool(args) and isinstance(args[-1], str) and len(args[-1]) <= 32, f"no offset at the end of {args}"
    )
    return str(args[-1])


async def hear(peer: WebSocketPeer, name: str, *args: Any) -> str:
    """Expect an event, and return its offset."""
    event = await peer.event()
    expect_equal((event.name, event.args[:-1]), (name, list(args)), "event and arguments")
    return offset_of(event.args)


async def lose(lab: ServerLab, member: Member) -> None:
    """Cut the connection, and see that the server knows."""
    await member.peer.close()
    await trio.sleep(min(0.1, lab.patience))


async def shout(lab: ServerLab, *args: Any) -> None:
    """Say something to the watchers, by a client of its own."""
    other, _ = await enter(lab)
    await other.event()
    await other.emit("shout", *args)
    await other.call("message-with-ack", "said")


async def expect_new(lab: ServerLab, member: Member, asked: dict[str, Any], word: str) -> None:
    """Expect a new socket, and why."""
    _, answer = await enter(lab, asked)
    expect(answer.get("sid") != member.sid, "the same socket id")
    expect(answer.get("pid") not in (None, member.pid), "no pid, or the same")
    expect_equal(answer.get("recovery"), word, "recovery")


@CASES.case("recovery/pid", "SIO-REC-1")
async def pid(lab: ServerLab) -> None:
    """The answer to CONNECT has a private id, another for each socket."""
    one, other = await joined(lab), await joined(lab)
    expect(len(one.pid) >= 16, f"a pid of {len(one.pid)} characters")
    expect(len({one.pid, other.pid, one.sid, one.peer.sid}) == 4, "the pid is somebody's id")


@CASES.case("recovery/offsets", "SIO-REC-2", "SIO-REC-4", needs=["call"], alone=True)
async def offsets(lab: ServerLab) -> None:
    """Events carry an offset, the same for all receivers; acks and events that ask for one do not."""
    one, other = await joined(lab), await joined(lab)
    for member in (one, other):
        await member.peer.emit("join", "watchers")
        expect_equal(await member.peer.call("message-with-ack", "text"), ["text"], "ack")
    await one.peer.emit("shout", "text", 1)
    first = await hear(one.peer, "shouted", "text", 1)
    expect_equal(await hear(other.peer, "shouted", "text", 1), first, "offset of the other receiver")
    await one.peer.emit("message", 1)
    expect(await hear(one.peer, "message-back", 1) != first, "the same offset twice")
    await one.peer.emit("ask-me", "text")
    text = await one.peer.text()
    expect(text.endswith('["question","text"]'), f"an event that asks for an ack: {text}")


@CASES.case("recovery/volatile", "SIO-REC-3", needs=["volatile"], alone=True)
async def volatile(lab: ServerLab) -> None:
    """A volatile event that ends in a text repeats the offset before it, and spoils no recovery."""
    one = await joined(lab)
    await one.peer.emit("message", 1)
    known = await hear(one.peer, "message-back", 1)
    await one.peer.emit("volatile", 1)
    await one.peer.expect('42["volatile-back",1]')
    await one.peer.emit("volatile", "text")
    expect_equal(await hear(one.peer, "volatile-back", "text"), known, "offset")


@CASES.case("recovery/missed", "SIO-REC-6", "SIO-REC-8", "SIO-REC-9", alone=True)
async def missed(lab: ServerLab) -> None:
    """What was missed comes first, in order, with its offsets, then the answer with the same ids."""
    one = await joined(lab)
    await one.peer.emit("join", "watchers")
    await one.peer.call("message-with-ack")
    await lose(lab, one)
    await shout(lab, 1)
    await shout(lab, "two")
    peer = await lab.session()
    await peer.send("40" + json.dumps({"pid": one.pid, "offset": one.offset}))
    await hear(peer, "shouted", 1)
    await hear(peer, "shouted", "two")
    text = await peer.text()
    answer = json.loads(text[2:]) if text.startswith("40{") else {}
    expect_equal((answer.get("sid"), answer.get("pid")), (one.sid, one.pid), "ids in the answer")


@CASES.case("recovery/not-in-the-room-yet", "SIO-REC-8", alone=True)
async def not_in_the_room_yet(lab: ServerLab) -> None:
    """An event of a room is not for who joined it later, after a recovery either."""
    one = await joined(lab)
    await shout(lab, "too early")
    await one.peer.emit("join", "watchers")
    await one.peer.call("message-with-ack")
    await lose(lab, one)
    await shout(lab, "in time")
    peer = await lab.session()
    await peer.send("40" + json.dumps({"pid": one.pid, "offset": one.offset}))
    await hear(peer, "shouted", "in time")


@CASES.case("recovery/idle", "SIO-REC-6")
async def idle(lab: ServerLab) -> None:
    """A client that has no offset yet gets all that was sent since it was let in."""
    one = await joined(lab)
    await lose(lab, one)
    peer = await lab.session()
    await peer.send("40" + json.dumps({"pid": one.pid}))
    event = await peer.event()
    expect_equal((event.name, offset_of(event.args)), ("auth", one.offset), "the event that came first")
    text = await peer.text()
    expect(text.startswith("40{") and one.sid in text, f"expected the answer, got {text}")


@CASES.case("recovery/left", "SIO-REC-5", "SIO-REC-7")
async def left(lab: ServerLab) -> None:
    """After DISCONNECT nothing is kept."""
    one = await joined(lab)
    await one.peer.send("41")
    await lose(lab, one)
    await expect_new(lab, one, {"pid": one.pid, "offset": one.offset}, "unknown")


def _add_unknown(name: str, asked: dict[str, Any], *, own_pid: bool) -> None:
    @CASES.case(f"recovery/unknown/{name}", "SIO-REC-7")
    async def unknown(lab: ServerLab) -> None:
        """Who shows a pid or an offset that is none is connected anew, and told."""
        one = await joined(lab)
        await lose(lab, one)
        await expect_new(lab, one, {**asked, "pid": one.pid} if own_pid else asked, "unknown")


_add_unknown("pid", {"pid": "foo", "offset": "bar"}, own_pid=False)
_add_unknown("long-pid", {"pid": "x" * 10_000}, own_pid=False)
_add_unknown("offset", {"offset": "bar"}, own_pid=True)
_add_unknown("offset-to-come", {"offset": "99999999999999-0"}, own_pid=True)
_add_unknown("offset-of-another-type", {"offset": 5}, own_pid=True)


@CASES.case("recovery/expired", "SIO-REC-7")
async def expired(lab: ServerLab) -> None:
    """After the window the word is `expired`."""
    one = await joined(lab)
    await lose(lab, one)
    await trio.sleep(WINDOW + 0.5)
    await expect_new(lab, one, {"pid": one.pid, "offset": one.offset}, "expired")


@CASES.case("recovery/unsupported", "SIO-REC-1", "SIO-REC-7")
async def unsupported(lab: ServerLab) -> None:
    """A server that keeps nothing sends no pid, and says so to who asks."""
    peer, answer = await enter(lab, {"pid": "foo", "offset": "bar"})
    if "pid" in answer:
        raise Deviation("the main server of the fixture recovers; only `recovering` should")
    expect_equal(answer.get("recovery"), "unsupported", "recovery")
    await peer.event()
    await peer.echo("no offset")


@CASES.case("recovery/one-at-a-time", "SIO-REC-10")
async def one_at_a_time(lab: ServerLab) -> None:
    """While its client answers, nobody else gets the session."""
    one = await joined(lab)
    await expect_new(lab, one, {"pid": one.pid, "offset": one.offset}, "unknown")
    await one.peer.emit("message", "still here")
    await hear(one.peer, "message-back", "still here")


@CASES.case("recovery/used", "SIO-REC-10")
async def used(lab: ServerLab) -> None:
    """A session that was recovered is not given out a second time."""
    one = await joined(lab)
    await lose(lab, one)
    asked = {"pid": one.pid, "offset": one.offset}
    _, answer = await enter(lab, asked)
    expect_equal(answer.get("sid"), one.sid, "sid")
    await expect_new(lab, one, asked, "unknown")
