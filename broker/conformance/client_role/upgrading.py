"""Situations of the upgrade, aborted at each of its steps."""

from __future__ import annotations

import trio

from broker.conformance.cases import Deviation, expect

from .judging import SITUATIONS
from .lab import ClientLab


@SITUATIONS.case("upgrade/whole/upgrade", "EIO-UPG-2", "EIO-UPG-3", "EIO-UPG-6", "EIO-UPG-7")
async def whole(lab: ClientLab) -> None:
    """The client probes, stops polling, and goes on over the WebSocket."""
    session = await lab.member()
    await session.echo("over websocket")
    gets = len(session.gets)
    await trio.sleep(0.3)
    expect(len(session.gets) == gets, "a GET after the upgrade")
    session.check()


@SITUATIONS.case("upgrade/not-offered/upgrade", "EIO-HS-11")
async def not_offered(lab: ClientLab) -> None:
    """A client does not try a transport that is not listed."""
    session = await lab.session(upgrades=[])
    await session.join()
    await session.echo("x")
    with trio.move_on_after(0.5):
        await session.probed.wait()
        raise Deviation("the client tried a WebSocket that was not offered")


@SITUATIONS.case("upgrade/traffic-meanwhile/upgrade", "EIO-UPG-5", "EIO-UPG-14", "FLOW-4")
async def meanwhile(lab: ClientLab) -> None:
    """Events that come during the upgrade are answered in order."""
    session = await lab.session()
    await session.join()
    for number in range(20):
        await session.send(f'42["message",{number}]')
        await trio.sleep(0.01)
    found = [(await session.event()).args[0] for _ in range(20)]
    expect(found == list(range(20)), f"order of the echoes: {found}")
    session.check()


def _add_failure(how: str, title: str) -> None:
    @SITUATIONS.case(f"upgrade/{how}/upgrade", "EIO-UPG-9")
    async def failure(lab: ClientLab) -> None:
        session = await lab.session(probe=how)
        await session.join()
        with trio.move_on_after(4):
            await session.probed.wait()
        expect(session.probed.is_set(), "the client did not try to upgrade")
        await trio.sleep(0.2)
        await session.echo("still on polling")
        await session.echo("twice")

    case = SITUATIONS.cases[f"upgrade/{how}/upgrade"]
    object.__setattr__(case, "title", title)


_add_failure("refuse", "A WebSocket that is refused leaves the client on polling.")
_add_failure("drop", "One whose connection is dropped leaves it on polling.")
_add_failure("hang", "One that is never answered leaves it on polling.")
_add_failure("garble", "One that answers the probe with something else leaves it on polling.")
