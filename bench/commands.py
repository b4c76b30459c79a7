"""What a measuring process says to one that it has started: JSON on its standard input, a line each."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import trio


async def each_command(obey: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Carry out the commands of this process and answer each, until its input ends."""
    lines = b""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for data in stream:
            lines += data
            while b"\n" in lines:
                line, lines = lines.split(b"\n", 1)
                answer(await obey(json.loads(line)))


def answer(values: dict[str, Any]) -> None:
    """Say something to the measuring process, on the standard output."""
    print(json.dumps(values), flush=True)
