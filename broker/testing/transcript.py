"""What went over the wire and when: recorded, shown, saved, loaded and compared."""

from __future__ import annotations

import difflib
import hashlib
import re
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import orjson
import trio
from attrs import frozen

DEFAULT_LIMIT = 20_000

RECEIVED, SENT, STATE, CLOSED = "<", ">", "=", "x"
"""The marks: what the server received, what it sent, a change of state such as a fault, an end."""

_IDS = re.compile(r'("sid":"|"pid":"|[?&]sid=)([A-Za-z0-9_-]{20,})')


@frozen
class Entry:
    """One line of a transcript.

    Attributes:
        time: Seconds since the transcript began, on Trio's clock.
        connection: The connection, such as `#1`; empty for the network as a whole.
        mark: One of `<`, `>`, `=` and `x`, as the server sees it.
        kind: What it is, see `broker.testing.wire.Unit`; `state` and `close` for the others.
        text: What is shown.
        payload: The bytes that a replay needs.
    """

    time: float
    connection: str
    mark: str
    kind: str
    text: str
    payload: bytes = b""

    def __str__(self) -> str:
        return f"{self.time:12.3f} {self.connection:>5} {self.mark} {self.text}"


class Transcript:
    """The lines of one run, the newest up to a limit.

    Args:
        limit: How many lines are kept.

    Attributes:
        total: How many lines there were.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.entries: deque[Entry] = deque(maxlen=limit)
        self.total = 0
        self._start: float | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._names = Pseudonyms()
        self._digest = hashlib.sha256()

    def record(self, connection: str, mark: str, kind: str, text: str, payload: bytes = b"") -> None:
        """Add a line with the time of now."""
        now = trio.current_time()
        if self._start is None:
            self._start = now
        entry = Entry(round(now - self._start, 6), connection, mark, kind, text, payload)
        self.entries.append(entry)
        self.total += 1
        self._digest.update(self._names.hide(str(entry)).encode())
        if self._changed:
            self._changed.unpark_all()

    @property
    def digest(self) -> str:
        """A digest of all lines, kept or not, in which ids have been numbered; in hexadecimal."""
        return self._digest.hexdigest()

    async def wait_entry(self) -> None:
        """Wait for the next line."""
        await self._changed.park()

    def pretty(self) -> str:
        """Return the lines, each with its time, connection and mark."""
        lines = [str(entry) for entry in self.entries]
        if self.total > len(lines):
            lines.insert(0, f"({self.total - len(lines)} older lines were not kept)")
        return "\n".join(lines)

    def save(self, path: str | Path) -> None:
        """Write it to a file, a JSON object a line; see `load`."""
        rows = [
            {
                "time": entry.time,
                "connection": entry.connection,
                "mark": entry.mark,
                "kind": entry.kind,
                "text": entry.text,
                "payload": b64encode(entry.payload).decode(),
            }
            for entry in self.entries
        ]
        Path(path).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    @classmethod
    def load(cls, path: str | Path) -> Transcript:
        """Read a transcript that `save` has written.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no transcript; the message has the line's number.
        """
        entries = []
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            try:
                row = orjson.loads(line)
                row["payload"] = b64decode(row["payload"])
                entries.append(Entry(**row))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path}, line {number}: no line of a transcript ({error})") from None
        return cls.of(entries)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Transcript:
        """Return a transcript of these lines."""
        rows = list(entries)
        transcript = cls(max(len(rows), 1))
        transcript.entries.extend(rows)
        transcript.total = len(rows)
        for entry in rows:
            transcript._digest.update(transcript._names.hide(str(entry)).encode())
        return transcript

    def by_connection(self) -> dict[str, list[str]]:
        """Return what each connection carried, without times; connections and ids are numbered."""
        names = Pseudonyms()
        numbers: dict[str, str] = {}
        found: dict[str, list[str]] = {}
        for entry in self.entries:
            if entry.mark in {RECEIVED, SENT} and entry.connection:
                number = numbers.setdefault(entry.connection, f"#{len(numbers) + 1}")
                found.setdefault(number, []).append(f"{entry.mark} {names.hide(entry.text)}")
        return found

    def differences(self, other: Transcript) -> list[str]:
        """Return the lines of a diff between what the connections carried; none if it was the same."""
        mine, theirs = (
            [f"{name} {line}" for name, lines in one.by_connection().items() for line in lines]
            for one in (self, other)
        )
        return list(difflib.unified_diff(mine, theirs, "expected", "found", lineterm=""))


class Pseudonyms:
    """Numbers ids in the order in which they appear, so that two runs can be compared."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def hide(self, text: str) -> str:
        """Return the text with its ids replaced."""
        if "sid" not in text:
            return text
        return _IDS.sub(self._replace, text)

    def _replace(self, found: re.Match[str]) -> str:
        name = self._known.setdefault(found[2], f"id-{len(self._known) + 1}")
        return found[1] + name


def ids_in(text: str) -> list[str]:
    """Return the ids in a line, in order."""
    return [found[2] for found in _IDS.finditer(text)]
