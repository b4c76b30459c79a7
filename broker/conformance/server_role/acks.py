"""Cases for section 18: acknowledgements."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.lab import ServerLab

from .catalogue import CASES


def _add_answer(name: str, ack: int, *args: object) -> None:
    @CASES.case(f"ack/answer/{name}", "SIO-ACK-2", "SIO-ACK-1")
    async def answer(lab: ServerLab) -> None:
        """An EVENT with an ack id is answered with one ACK of this id and the arguments."""
        peer = await lab.member()
        expect_equal(await peer.call("message-with-ack", *args, ack=ack), list(args), "arguments of the ack")
        await peer.silent(0.03)


_add_answer("none", 0)
_add_answer("one", 1, "a")
_add_answer("several", 456, 1, "2", {"3": [True]})
_add_answer("null", 2, None)
_add_answer("array", 3, [1, 2])


@CASES.case("ack/ids-of-namespaces", "SIO-ACK-1")
async def ids_of_namespaces(lab: ServerLab) -> None:
    """The same id may be under way in two namespaces."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.send('421["message-with-ack","main"]')
    await peer.send('42/custom,1["message-with-ack","custom"]')
    found = {await peer.text(), await peer.text()}
    expect_equal(found, {'431["main"]', '43/custom,1["custom"]'}, "acks")


@CASES.case("ack/directions-are-apart", "SIO-ACK-1", needs=["call"])
async def directions(lab: ServerLab) -> None:
    """Ids of the two directions are apart."""
    peer = await lab.member()
    await peer.emit("ask-me-beside", "q")
    question = await peer.event()
    await peer.emit("message-with-ack", "mine", ack=question.ack)
    mine = await peer.event()
    expect_equal((mine.kind, mine.ack, mine.data), (3, question.ack, ["mine"]), "ack to the client")
    await peer.send(f"43{question.ack}[1]")
    expect_equal((await peer.event()).args, [[1]], "what the server got")


@CASES.case("ack/server-asks", "SIO-ACK-1", "SIO-ACK-2", needs=["call"])
async def server_asks(lab: ServerLab) -> None:
    """The server asks with an EVENT that has an id, and gets the arguments of the ACK."""
    peer = await lab.member()
    await peer.emit("ask-me", "q", 2)
    question = await peer.event()
    expect_equal((question.kind, question.data), (2, ["question", "q", 2]), "question")
    expect(question.ack is not None, "the question has no ack id")
    await peer.send(f'43{question.ack}["a",{{"b":1}}]')
    event = await peer.event()
    expect_equal((event.name, event.args), ("answer", [["a", {"b": 1}]]), "what the server got")


@CASES.case("ack/server-ids-differ", "SIO-ACK-1", needs=["call"])
async def ids_differ(lab: ServerLab) -> None:
    """Unanswered events of the server have different ids, and may be answered in any order."""
    peer = await lab.member()
    for number in range(3):
        await peer.emit("ask-me-beside", number)
    questions = [await peer.event() for _ in range(3)]
    ids = [question.ack for question in questions]
    expect_equal(len(set(ids)), 3, "number of different ids")
    for question in reversed(questions):
        await peer.send(f"43{question.ack}[{question.args[0]}]")
    found = sorted([(await peer.event()).args[0][0] for _ in range(3)])
    expect_equal(found, [0, 1, 2], "answers")


def _add_unknown(name: str, text: str) -> None:
    @CASES.case(f"ack/unknown/{name}", "SIO-ACK-3", "SIO-ERR-4")
    async def unknown(lab: ServerLab) -> None:
        """An ACK with an id that is not awaited is ignored."""
        peer = await lab.member()
        await peer.send(text)
        await peer.echo("unharmed")


_add_unknown("plain", "4312[]")
_add_unknown("with-data", '430["x",{"y":1}]')
_add_unknown("large", "43999999999999999[]")


