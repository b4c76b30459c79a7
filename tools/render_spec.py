"""Render the tables and state diagrams of SPEC.md from the tables in `protocol/`.

The list of its clauses goes to broker/conformance/clauses.json.
Each block stands between `<!-- begin:NAME -->` and `<!-- end:NAME -->`; the text around is left alone.

    python tools/render_spec.py            rewrite SPEC.md in place
    python tools/render_spec.py --check    change nothing, exit 1 if SPEC.md is out of date
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from protocol import limits, reasons  # noqa: E402 - the path is set above
from protocol.engineio import packet as engine_packet  # noqa: E402 - the path is set above
from protocol.engineio import transitions as engine  # noqa: E402 - the path is set above
from protocol.socketio import packet as socket_packet  # noqa: E402 - the path is set above
from protocol.socketio import transitions as namespace  # noqa: E402 - the path is set above

SPEC = ROOT / "SPEC.md"
CLAUSES = ROOT / "broker" / "conformance" / "clauses.json"

# The tables in `protocol/` say which row it is; these say which clauses raise it.
REFUSAL_CLAUSES: dict[reasons.Refusal, str] = {
    reasons.Refusal.TRANSPORT_UNKNOWN: "EIO-HS-2",
    reasons.Refusal.SESSION_UNKNOWN: "EIO-HS-6, EIO-CLOSE-6",
    reasons.Refusal.BAD_HANDSHAKE_METHOD: "EIO-HS-8, EIO-ORIGIN-6",
    reasons.Refusal.BAD_REQUEST: "EIO-HS-1, EIO-HS-3, EIO-HS-4, EIO-HS-5, EIO-HS-7, EIO-POLL-12, EIO-UPG-8",
    reasons.Refusal.FORBIDDEN: "EIO-HS-15",
    reasons.Refusal.UNSUPPORTED_PROTOCOL: "EIO-HS-9",
    reasons.Refusal.ORIGIN_NOT_ALLOWED: "EIO-ORIGIN-3",
    reasons.Refusal.PAYLOAD_TOO_LARGE: "EIO-POLL-11",
    reasons.Refusal.METHOD_NOT_ALLOWED: "EIO-POLL-15",
    reasons.Refusal.OVERLAPPING_REQUEST: "EIO-POLL-7, EIO-POLL-13",
    reasons.Refusal.PARSE_FAILED: "EIO-POLL-10",
    reasons.Refusal.REQUEST_TIMEOUT: "EIO-POLL-14, LIM-2, LIM-3",
    reasons.Refusal.HEAD_TOO_LARGE: "LIM-2",
    reasons.Refusal.OVERLOADED: "EIO-HS-16",
    reasons.Refusal.DRAINING: "EIO-HS-16, DRAIN-1",
    reasons.Refusal.BAD_HTTP: "EIO-HTTP-5, WS-1",
    reasons.Refusal.ADDRESS_OVERLOADED: "EIO-HS-16",
    reasons.Refusal.WEBSOCKET_VERSION: "WS-1",
    reasons.Refusal.SESSION_ELSEWHERE: "EIO-SID-5",
    reasons.Refusal.OWNER_SILENT: "EIO-SID-5",
}

# Moves of a namespace that no packet of the client makes, and where its packets lead to.
SERVER_MOVES: tuple[tuple[str, str, str], ...] = (
    ("CONNECTING", "CONNECTED", "server accepts"),
    ("CONNECTING", "ABSENT", "server refuses"),
    ("CONNECTED", "LEFT", "server disconnects"),
)
NEXT_NAMESPACE_STATE: dict[namespace.NamespaceAction, str | None] = {
    namespace.NamespaceAction.CONNECT: "CONNECTING",
    namespace.NamespaceAction.LEAVE: "ABSENT",
    namespace.NamespaceAction.DELIVER_EVENT: None,
    namespace.NamespaceAction.DELIVER_ACK: None,
    namespace.NamespaceAction.IGNORE: None,
}

Arrow = tuple[str, str, str]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def state_diagram(states: Iterable[Enum], first: str, last: Iterable[str], arrows: Iterable[Arrow]) -> str:
    """Lay out a mermaid state diagram; arrows between the same two states become one."""
    joined: dict[tuple[str, str], list[str]] = {}
    for start, end, label in arrows:
        joined.setdefault((start, end), []).append(label)
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {state.name}' for state in states]
    lines.append(f"    [*] --> {first}")
    lines += [f"    {start} --> {end}: {', '.join(labels)}" for (start, end), labels in joined.items()]
    lines += [f"    {name} --> [*]" for name in last]
    return "\n".join([*lines, "```"])


def render_session() -> str:
    """The life of a session."""
    arrows = [(start.name, end.name, cause.value) for (start, cause), end in engine.SESSION.items()]
    return state_diagram(engine.SessionState, "OPEN", ["CLOSED"], arrows)


def render_session_packets() -> str:
    """What a session does with each packet."""
    states = list(engine.SessionState)
    rows = [
        [f"`{int(kind)}` {kind.name}", *(engine.PACKETS[state][kind].value for state in states)]
        for kind in engine_packet.PacketType
    ]
    return table(["packet of the client", *(state.value for state in states)], rows)


def render_upgrade() -> str:
    """The life of a probe."""
    arrows = [
        (start.name, end.name, f"{cause.value} / {action.value}")
        for (start, cause), (end, action) in engine.UPGRADE.items()
    ]
    return state_diagram(engine.ProbeState, "AWAITING_PROBE", ["SWITCHED", "FAILED"], arrows)


def render_namespace() -> str:
    """The life of a client in a namespace."""
    arrows: list[Arrow] = []
    for (state, kind), outcome in namespace.NAMESPACE.items():
        if isinstance(outcome, reasons.Violation):
            arrows.append((state.name, "SESSION_CLOSED", kind.name))
        else:
            end = NEXT_NAMESPACE_STATE[outcome] or state.name
            arrows.append((state.name, end, f"{kind.name} / {outcome.value}"))
    arrows += SERVER_MOVES
    diagram = state_diagram(namespace.NamespaceState, "ABSENT", ["SESSION_CLOSED"], arrows)
    extra = '    state "session closed" as SESSION_CLOSED\n    [*] -->'
    return diagram.replace("    [*] -->", extra, 1)


def render_namespace_packets() -> str:
    """What a server does with each Socket.IO packet."""
    states = list(namespace.NamespaceState)
    kinds = [kind for kind in socket_packet.PacketType if (states[0], kind) in namespace.NAMESPACE]

    def cell(state: namespace.NamespaceState, kind: socket_packet.PacketType) -> str:
        outcome = namespace.NAMESPACE[state, kind]
        return f"`{outcome.name}`" if isinstance(outcome, reasons.Violation) else outcome.value

    rows = [[f"`{int(kind)}` {kind.name}", *(cell(state, kind) for state in states)] for kind in kinds]
    return table(["packet of the client", *(state.value for state in states)], rows)


def render_refusals() -> str:
    """The table of refusals."""
    header = ["code", "name", "status", "message", "clauses"]
    rows = [
        [row.code, f"`{row.name}`", row.status, row.message, REFUSAL_CLAUSES[row]] for row in reasons.Refusal
    ]
    return table(header, rows)


def render_violations() -> str:
    """The table of violations."""
    header = ["code", "word", "text", "disconnect reason", "close code"]
    rows = [
        [row.code, f"`{row.name}`", row.text, f"`{row.reason.value}`", int(row.close_code)]
        for row in reasons.Violation
    ]
    return table(header, rows)


def render_reasons() -> str:
    """The table of disconnect reasons of the server."""
    header = ["code", "name", "text", "close code", "a stock client comes back"]
    rows = [
        [row.code, f"`{row.name}`", f"`{row.value}`", int(row.close_code), "yes" if row.retryable else "no"]
        for row in reasons.DisconnectReason
    ]
    return table(header, rows)


def render_limits() -> str:
    """The table of limits, with the comments of their definition."""
    rows: list[list[object]] = []
    group = ""
    for line in inspect.getsource(limits.Limits).splitlines():
        heading = re.fullmatch(r"    # (.+)", line)
        field = re.fullmatch(r"    (\w+): (int|float) = (\S+)(?:  # (.+))?", line)
        if heading:
            group = heading[1].rstrip(".")
        elif field:
            name, _, default, note = field.groups()
            rows.append([f"`{name}`", default.replace("_", " "), limit_unit(name), group, note or ""])
    return table(["limit", "default", "unit", "kind", "note"], rows)


def limit_unit(name: str) -> str:
    """Tell the unit of a limit by the last word of its name."""
    units = {
        "bytes": "bytes",
        "timeout": "s",
        "time": "s",
        "depth": "levels",
        "digits": "digits",
        "rate": "packets/s",
    }
    return units.get(name.rpartition("_")[2], "")


def render_close_reasons() -> str:
    """The grammar of close reasons, whose words are those of the two tables."""
    lines = ["```abnf"]
    for rule, texts in (
        ("violation-text", [row.text for row in reasons.Violation]),
        ("reason-text", [row.value for row in reasons.DisconnectReason]),
    ):
        lines.append(f'{rule:<16} = %s"{texts[0]}"')
        lines += [f'{"":<16} / %s"{text}"' for text in texts[1:]]
    return "\n".join([*lines, "```"])


BLOCKS: dict[str, Callable[[], str]] = {
    "refusals": render_refusals,
    "violations": render_violations,
    "reasons": render_reasons,
    "limits": render_limits,
    "session": render_session,
    "session-packets": render_session_packets,
    "upgrade": render_upgrade,
    "namespace": render_namespace,
    "namespace-packets": render_namespace_packets,
    "close-reasons": render_close_reasons,
}


def render(text: str) -> str:
    """Return SPEC.md with every block rendered anew.

    Raises:
        ValueError: A block is missing, or stands there more than once.
    """
    for name, build in BLOCKS.items():
        begin, end = f"<!-- begin:{name} -->", f"<!-- end:{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the markers of {name} must stand exactly once")
        head, rest = text.split(begin)
        tail = rest.split(end)[1]
        text = f"{head}{begin}\n{build()}\n{end}{tail}"
    return text


def list_clauses(text: str) -> str:
    """Write the clauses of SPEC.md as the JSON that the conformance kit shows in its reports."""
    rows: list[dict[str, str]] = []
    section = ""
    for piece in re.split(r"\n\n+", text):
        heading = re.match(r"## (?:\d+\. )?(.+)", piece)
        clause = re.match(r"\*\*([A-Z-]+-\d+)\*\* \((.+?)\)\. (.*)", piece, re.DOTALL)
        if heading:
            section = heading[1]
        elif clause:
            rows.append(
                {"id": clause[1], "title": clause[2], "section": section, "text": " ".join(clause[3].split())}
            )
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check SPEC.md; return the exit status."""
    parser = argparse.ArgumentParser(description="Render the tables and diagrams of SPEC.md.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if out of date")
    options = parser.parse_args(arguments)
    text = SPEC.read_text(encoding="utf-8")
    rendered = render(text)
    clauses = list_clauses(rendered)
    old = CLAUSES.read_text(encoding="utf-8") if CLAUSES.exists() else ""
    if rendered == text and clauses == old:
        return 0
    if options.check:
        sys.stderr.write("SPEC.md or clauses.json is out of date: run python tools/render_spec.py\n")
        return 1
    SPEC.write_text(rendered, encoding="utf-8")
    CLAUSES.write_text(clauses, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
