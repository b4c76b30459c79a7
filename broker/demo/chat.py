"""The events of the chat: what a page may ask, and who hears of it.

A page asks `join` first and gets all that it has to draw, then asks `message`, `typing`, `switch`
and `private`. Everybody hears `people` when somebody comes, goes or switches; a room hears
`message`, `typing`, `joined` and `left`; one person hears `private`.

The annotations of the handlers are checked by the broker, so what arrives has the right types; what
it may say is checked in `hall`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker import AckTimeout, Broker, Disconnected, DisconnectReason, EventError, Socket
from broker.demo.hall import Hall, Line, Person

EVERYONE = "everyone"
PRIVATE_TIMEOUT = 5.0  # a page answers at once; a phone that fell asleep does not


def create_broker(**options: Any) -> Broker:
    """Make a broker that runs the chat.

    Args:
        **options: Settings of the broker, for example ``cors_allowed_origins``.
    """
    broker = Broker(**options)
    Chat(broker)
    return broker


def announce(broker: Broker, text: str) -> None:
    """Show everyone in the chat of `broker` a line that nobody said."""
    broker.to(EVERYONE).emit("note", text, _now())


class Chat:
    """One chat on the default namespace of one broker; its state lives and dies with it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._hall = Hall()
        broker.on("join")(self.join)
        broker.on("message")(self.message)
        broker.on("typing")(self.typing)
        broker.on("switch")(self.switch)
        # Waits for the other page's ack: several at once, so that one slow friend delays no other.
        broker.on("private", concurrency=8)(self.private)
        broker.on("disconnect")(self.disconnect)

    async def join(self, socket: Socket, name: str, seat: str, room: str) -> dict[str, Any]:
        """Let a newcomer in, or give a page that lost its connection its place back.

        `seat` is a secret that the page made up: with it the name can be taken over while the
        broken connection still holds it.
        """
        person, previous = self._hall.enter(socket, name, seat, room)
        if previous is not None:
            previous.disconnect(close=True)
        socket.join(EVERYONE)
        self._enter_room(person, announce=previous is None)
        return {"name": person.name, **self._view(person)}

    async def switch(self, socket: Socket, room: str) -> dict[str, Any]:
        """Move to another room, which comes into being if it is not there yet."""
        person = self._hall.person(socket)
        before = self._hall.move(person, room)
        if before != person.room:
            self._leave_room(person, before)
            self._enter_room(person)
        return self._view(person)

    async def message(self, socket: Socket, room: str, text: str, key: str) -> Line:
        """Say something to the room, and answer with the line as all others see it.

        `key` names the message: a page that heard no answer sends it again with the same key, and
        nobody reads it twice.
        """
        person = self._hall.person(socket)
        line, is_new = self._hall.say(person, room, text, key, _now())
        if is_new:
            socket.to(_channel(person.room)).emit("message", line)
        return line

    async def typing(self, socket: Socket, active: bool) -> None:
        """Tell the room that somebody is writing; volatile, since it is stale in a moment."""
        person = self._hall.person(socket)
        socket.to(_channel(person.room)).volatile.emit("typing", person.name, active)

    async def private(self, socket: Socket, to: str, text: str, key: str) -> dict[str, str]:
        """Hand a message to one person, and answer when their page has it."""
        person = self._hall.person(socket)
        other, line = self._hall.whisper(person, to, text, key, _now())
        try:
            await other.socket.call("private", line, timeout=PRIVATE_TIMEOUT)
        except Disconnected:
            raise EventError("offline", f"{other.name} just went offline") from None
        except AckTimeout:
            raise EventError("no_answer", f"{other.name}'s page does not answer") from None
        return {"status": "delivered", "at": line["at"]}

    async def disconnect(self, socket: Socket, reason: DisconnectReason) -> None:
        """Tell the room who left; rooms of the socket are already left by then."""
        person = self._hall.leave(socket)
        if person is not None:
            self._leave_room(person, person.room)
            self._broker.to(EVERYONE).emit("people", self._hall.people())

    def _enter_room(self, person: Person, *, announce: bool = True) -> None:
        channel = _channel(person.room)
        person.socket.join(channel)
        if announce:
            person.socket.to(channel).emit("joined", person.name, _now())
        self._broker.to(EVERYONE).emit("people", self._hall.people())

    def _leave_room(self, person: Person, room: str) -> None:
        channel = _channel(room)
        person.socket.leave(channel)
        self._broker.to(channel).emit("left", person.name, _now())

    def _view(self, person: Person) -> dict[str, Any]:
        history = self._hall.history(person.room)
        return {"room": person.room, "history": history, "people": self._hall.people()}


def _channel(room: str) -> str:
    """Keep people's room names apart from ours and from socket ids, which are rooms too."""
    return f"room:{room}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
