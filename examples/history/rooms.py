"""Rooms with a memory: who joins late reads what was said, who loses the connection misses nothing.

Run it, and connect with two terminals:

    python examples/history/rooms.py
    python -m broker connect http://127.0.0.1:3000 --call enter '"tea"' null
"""

from __future__ import annotations

from typing import Any

import trio

from broker import Broker, ExpiredSession, History, Recovery, Socket

broker = Broker(recovery=Recovery(window=60.0), history=History(count=200, age=86_400.0))


@broker.on("enter")
def enter(socket: Socket, room: str, since: str | None) -> dict[str, Any]:
    """Put the caller into a room and return what was said there behind a position it knows, or all of it.

    Nothing is awaited between the two, and the ack goes out before anything that is said from now on: there
    is no gap and no repetition.
    """
    socket.join(room)
    past = broker.history(room, since=since)
    said = [{"at": one.position, "event": one.event, "args": one.args} for one in past.events]
    return {"said": said, "position": past.position, "complete": past.complete}


@broker.on("say")
def say(socket: Socket, room: str, text: str) -> None:
    """Tell everyone in a room; each gets the position as the last argument."""
    broker.to(room).emit("said", room, text)


@broker.on("connect")
def connect(socket: Socket) -> None:
    """Greet those who are new: who was recovered has its rooms, its data and all that it missed."""
    if not socket.recovered:
        socket.emit("welcome", {"missed": socket.recovery_refused})


@broker.on_session_expired
def expired(session: ExpiredSession) -> None:
    """Tidy up after those who did not come back."""
    for room in session.rooms - {session.id}:
        broker.to(room).emit("gone", session.id)


if __name__ == "__main__":
    trio.run(broker.serve, "127.0.0.1", 3000)