@CASES.case("ack/twice", "SIO-ACK-3", needs=["call"])
async def twice(lab: ServerLab) -> None:
    """A second ACK for the same id is ignored."""
    peer = await lab.member()
    await peer.emit("ask-me", "q")
    question = await peer.event()
    await peer.send(f"43{question.ack}[1]")
    await peer.send(f"43{question.ack}[2]")
    expect_equal((await peer.event()).args, [[1]], "what the server got")
    await peer.echo("unharmed")


@CASES.case("ack/forged", "SIO-ACK-4", "SEC-6", needs=["call"])
async def forged(lab: ServerLab) -> None:
    """An ACK counts only for the socket that it came from."""
    victim, forger = await lab.member(), await lab.member()
    await victim.emit("ask-me", "q")
    question = await victim.event()
    await forger.send(f'43{question.ack}["forged"]')
    await forger.echo("sent")
    await victim.send(f'43{question.ack}["true"]')
    expect_equal((await victim.event()).args, [["true"]], "what the server got")


@CASES.case("ack/broadcast", "SIO-ACK-5", needs=["broadcast-call"])
async def broadcast(lab: ServerLab) -> None:
    """An event with an ack id may go to many sockets; each answers by itself."""
    peers = [await lab.member() for _ in range(3)]
    room = peers[0].sid
    for peer in peers:
        await peer.emit("join", room)
        await peer.echo("joined")
    await peers[0].emit("ask-room", room)
    for number, peer in enumerate(peers):
        question = await peer.event()
        expect_equal((question.name, question.ack is not None), ("question", True), "question")
        await peer.send(f"43{question.ack}[{number}]")
    event = await peers[0].event()
    expect_equal((event.name, sorted(event.args[0])), ("answers", [0, 1, 2]), "what the server got")


@CASES.case("ack/none-comes", "SIO-ACK-6", needs=["call"])
async def none_comes(lab: ServerLab) -> None:
    """A server waits for an ack for its timeout (100 ms in the fixture) and no longer."""
    peer = await lab.member()
    await peer.emit("ask-me-briefly")
    await peer.event()
    start = trio.current_time()
    event = await peer.event(within=0.2 + 2 * lab.patience)
    expect_equal(event.name, "no-answer", "what the server told")
    expect(trio.current_time() - start > 0.05, "the server did not wait")


@CASES.case("ack/late-is-ignored", "SIO-ACK-3", "SIO-ACK-6", needs=["call"])
async def late(lab: ServerLab) -> None:
    """An ACK after the timeout is ignored."""
    peer = await lab.member()
    await peer.emit("ask-me-briefly")
    question = await peer.event()
    expect_equal((await peer.event()).name, "no-answer", "what the server told")
    await peer.send(f"43{question.ack}[1]")
    await peer.echo("unharmed")


@CASES.case("ack/wait-ends-with-socket", "SIO-ACK-6", needs=["call", "broadcast"])
async def ends_with_socket(lab: ServerLab) -> None:
    """The wait ends when the socket ends."""
    watcher = await lab.watcher()
    peer = await lab.member()
    await peer.emit("ask-me-tell-all", peer.sid)
    await peer.event()
    await peer.close()
    with trio.move_on_after(2 * lab.patience) as scope:
        while True:
            event = await watcher.event()
            if event.name == "shouted" and event.args == [f"{peer.sid} gone"]:
                break
    expect(not scope.cancelled_caught, "the wait went on after the socket had ended")


@CASES.case("ack/bound", "SIO-ACK-7", needs=["bounded", "call"])
async def bound(lab: ServerLab) -> None:
    """A server has at most outstanding_acks unanswered ids at one client (4 in the fixture)."""
    lab.use("bounded")
    peer = await lab.member()
    for number in range(5):
        await peer.emit("ask-me-beside", number)
    events = [await peer.event() for _ in range(5)]
    names = sorted(event.name for event in events)
    expect_equal(names, ["question"] * 4 + ["too-many"], "what came")
