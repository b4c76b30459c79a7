"""What `connect` prints: lines for people, coloured on a terminal, or JSON lines for scripts."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from datetime import datetime
from typing import Any, TextIO

_COLOURS = {"event": 36, "ack": 32, "connect": 32, "disconnect": 33, "error": 31, "time": 90, "name": 1}
_SIGNS = {"event": "<-", "ack": "=="}
_NARROW = 88
# A server must not be able to steer the terminal. JSON escapes the first 32 itself.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Screen:
    """Prints one line, or a few, for each thing that happens.

    Args:
        stream: Where to.
        json_lines: Whether to print one JSON object a line.
        colour: Whether to colour.
    """

    def __init__(self, stream: TextIO, json_lines: bool, colour: bool) -> None:
        self._stream = stream
        self._json = json_lines
        self._colour = colour

    def show(self, kind: str, namespace: str, text: str = "", values: Any = None, **more: Any) -> None:
        """Print what happened.

        Args:
            kind: `event`, `ack`, `connect`, `disconnect` or `error`.
            namespace: Where.
            text: The event's name, or a sentence.
            values: What came along; None if nothing can.
            more: Further fields of the JSON line; for people those with a text are appended.
        """
        now = datetime.now().astimezone()
        if self._json:
            fields = {"time": now.isoformat(timespec="milliseconds"), "type": kind, "namespace": namespace}
            known = {"text": text or None, "values": values, **more}
            fields.update((name, value) for name, value in known.items() if value is not None)
            self._write(json.dumps(fields, default=_printable))
            return
        time = self._paint("time", f"{now:%H:%M:%S}.{now.microsecond // 1000:03}")
        sign = self._paint(kind, _SIGNS.get(kind, "--"))
        place = "" if namespace == "/" else _safe(namespace) + " "
        label = f"{place}{_safe(text)}" if kind in _SIGNS else f"{place}{kind} {_safe(text)}".rstrip()
        extra = "".join(f"  {_safe(str(value))}" for value in more.values() if value)
        body = "" if values is None else "  " + _pretty(values)
        self._write(f"{time} {sign} {self._paint('name' if kind in _SIGNS else kind, label)}{extra}{body}")

    def _paint(self, what: str, text: str) -> str:
        return f"\x1b[{_COLOURS[what]}m{text}\x1b[0m" if self._colour else text

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


def _safe(text: str) -> str:
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _pretty(values: Any) -> str:
    parts = [json.dumps(value, ensure_ascii=False, default=_printable) for value in values]
    if sum(map(len, parts)) > _NARROW:
        parts = [json.dumps(value, ensure_ascii=False, default=_printable, indent=2) for value in values]
    # Surrogates cannot come in: the codec refuses them. Line breaks here are the indentation's own.
    return "\n".join(_safe(line) for line in "  ".join(parts).split("\n"))


def _printable(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    return str(value)
