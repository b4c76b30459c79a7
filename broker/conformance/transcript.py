"""Keep what was on the wire of one case, as lines that a person can read."""

from __future__ import annotations

from collections.abc import Callable

import trio

MAX_LINES = 60
MAX_BYTES = 400


def show(data: bytes) -> str:
    """Write bytes as text where they are text; controls and others in hexadecimal."""
    cut = data[:MAX_BYTES]
    text = "".join(
        chr(byte) if 32 <= byte < 127 else {10: "\\n", 13: "\\r"}.get(byte, f"\\x{byte:02x}") for byte in cut
    )
    return text if len(data) <= MAX_BYTES else f"{text}... ({len(data)} bytes)"


class Transcript:
    """The lines of one case, with the time since its start in milliseconds."""

    def __init__(self) -> None:
        self._start = trio.current_time()
        self._connections = 0
        self.lines: list[str] = []
        self._left_out = 0

    def connection(self) -> int:
        """Number a new connection."""
        self._connections += 1
        return self._connections

    def note(self, text: str) -> None:
        """Add a line; those beyond the first `MAX_LINES` are counted."""
        if len(self.lines) >= MAX_LINES:
            self._left_out += 1
            return
        self.lines.append(f"{1000 * (trio.current_time() - self._start):7.1f} ms  {text}")

    def result(self) -> list[str]:
        """Return all lines."""
        return [*self.lines, f"... {self._left_out} more"] if self._left_out else self.lines


class RecordingStream(trio.abc.Stream):
    """A stream that notes what goes through it, and that several tasks may send on, one after another.

    Args:
        stream: The stream.
        transcript: Where to.
        sent: The sign in front of what this side sends: `C>` for a client, `S>` for a server.
        received: The sign in front of what the other side sends.
        rate: Bytes a second that are taken of what the other side sends; None for all that come.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        transcript: Transcript,
        sent: str,
        received: str,
        rate: float | None = None,
    ) -> None:
        self._stream = stream
        self._transcript = transcript
        number = transcript.connection()
        self._sent = f"#{number} {sent}"
        self._received = f"#{number} {received}"
        self._note: Callable[[str], None] = transcript.note
        self._rate = rate
        # A case sends while its peer answers pings, probes and close frames by itself.
        self._sending = trio.Lock()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, after what others are sending."""
        async with self._sending:
            self._note(f"{self._sent} {show(bytes(data))}")
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until sending might not block."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self._note(f"{self._received} (reset)")
            raise
        self._note(f"{self._received} {show(bytes(data)) if data else '(end)'}")
        if self._rate is not None:
            await trio.sleep(len(data) / self._rate)
        return data

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()
