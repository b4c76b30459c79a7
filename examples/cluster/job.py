"""A job that holds no clients tells those of the cluster something: `job.py ROOM TEXT`."""

from __future__ import annotations

import os
import sys

from broker import Emitter


def main(room: str, text: str) -> None:
    """Send a line to a room."""
    with Emitter(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")) as emitter:
        emitter.to(room).emit("said", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
