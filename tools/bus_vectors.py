"""Write the vectors of the bus from a capture of what JavaScript nodes have sent.

    python tools/bus_vectors.py CAPTURE.jsonl

A line of the capture is a message with `case`, `adapter`, `kind` (publish, spublish, xadd, key), `channel`,
`hex`, `fields` (of an entry) and `decoded`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "protocol" / "vectors" / "bus"


def form_of(line: dict[str, Any]) -> str | None:
    """Return which form a message has; None if it is not one of a node."""
    kind, adapter, channel = line["kind"], line["adapter"], line["channel"]
    if kind == "key":
        return "session"
    if kind == "xadd":
        return "entry"
    if adapter.startswith("streams") and kind in ("publish", "spublish"):
        return "packed"
    if kind == "spublish":
        return "sharded"
    if adapter != "classic" or kind != "publish":
        return None
    for word in ("request", "response"):
        if f"-{word}#" in channel:
            return word
    return "broadcast"


def plain(value: Any) -> Any:
    """Return a value in the form of the vectors: bytes and dates as objects with one key."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$bin"}:
        return {"$hex": value["$bin"]}
    return {key: plain(item) for key, item in value.items()}


def body_of(line: dict[str, Any], form: str) -> Any:
    """Return what stands in the channel, entry or key: hexadecimal, or the fields of an entry."""
    return line["fields"] if form == "entry" else line["hex"]


def meaning_of(line: dict[str, Any], form: str) -> Any:
    """Return what a message says."""
    decoded = line["decoded"]
    if form == "entry":
        decoded = decoded.get("data_decoded")
    if isinstance(decoded, dict) and decoded.keys() == {"$base64msgpack"}:
        decoded = decoded["$base64msgpack"]
    return plain(decoded)


def main(path: str) -> None:
    """Read a capture and write the files."""
    vectors: dict[str, dict[str, dict[str, Any]]] = {}
    seen: set[str] = set()
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        form = form_of(line)
        if form is None or "malformed" in line["case"]:
            continue
        body = body_of(line, form)
        key = json.dumps([form, body])
        if key in seen:
            continue
        seen.add(key)
        name = re.sub(r"[^a-z0-9]+", "-", line["case"].lower()).strip("-")
        number = 1
        while f"{name}-{number}" in vectors.setdefault(form, {}):
            number += 1
        vector = {"from": line["adapter"], "channel": line["channel"], "body": body}
        vectors[form][f"{name}-{number}"] = {**vector, "means": meaning_of(line, form)}
    for form, found in vectors.items():
        rows = [
            json.dumps({"id": f"{form}/{name}", **vector}, ensure_ascii=False)
            for name, vector in found.items()
        ]
        body = ",\n    ".join(rows)
        (TARGET / f"{form}.json").write_text(
            f'{{\n  "form": "{form}",\n  "vectors": [\n    {body}\n  ]\n}}\n'
        )


if __name__ == "__main__":
    main(sys.argv[1])
