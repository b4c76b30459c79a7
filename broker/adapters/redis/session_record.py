"""A session as the value of a Redis key, in the form of the streams adapter of Node with more beside it."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from broker.adapters.recovery_store import StoredSession
from protocol import DisconnectReason
from protocol.bus.streams import KeptSession, read_session, write_session
from protocol.recovery import START, Offset, Stay, parse_offset


@frozen
class SessionRecord:
    """What a key held.

    Attributes:
        session: The session.
        node: Id of the node that held it; empty if a Node server wrote it, which does so at the end alone.
        is_live: Whether its client was connected.
    """

    session: StoredSession
    node: str
    is_live: bool


def write_record(session: StoredSession, node: str) -> bytes:
    """Write a session that this node holds.

    Raises:
        TypeError: Something in its data or claims has no form on the bus.
    """
    stays = [
        [room, str(stay.since), None if stay.until is None else str(stay.until)]
        for room, visits in session.stays.items()
        for stay in visits
    ]
    more = {
        "nsp": session.namespace,
        "start": str(session.start),
        "floor": str(session.floor),
        "stays": stays,
        "identity": session.identity,
        "claims": None if session.claims is None else dict(session.claims),
        "expires": session.expires_at,
        "lost": None if session.lost is None else session.lost.value,
    }
    rooms, data = tuple(session.rooms), dict(session.data)
    return write_session(KeptSession(session.id, session.pid, rooms, data, more, node))


def read_record(value: bytes, namespace: str, depth: int) -> SessionRecord | None:
    """Read the value of a key for a client of this namespace; None if it is none for it."""
    kept = read_session(value, depth)
    if kept is None:
        return None
    if kept.more is None:
        return SessionRecord(_foreign(kept, namespace), "", False)
    try:
        session = _read_more(kept, kept.more)
    except (KeyError, TypeError, ValueError):
        return None
    if session.namespace != namespace or not kept.node:
        return None
    return SessionRecord(session, kept.node, session.lost is None)


def _foreign(kept: KeptSession, namespace: str) -> StoredSession:
    """Return a session that a Node server left: in its rooms from the beginning, as that server has it."""
    stays = {room: [Stay(room, START)] for room in kept.rooms}
    return StoredSession(
        pid=kept.pid,
        id=kept.sid,
        namespace=namespace,
        stays=stays,
        data=kept.data,
        lost=DisconnectReason.TRANSPORT_CLOSE,
    )


def _read_more(kept: KeptSession, more: dict[str, Any]) -> StoredSession:
    stays: dict[str, list[Stay]] = {}
    for room, since, until in more["stays"]:
        stay = Stay(str(room), _offset(since), None if until is None else _offset(until))
        stays.setdefault(stay.room, []).append(stay)
    lost, claims, expires = more["lost"], more["claims"], more["expires"]
    return StoredSession(
        pid=kept.pid,
        id=kept.sid,
        namespace=more["nsp"],
        start=_offset(more["start"]),
        stays=stays,
        ended=sum(stay.until is not None for visits in stays.values() for stay in visits),
        floor=_offset(more["floor"]),
        data=kept.data,
        identity=None if more["identity"] is None else str(more["identity"]),
        claims=None if claims is None else dict(claims),
        expires_at=None if expires is None else float(expires),
        lost=None if lost is None else DisconnectReason(lost),
    )


def _offset(text: Any) -> Offset:
    offset = parse_offset(text)
    if offset is None:
        raise ValueError("no offset")
    return offset
