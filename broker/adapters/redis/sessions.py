"""Sessions in Redis, written ahead, so that another node can take them over when this one has died."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from broker.adapters.base import BusHost
from broker.adapters.errors import BusError
from broker.adapters.recovery_store import Expired, StoredEvent, StoredSession
from broker.flow.scopes import cleanup_window
from protocol.bus.cluster import MessageType
from protocol.bus.streams import node_mark, read_entry
from protocol.recovery import START, Offset, RecoveryRefusal, is_addressed, parse_offset

from .client import RedisClient
from .session_record import SessionRecord, read_record, write_record
from .stream_reader import oldest_entry

logger = logging.getLogger(__name__)

FAR: Final = Offset(10**15 - 1, 10**15 - 1)  # behind all that a stream can number
_KEY: Final = "sio:session:"  # as the streams adapter of Node has it
_DELAY: Final = 0.02  # seconds in which changes of one session are joined
_PAGE: Final = 1_000  # entries read at once
_PAGES: Final = 100  # as many as the reference reads
_RETRY: Final = 1.0  # seconds
# Unless another node has written it since.
_IF_OURS: Final = (
    "local v=redis.call('GET',KEYS[1]) if v and string.sub(v,1,#ARGV[1])~=ARGV[1] then return 0 end "
)
_SET: Final = _IF_OURS + "redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1"
_DELETE: Final = _IF_OURS + "return redis.call('DEL',KEYS[1])"

Alive = Callable[[str, str], Awaitable[bool]]
CatchUp = Callable[[Offset], Awaitable[None]]


class RedisSessions:
    """A `SessionStore` in Redis, with the events in a stream.

    A key lives for one and a half windows, and is renewed each half: after a death it is there for a window.

    Args:
        uid: The id of this node.
        host: The broker's side.
        client: The connection.
        stream: The stream of the events.
        window: Seconds for which a lost session is kept.
        max_sessions: How many lost sessions this node watches over; of more, nobody is told how they end.

    Attributes:
        is_alive: Tells whether a node, by id, is in the cluster; with the name of the namespace.
        catch_up: Waits until the log of this node has come so far.
    """

    def __init__(
        self, uid: str, host: BusHost, client: RedisClient, stream: str, window: float, max_sessions: int
    ) -> None:
        self._uid = uid
        self._host = host
        self._client = client
        self._stream = stream
        self._window = window
        self._max_sessions = max_sessions
        self._life = int(window * 1500)  # milliseconds
        self._held: dict[str, StoredSession] = {}
        self._lost: OrderedDict[str, StoredSession] = OrderedDict()
        self._gone: OrderedDict[str, RecoveryRefusal] = OrderedDict()
        self._changed: dict[str, StoredSession] = {}
        # Taken from elsewhere and not written yet: what that node writes meanwhile is to be overwritten.
        self._taken: set[str] = set()
        self._mark = node_mark(uid)
        self._wake = trio.Event()
        self._in_doubt = True
        self._on_expired: Expired = lambda session, why: None
        self.is_alive: Alive
        self.catch_up: CatchUp

    async def run(
        self, on_expired: Expired, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what has changed, renew keys and end lost sessions, until cancelled; the keys stay then."""
        self._on_expired = on_expired
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_on)
            nursery.start_soon(self._renew)
            nursery.start_soon(self._expire)
            task_status.started()
            await trio.sleep_forever()

    # Writing ahead

    def save(self, session: StoredSession) -> None:
        """Note that a session has changed; see `SessionStore.save`."""
        self._lost.pop(session.pid, None)
        self._held[session.pid] = session
        if self._in_doubt:
            session.floor = FAR
        self._note(session)

    def _note(self, session: StoredSession) -> None:
        self._changed[session.pid] = session
        self._wake.set()

    def lose(self, session: StoredSession) -> None:
        """Keep a session a window from now; written at once, since the server may be ending."""
        self._held.pop(session.pid, None)
        session.due = trio.current_time() + self._window
        self._lost[session.pid] = session
        self._lost.move_to_end(session.pid)
        if self._in_doubt:
            session.floor = FAR
        self._write(session)
        if len(self._lost) > self._max_sessions:
            self._lost.popitem(last=False)

    def forget(self, session: StoredSession) -> None:
        """Drop a session without a word."""
        self._held.pop(session.pid, None)
        self._lost.pop(session.pid, None)
        self._changed.pop(session.pid, None)
        # If there is no room for this, it ends by itself.
        self._delete(session.pid)

    def _write(self, session: StoredSession) -> bool:
        """Write a session; False if there is no room, then it still counts as changed."""
        sent = self._send(session)
        if sent:
            self._changed.pop(session.pid, None)
        else:
            self._note(session)
        return sent

    def _send(self, session: StoredSession) -> bool:
        try:
            value = write_record(session, self._uid)
        except TypeError:
            # Better no session than one with other data than it had.
            self._host.events["unsendable data"] += 1
            return self._delete(session.pid)
        key = _KEY + session.pid
        if session.pid not in self._taken:
            return self._client.send("EVAL", _SET, 1, key, self._mark, value, self._life)
        sent = self._client.send("SET", key, value, "PX", self._life)
        if sent:
            self._taken.discard(session.pid)
        return sent

    def _delete(self, pid: str) -> bool:
        if pid in self._taken:
            self._taken.discard(pid)
            return self._client.send("DEL", _KEY + pid)
        return self._client.send("EVAL", _DELETE, 1, _KEY + pid, self._mark)

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            await trio.sleep(_DELAY)
            self._wake = trio.Event()
            for session in list(self._changed.values()):
                self._write(session)

    async def _renew(self) -> None:
        while True:
            await trio.sleep(self._window / 2)
            for pid in list(self._held):
                self._client.send("PEXPIRE", _KEY + pid, self._life)

    # Times in which it is not known who has seen what

    def doubt(self) -> None:
        """Recover no session that is here now, until `trust`; they are known to be in doubt in Redis, too."""
        self._in_doubt = True
        for session in self._held.values():
            session.floor = FAR
            self._note(session)
        for session in self._lost.values():
            # An event that waits for its client may never arrive in the stream.
            session.floor = FAR
            self._write(session)

    def trust(self, offset: Offset) -> None:
        """Recover sessions again whose clients have seen an event behind this position."""
        self._in_doubt = False
        for session in self._held.values():
            if session.floor == FAR:
                session.floor = offset
                self._note(session)

    # The end of the window

    async def _expire(self) -> None:
        while True:
            first = next(iter(self._lost.values()), None)
            now = trio.current_time()
            if first is None or first.due is None or first.due > now:
                await trio.sleep(min(1.0, self._window / 4))
                continue
            await self._end(first)

    async def _end(self, session: StoredSession) -> None:
        """End a session, unless another node has taken it."""
        due = session.due
        try:
            was_ours = await self._client.ask("EVAL", _DELETE, 1, _KEY + session.pid, self._mark)
        except BusError:
            await trio.sleep(_RETRY)
            # Later the key has ended by itself.
            if due is None or trio.current_time() < due + self._window / 2:
                return
            was_ours = 1
        if self._lost.get(session.pid) is not session or session.due != due:
            return
        self._lost.pop(session.pid, None)
        self._changed.pop(session.pid, None)
        if not was_ours:
            return
        self._gone[session.pid] = RecoveryRefusal.EXPIRED
        if len(self._gone) > self._max_sessions:
            self._gone.popitem(last=False)
        self._on_expired(session, RecoveryRefusal.EXPIRED)

    # Coming back

    async def claim(self, namespace: str, pid: str) -> StoredSession | RecoveryRefusal:
        """Take a session; see `SessionStore.claim`."""
        if self._in_doubt:
            await trio.lowlevel.checkpoint()
            return RecoveryRefusal.UNKNOWN
        session: StoredSession | None = None
        complete = False
        try:
            session = await self._take(namespace, pid)
            if session is None:
                return self._gone.get(pid, RecoveryRefusal.UNKNOWN)
            newest = await self._client.ask("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
            if newest:
                await self.catch_up(_read_offset(newest[0][0]))
            complete = True
            return session
        except BusError as error:
            logger.info("a session cannot be taken over: %s", error)
            return RecoveryRefusal.UNKNOWN
        finally:
            if session is not None and not complete:
                self.lose(session)

    async def _take(self, namespace: str, pid: str) -> StoredSession | None:
        waiting = self._changed.get(pid)
        if waiting is not None and not self._write(waiting):
            return None
        key = _KEY + pid
        seen = self._read(await self._client.ask("GET", key), namespace)
        if seen is None or (seen.is_live and await self._is_held(seen, namespace)):
            return None
        # Not to be left half done: the key may be gone already.
        with cleanup_window(self._host.limits.close_timeout):
            taken = self._read(await self._client.ask("GETDEL", key), namespace)
            own = self._lost.pop(pid, None)
            if taken is None:
                return None
            if taken.node == self._uid:
                return own or taken.session
            self._taken.add(pid)
            return taken.session
        return None

    def _read(self, value: Any, namespace: str) -> SessionRecord | None:
        return None if value is None else read_record(bytes(value), namespace, self._host.depth)

    async def _is_held(self, record: SessionRecord, namespace: str) -> bool:
        """Tell whether a node that is there has the client, for all that it knows."""
        return record.node == self._uid or await self.is_alive(namespace, record.node)

    async def backfill(
        self, session: StoredSession, after: Offset, until: Offset
    ) -> Sequence[StoredEvent] | None:
        """Return events from the stream; see `SessionStore.backfill`."""
        try:
            return await self._read_stream(session, after, until)
        except BusError:
            return None

    async def _read_stream(
        self, session: StoredSession, after: Offset, until: Offset
    ) -> Sequence[StoredEvent] | None:
        events: list[StoredEvent] = []
        last = after
        for _ in range(_PAGES):
            page = await self._client.ask(
                "XRANGE", self._stream, f"({last}", str(until), "COUNT", _PAGE, messages=_PAGE
            )  # fmt: skip
            for entry_id, fields in page:
                last = _read_offset(entry_id)
                event = self._event(last, fields, session)
                if event is not None:
                    events.append(event)
            if len(page) < _PAGE or len(events) > self._host.limits.outbox_messages:
                break
        else:
            return None
        if len(events) > self._host.limits.outbox_messages:
            return None
        # Looked at last: meanwhile it may have been trimmed.
        oldest = await oldest_entry(self._client, self._stream)
        return events if oldest is not None and _read_offset(oldest) <= after else None

    def _event(self, offset: Offset, fields: Sequence[bytes], session: StoredSession) -> StoredEvent | None:
        """Read an event; None if it is none, or not for the session: of those there may be very many."""
        message = read_entry(fields, self._host.depth)
        if message is None or message.namespace != session.namespace or message.options.volatile:
            return None
        if message.type is not MessageType.BROADCAST or message.request_id is not None:
            return None
        rooms, excepted = message.options.rooms, message.options.except_rooms
        if not is_addressed(offset, rooms, excepted, session.stays):
            return None
        return StoredEvent(offset, message.event, rooms, excepted)


def _read_offset(entry_id: bytes) -> Offset:
    return parse_offset(entry_id.decode()) or START
