"""Cases for section 14: states and closing."""

from __future__ import annotations

import trio

from broker.conformance.cases import Late, expect, expect_equal
from broker.conformance.frames import CLOSE, TEXT, build
from broker.conformance.lab import ServerLab

from .catalogue import CASES
from .polling_faults import expect_reason


@CASES.case("close/client-polling", "EIO-CLOSE-1")
async def client_polling(lab: ServerLab) -> None:
    """A POST of `1` is answered `ok`, a parked GET with `6`, and the session ends."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    await peer.send("1")
    answer = await lab.answer(parked, "GET", lab.patience)
    expect_equal((answer.status, answer.text), (200, "6"), "answer to the parked GET")
    await peer.expect_gone()


@CASES.case("close/client-polling-reason", "EIO-CLOSE-1", "SIO-REASON-1", needs=["reasons"])
async def client_polling_reason(lab: ServerLab) -> None:
    """The reason is `transport close`."""
    watcher = await lab.member()
    peer = await lab.polling()
    socket_id = await peer.join()
    await peer.send("1")
    await expect_reason(lab, watcher, socket_id, "transport close")


@CASES.case("close/client-text", "EIO-CLOSE-2")
async def client_text(lab: ServerLab) -> None:
    """The text `1` on WebSocket closes it at once."""
    peer = await lab.member()
    await peer.send("1")
    await peer.ended(lab.patience)


@CASES.case("close/client-text-reason", "EIO-CLOSE-2", needs=["reasons"])
async def client_text_reason(lab: ServerLab) -> None:
    """The reason is `transport close`."""
    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await peer.send("1")
    await expect_reason(lab, watcher, socket_id, "transport close")


@CASES.case("close/client-frame-reason", "EIO-CLOSE-2", needs=["reasons"])
async def client_frame_reason(lab: ServerLab) -> None:
    """A close frame is `transport close` too."""
    watcher = await lab.member()
    peer = await lab.session()
    socket_id = await peer.join()
    await peer.raw(build(CLOSE, (1000).to_bytes(2, "big")))
    await expect_reason(lab, watcher, socket_id, "transport close")


@CASES.case("close/server-polling-parked", "EIO-CLOSE-3", "SIO-ERR-3")
async def server_polling_parked(lab: ServerLab) -> None:
    """A parked GET is answered with `1` when the server closes."""
    peer = await lab.polling_member()
    parked = await peer.parked()
    await peer.post("49")
    answer = await lab.answer(parked, "GET", lab.patience)
    expect_equal((answer.status, answer.text.split("\x1e")[-1]), (200, "1"), "answer to the parked GET")
    await peer.expect_gone()


@CASES.case("close/server-polling-not-parked", "EIO-CLOSE-3", "SIO-ERR-3")
async def server_polling_later(lab: ServerLab) -> None:
    """If none is parked, the next GET is answered with what waits and `6`, `1`."""
    peer = await lab.polling_member()
    await peer.post("49")
    answer = await peer.get(lab.patience)
    expect_equal(answer.text.split("\x1e")[-2:], ["6", "1"], "answer to the next GET")
    await peer.expect_gone()


@CASES.case("close/post-while-closing", "EIO-CLOSE-3")
async def post_while_closing(lab: ServerLab) -> None:
    """Until that GET comes, a POST is refused with code 1."""
    peer = await lab.polling_member()
    await peer.post("49")
    await peer.expect_gone()
    answer = await peer.get(lab.patience)
    expect_equal(answer.text.split("\x1e")[-2:], ["6", "1"], "answer to the next GET")


@CASES.case("close/nobody-awaited", "EIO-CLOSE-3", "SIO-ERR-3")
async def nobody_awaited(lab: ServerLab) -> None:
    """After a `transport error`, such as by a PING of the client, no GET is waited for."""
    peer = await lab.polling_member()
    await peer.post("2")
    await trio.sleep(lab.patience)
    answer = await peer.get()
    expect_equal((answer.status, answer.code), (400, 1), "status and code of the next GET")


CLOSE_TIMEOUT = 0.3


@CASES.case("close/timeout-polling", "LIM-7", "EIO-CLOSE-3", needs=["bounded"])
async def timeout_polling(lab: ServerLab) -> None:
    """A session that closes waits for a GET for close_timeout (300 ms in the fixture)."""
    lab.use("bounded")
    peer = await lab.polling_member()
    await peer.post("49")
    await trio.sleep(CLOSE_TIMEOUT + lab.patience)
    answer = await peer.get()
    expect_equal((answer.status, answer.code), (400, 1), "status and code of a GET that comes too late")


@CASES.case("close/timeout-websocket", "LIM-7", "EIO-CLOSE-4", needs=["bounded", "kick"])
async def timeout_websocket(lab: ServerLab) -> None:
    """A WebSocket waits as long for the close frame of the client, and then closes the connection."""
    lab.use("bounded")
    peer = await lab.member()
    peer.answers_close = False
    await peer.emit("kick", True)
    start = trio.current_time()
    with trio.move_on_after(CLOSE_TIMEOUT + 2 * lab.patience) as scope:
        await peer.refused()
    expect_equal(peer.closed and peer.closed.code, 1000, "close code")
    if scope.cancelled_caught:
        raise Late(f"the connection is still there {trio.current_time() - start:.3f} s later")
    waited = trio.current_time() - start
    expect(waited > 0.75 * CLOSE_TIMEOUT, f"the connection was closed after {waited:.3f} s")


@CASES.case("close/server-websocket", "EIO-CLOSE-4", "SIO-DIS-3", needs=["kick"])
async def server_websocket(lab: ServerLab) -> None:
    """On WebSocket what waits is sent, then a close frame, and no `1`."""
    peer = await lab.member()
    await peer.emit("kick", True)
    await peer.expect("41")
    closed = await peer.ended(lab.patience)
    expect(closed.code != 1006, "the connection ended without a close frame")


@CASES.case("close/flush", "EIO-CLOSE-5", needs=["kick", "burst"])
async def flush(lab: ServerLab) -> None:
    """A close by the application sends first what waits."""
    peer = await lab.polling_member()
    await peer.send('42["burst",5]', '42["kick",true]')
    seen: list[str] = []
    with trio.move_on_after(1):
        while not seen or seen[-1] != "1":
            response = await peer.get()
            if response.status != 200:
                break
            seen += response.text.split("\x1e")
    numbers = [text for text in seen if text.startswith('42["number"')]
    expect_equal(numbers, [f'42["number",{number}]' for number in range(5)], "what was sent before the end")


@CASES.case("close/nothing-after", "EIO-CLOSE-6", "EIO-STATE-2", needs=["broadcast"])
async def nothing_after(lab: ServerLab) -> None:
    """Messages behind the one that ended the session are not acted on."""
    watcher = await lab.watcher()
    peer = await lab.member()
    await peer.raw(build(TEXT, b"49") + build(TEXT, b'42["shout","after the end"]'))
    await peer.ended(lab.patience)
    with trio.move_on_after(lab.patience):
        while True:
            event = await watcher.event()
            expect(event.args[:1] != ["after the end"], "a message after the end was acted on")


@CASES.case("close/unknown-afterwards", "EIO-CLOSE-6")
async def unknown_afterwards(lab: ServerLab) -> None:
    """The id of a session that has ended on WebSocket is unknown."""
    peer = await lab.member()
    await peer.close()
    await peer.ended(lab.patience)
    await trio.sleep(0.05)
    response = await lab.http("GET", f"EIO=4&transport=polling&sid={peer.sid}")
    expect_equal((response.status, response.code), (400, 1), "status and code")


@CASES.case("state/upgrading-to-open", "EIO-STATE-1", "EIO-UPG-9")
async def upgrading_to_open(lab: ServerLab) -> None:
    """A session is open again after a failed probe, and upgrading again with the next."""
    peer = await lab.polling_member()
    for _ in range(3):
        probe = await lab.probe(peer.sid)
        probe.answered_101()
        await probe.send("x")
        await probe.ended(lab.patience)
    await peer.echo("open")


@CASES.case("state/closing-ignores", "EIO-STATE-2", "EIO-STATE-1", needs=["broadcast"])
async def closing_ignores(lab: ServerLab) -> None:
    """A session whose end is decided ignores what comes."""
    watcher = await lab.watcher()
    peer = await lab.polling_member()
    await peer.post("49")
    await peer.post('42["shout","while closing"]')
    with trio.move_on_after(lab.patience):
        while True:
            event = await watcher.event()
            expect(event.args[:1] != ["while closing"], "a message to a closing session was acted on")
