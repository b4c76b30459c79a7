"""The namespace table, pair by pair."""

from __future__ import annotations

from itertools import product

import pytest

from protocol import DisconnectReason, Violation
from protocol.socketio.packet import PacketType
from protocol.socketio.transitions import NAMESPACE, NamespaceAction, NamespaceState

S, A, T, V = NamespaceState, NamespaceAction, PacketType, Violation

EXPECTED: dict[S, dict[T, A | V]] = {
    S.ABSENT: {T.CONNECT: A.CONNECT},
    S.CONNECTING: {T.CONNECT: V.ALREADY_CONNECTED, T.DISCONNECT: A.LEAVE},
    S.CONNECTED: {
        T.CONNECT: V.ALREADY_CONNECTED,
        T.DISCONNECT: A.LEAVE,
        T.EVENT: A.DELIVER_EVENT,
        T.ACK: A.DELIVER_ACK,
    },
    S.LEFT: {T.CONNECT: A.CONNECT, T.DISCONNECT: A.IGNORE, T.EVENT: A.IGNORE, T.ACK: A.IGNORE},
}
# The decoder gives EVENT and ACK for their binary forms.
DECODED = [T.CONNECT, T.DISCONNECT, T.EVENT, T.ACK, T.CONNECT_ERROR]


@pytest.mark.parametrize(("state", "kind"), list(product(S, DECODED)))
def test_every_pair(state: S, kind: T) -> None:
    otherwise = V.CLIENT_CONNECT_ERROR if kind is T.CONNECT_ERROR else V.NOT_CONNECTED
    assert NAMESPACE[state, kind] is EXPECTED[state].get(kind, otherwise)


def test_no_further_rows() -> None:
    assert set(NAMESPACE) == set(product(S, DECODED))


@pytest.mark.parametrize("outcome", [value for value in NAMESPACE.values() if isinstance(value, V)])
def test_invalid_state_is_a_forced_server_close(outcome: V) -> None:
    assert outcome.reason is DisconnectReason.FORCED_SERVER_CLOSE


@pytest.mark.parametrize("state", S)
def test_every_state_can_be_left(state: S) -> None:
    actions = {NAMESPACE[state, kind] for kind in DECODED}
    assert actions & {A.LEAVE, A.CONNECT}
    assert any(isinstance(action, V) for action in actions)
