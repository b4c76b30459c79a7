"""The Engine.IO tables, pair by pair, and that each state has a way to its end."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from itertools import product

import pytest

from protocol.engineio.packet import PacketType
from protocol.engineio.transitions import (
    PACKETS,
    SESSION,
    UPGRADE,
    PacketAction,
    ProbeAction,
    ProbeInput,
    ProbeState,
    SessionInput,
    SessionState,
)

S, I = SessionState, SessionInput  # noqa: E741 - they head the columns of a table

# Pairs that no input of a peer can bring about: only a mistake of the program, so they have no row.
IMPOSSIBLE = {
    (S.OPEN, I.UPGRADE),
    (S.OPEN, I.PROBE_FAILED),
    (S.UPGRADING, I.PROBE),
    (S.CLOSING, I.PROBE),
    (S.CLOSING, I.UPGRADE),
    (S.CLOSED, I.PROBE),
    (S.CLOSED, I.UPGRADE),
}


def reachable(start: Hashable, edges: Iterable[tuple[Hashable, Hashable]]) -> set[Hashable]:
    edges = list(edges)
    seen = {start}
    while new := {target for source, target in edges if source in seen} - seen:
        seen |= new
    return seen


@pytest.mark.parametrize(("state", "given"), list(product(S, I)))
def test_every_pair_of_the_session_table(state: S, given: I) -> None:
    if (state, given) in IMPOSSIBLE:
        assert (state, given) not in SESSION
        return
    after = SESSION[state, given]
    if given is I.ENDED or state is S.CLOSED:
        assert after is S.CLOSED
    elif given is I.CLOSE or state is S.CLOSING:
        assert after is S.CLOSING
    else:
        assert after is (S.UPGRADING if given is I.PROBE else S.OPEN)


@pytest.mark.parametrize("state", S)
def test_every_session_can_end(state: S) -> None:
    assert S.CLOSED in reachable(state, ((source, target) for (source, _), target in SESSION.items()))


@pytest.mark.parametrize(("state", "kind"), list(product(S, PacketType)))
def test_every_packet_in_every_state(state: S, kind: PacketType) -> None:
    live = {
        PacketType.CLOSE: PacketAction.PEER_CLOSED,
        PacketType.PING: PacketAction.WRONG_HEARTBEAT,
        PacketType.PONG: PacketAction.HEARTBEAT,
        PacketType.MESSAGE: PacketAction.DELIVER,
    }
    expected = live.get(kind, PacketAction.IGNORE) if state in (S.OPEN, S.UPGRADING) else PacketAction.IGNORE
    assert PACKETS[state][kind] is expected


@pytest.mark.parametrize(("state", "given"), list(product(ProbeState, ProbeInput)))
def test_every_pair_of_the_upgrade_table(state: ProbeState, given: ProbeInput) -> None:
    if state in (ProbeState.SWITCHED, ProbeState.FAILED):
        assert (state, given) not in UPGRADE
        return
    after, action = UPGRADE[state, given]
    if given is ProbeInput.PING_PROBE:
        assert (after, action) == (ProbeState.PROBED, ProbeAction.SEND_PONG_PROBE)
    elif given is ProbeInput.UPGRADE and state is ProbeState.PROBED:
        assert (after, action) == (ProbeState.SWITCHED, ProbeAction.SWITCH)
    else:
        assert (after, action) == (ProbeState.FAILED, ProbeAction.CLOSE_PROBE)


@pytest.mark.parametrize("state", [ProbeState.AWAITING_PROBE, ProbeState.PROBED])
def test_every_probe_can_end_both_ways(state: ProbeState) -> None:
    ends = reachable(state, ((source, target) for (source, _), (target, _) in UPGRADE.items()))
    assert {ProbeState.SWITCHED, ProbeState.FAILED} <= ends
