"""Cases for section 20: error answers."""

from __future__ import annotations

import trio

from broker.conformance.cases import expect, expect_equal
from broker.conformance.lab import ServerLab

from .catalogue import CASES

MEANT = {"error": {"code": "not_found", "message": "no such job"}}


@CASES.case("answer/as-ack", "SIO-ANS-2", "SIO-ANS-1", needs=["fail"])
async def as_ack(lab: ServerLab) -> None:
    """If the event asked for an ack, the error answer is that ack."""
    peer = await lab.member()
    expect_equal(await peer.call("fail", ack=5), [MEANT], "arguments of the ack")


@CASES.case("answer/as-event", "SIO-ANS-3", "SIO-ANS-1", needs=["fail"])
async def as_event(lab: ServerLab) -> None:
    """If not, it is an event named `error`."""
    peer = await lab.member()
    await peer.emit("fail")
    event = await peer.event()
    expect_equal((event.name, event.args, event.ack), ("error", [MEANT], None), "error answer")


@CASES.case("answer/with-data", "SIO-ANS-1", needs=["fail"])
async def with_data(lab: ServerLab) -> None:
    """`data` is any JSON value."""
    peer = await lab.member()
    answer = await peer.call("fail-with-data", ack=6)
    expect_equal(answer[0]["error"].get("data"), {"retry": [1, None]}, "data of the error answer")
    expect_equal(list(answer[0]), ["error"], "keys of the error answer")


def _add_internal(name: str, ack: int | None) -> None:
    @CASES.case(f"answer/internal/{name}", "SIO-ANS-4", needs=["fail"])
    async def internal(lab: ServerLab) -> None:
        """A failure that was not meant for the client is `internal` and shows nothing of its text."""
        peer = await lab.member()
        await peer.emit("fail-internally", ack=ack)
        text = await peer.text()
        expect('"code":"internal"' in text, f"expected the code internal, got {text!r}")
        expect("sentinel" not in text, f"the text of the failure is shown: {text!r}")


_add_internal("as-ack", 8)
_add_internal("as-event", None)


@CASES.case("answer/session-goes-on", "SIO-ANS-1", "SIO-ERR-5", needs=["fail"])
async def goes_on(lab: ServerLab) -> None:
    """The session goes on after a failure."""
    peer = await lab.member()
    await peer.call("fail", ack=5)
    await peer.call("fail-internally", ack=5)
    await peer.echo("unharmed")


@CASES.case("answer/cancelled", "SIO-ANS-5", "SIO-DIS-4", needs=["slow-echo"])
async def cancelled(lab: ServerLab) -> None:
    """A handler that is cancelled because its socket ends answers nothing."""
    peer = await lab.member()
    await peer.join("/custom")
    await peer.emit("slow-echo", 100, ack=4)
    await peer.emit("message", "order", namespace="/custom")
    await peer.event()
    await peer.send("41")
    await peer.silent(0.1 + lab.patience)


@CASES.case("answer/off", "SIO-ANS-6", needs=["strict", "fail"])
async def off(lab: ServerLab) -> None:
    """With error answers switched off nothing is answered."""
    lab.use("strict")
    peer = await lab.member()
    await peer.emit("fail", ack=5)
    await peer.emit("fail")
    await peer.silent(0.1)
    await peer.echo("unharmed")


@CASES.case("answer/error-object-is-not-special", "SIO-ANS-6")
async def not_special(lab: ServerLab) -> None:
    """An argument of this form is not otherwise special."""
    peer = await lab.member()
    await peer.echo({"error": {"code": "x", "message": "y"}})
    await trio.lowlevel.checkpoint()
