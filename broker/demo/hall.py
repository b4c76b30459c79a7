"""Who is in which room and what was said there: plain state with limits, no input or output."""

from __future__ import annotations

import hmac
import unicodedata
from collections import deque
from typing import TypedDict

import attrs

from broker import EventError, Socket

FIRST_ROOM = "Lobby"
MAX_PEOPLE = 200
MAX_ROOMS = 24
MAX_HISTORY = 50
MAX_SENT_KEYS = 1000
MAX_NAME_LENGTH = 24
MAX_TEXT_LENGTH = 1000
MAX_KEY_LENGTH = 64


class Line(TypedDict):
    """One thing said, as it goes over the wire."""

    id: int
    key: str
    name: str
    text: str
    at: str


@attrs.define(eq=False)
class Person:
    """Somebody who joined, and the socket that speaks for them."""

    name: str
    seat: str
    room: str
    socket: Socket


class Hall:
    """The rooms and the people of one chat.

    Every method checks what it is given and raises `EventError` with a code that a page can rely
    on: ``bad_name name_taken chat_full already_joined not_joined bad_room rooms_full wrong_room
    bad_text bad_key to_yourself offline``.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, deque[Line]] = {FIRST_ROOM: deque(maxlen=MAX_HISTORY)}
        self._by_name: dict[str, Person] = {}
        self._by_socket: dict[str, Person] = {}
        self._sent: dict[tuple[str, str], Line] = {}  # (seat, key), oldest first
        self._last_id = 0

    def enter(self, socket: Socket, name: str, seat: str, room: str) -> tuple[Person, Socket | None]:
        """Give `socket` the name; a seat that proves it also returns the socket that had it."""
        if socket.id in self._by_socket:
            raise EventError("already_joined", "This connection has joined already")
        name, seat = _label(name, "bad_name", "Your name"), _key(seat)
        holder = self._by_name.get(_fold(name))
        if holder is not None and not hmac.compare_digest(holder.seat.encode(), seat.encode()):
            raise EventError("name_taken", f"Somebody called {holder.name} is here already")
        if holder is None and len(self._by_name) >= MAX_PEOPLE:
            raise EventError("chat_full", "The chat is full, try again later")
        room = self._open(room)
        if holder is not None:
            del self._by_socket[holder.socket.id]
        person = Person(name, seat, room, socket)
        self._by_name[_fold(name)] = self._by_socket[socket.id] = person
        return person, holder.socket if holder is not None else None

    def leave(self, socket: Socket) -> Person | None:
        """Forget the person of `socket`; None if it never joined or its place was taken over."""
        person = self._by_socket.pop(socket.id, None)
        if person is not None:
            del self._by_name[_fold(person.name)]
        return person

    def person(self, socket: Socket) -> Person:
        """Return who speaks through `socket`."""
        person = self._by_socket.get(socket.id)
        if person is None:
            raise EventError("not_joined", "Join first")
        return person

    def move(self, person: Person, room: str) -> str:
        """Put `person` into `room` and return the room they were in."""
        before, person.room = person.room, self._open(room)
        return before

    def say(self, person: Person, room: str, text: str, key: str, at: str) -> tuple[Line, bool]:
        """Keep a line in the room's history; False if `key` says that it is there already."""
        sent = (person.seat, _key(key))
        if sent in self._sent:
            return self._sent[sent], False
        if room != person.room:
            raise EventError("wrong_room", "You are in another room now")
        line = self._line(person, text, sent[1], at)
        self._rooms[person.room].append(line)
        self._sent[sent] = line
        if len(self._sent) > MAX_SENT_KEYS:
            del self._sent[next(iter(self._sent))]
        return line, True

    def whisper(self, person: Person, to: str, text: str, key: str, at: str) -> tuple[Person, Line]:
        """Find the person called `to` and make a line for them; private lines are not kept."""
        name = _label(to, "bad_name", "The name")
        line = self._line(person, text, _key(key), at)
        other = self._by_name.get(_fold(name))
        if other is None:
            raise EventError("offline", f"{name} is not online")
        if other is person:
            raise EventError("to_yourself", "That is you")
        return other, line

    def history(self, room: str) -> list[Line]:
        """Return what was said last in `room`, oldest first."""
        return list(self._rooms[room])

    def people(self) -> dict[str, list[str]]:
        """Return the names in each room, both in order of arrival."""
        rooms: dict[str, list[str]] = {room: [] for room in self._rooms}
        for person in self._by_name.values():
            rooms[person.room].append(person.name)
        return rooms

    def _line(self, person: Person, text: str, key: str, at: str) -> Line:
        if not 1 <= len(text.strip()) <= MAX_TEXT_LENGTH:
            raise EventError("bad_text", f"A message has 1 to {MAX_TEXT_LENGTH} characters")
        self._last_id += 1
        return Line(id=self._last_id, key=key, name=person.name, text=text.strip(), at=at)

    def _open(self, room: str) -> str:
        """Return the room's name as first written, and make the room if need be."""
        name = _label(room, "bad_room", "A room's name")
        known = next((other for other in self._rooms if _fold(other) == _fold(name)), None)
        if known is not None:
            return known
        if len(self._rooms) >= MAX_ROOMS:
            self._close_an_empty_room()
        self._rooms[name] = deque(maxlen=MAX_HISTORY)
        return name

    def _close_an_empty_room(self) -> None:
        for room, names in self.people().items():
            if not names and room != FIRST_ROOM:
                del self._rooms[room]
                return
        raise EventError("rooms_full", f"There are {MAX_ROOMS} rooms already, all in use")


def _label(value: str, code: str, what: str) -> str:
    """Check a name of a person or a room: short, and nothing in it that does not show."""
    label = " ".join(value.split())
    if not 1 <= len(label) <= MAX_NAME_LENGTH or not label.isprintable():
        raise EventError(code, f"{what} has 1 to {MAX_NAME_LENGTH} visible characters")
    return label


def _key(value: str) -> str:
    if not 1 <= len(value) <= MAX_KEY_LENGTH:
        raise EventError("bad_key", f"A key has 1 to {MAX_KEY_LENGTH} characters")
    return value


def _fold(label: str) -> str:
    """Make spellings equal that look alike: 'Ada', 'ADA' and full-width letters are one name."""
    return unicodedata.normalize("NFKC", label).casefold()
