"""Cases for EIO-SID-5: the servers `node` and `neighbour` of the fixture share their sessions."""

from __future__ import annotations

from broker.conformance.cases import expect_equal
from broker.conformance.http import Response
from broker.conformance.lab import ServerLab

from .catalogue import CASES

SERVERS = ["node", "neighbour"]


def _expect_elsewhere(response: Response) -> None:
    expect_equal((response.status, response.code), (421, 112), "status and code, as it is not passed on")


def _add(owner: str, asked: str) -> None:
    @CASES.case(f"sharing/polling-at-{asked}", "EIO-SID-5", "EIO-ERR-5", needs=SERVERS)
    async def polling(lab: ServerLab) -> None:
        """A POST to the other server is passed on, or refused with code 112, which harms nothing."""
        lab.use(owner)
        peer = await lab.polling_member()
        lab.use(asked)
        answer = await peer.post('42["message","across"]')
        if answer.status == 200:
            expect_equal((await peer.event()).args, ["across"], "echo by way of the other server")
            return
        _expect_elsewhere(answer)
        lab.use(owner)
        await peer.echo("unharmed")

    @CASES.case(f"sharing/upgrade-at-{asked}", "EIO-SID-5", "EIO-UPG-9", needs=SERVERS)
    async def upgrade(lab: ServerLab) -> None:
        """So is an upgrade."""
        lab.use(owner)
        peer = await lab.polling_member()
        lab.use(asked)
        probe = await lab.probe(peer.sid)
        if probe.answered.status != 101:
            _expect_elsewhere(probe.answered)
            lab.use(owner)
            await peer.echo("unharmed")
            return
        await probe.send("2probe")
        await probe.expect("3probe")
        await probe.send("5")
        await probe.echo("across")


_add("neighbour", "node")
_add("node", "neighbour")
