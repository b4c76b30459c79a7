"""Find out what the fixture of a server offers, and how quick the way to it is."""

from __future__ import annotations

import trio

from .cases import Deviation, Late
from .lab import ServerLab, open_lab
from .target import Fixture, Target, parse_url
from .transcript import Transcript

LEAST_PATIENCE, MOST_PATIENCE = 0.15, 0.3
ECHOES = 5


async def discover(target: Target, patience: float | None = None) -> Fixture:
    """Speak to a server once, measure its echo, and ask for the optional parts of its fixture.

    Raises:
        Deviation: An echo does not work.
        OSError: Nobody listens there.
    """
    fixture = Fixture(target)
    try:
        async with open_lab(fixture, Transcript()) as lab:
            await _measure(lab, fixture)
    except BaseExceptionGroup as group:
        raise _first(group) from None
    if patience is not None:
        fixture.patience = patience
    return fixture


async def _measure(lab: ServerLab, fixture: Fixture) -> None:
    peer = await lab.session()
    fixture.ping_interval = peer.open_packet["pingInterval"] / 1000
    fixture.ping_timeout = peer.open_packet["pingTimeout"] / 1000
    fixture.max_payload = peer.open_packet["maxPayload"]
    await peer.join()
    slowest = 0.0
    for number in range(ECHOES):
        start = trio.current_time()
        await peer.echo(number)
        slowest = max(slowest, trio.current_time() - start)
    # More would be beyond the ping timeout: then the fixture ends the sessions of cases that wait.
    fixture.patience = min(max(LEAST_PATIENCE, 10 * slowest), MOST_PATIENCE)
    await peer.emit("conformance", ack=1)
    try:
        answer = await peer.event(within=0.5)
    except Late:
        return
    offered = answer.data[0]
    fixture.transports = tuple(offered.get("transports", fixture.transports))
    fixture.elsewhere = offered.get("elsewhere", {})
    fixture.parts = set(offered.get("parts", ()))
    for name, url in offered.get("also", {}).items():
        fixture.also[name] = parse_url(url, lab.target.tls)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, (OSError, Deviation)):
        return error
    return Deviation(f"the fixture does not answer as documented: {type(error).__name__}: {error}")
