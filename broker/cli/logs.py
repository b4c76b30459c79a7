"""Write log records as aligned text for people, or as JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO


class TextFormatter(logging.Formatter):
    """Write time, level, the worker if there are several, and logger in columns, then the message."""

    def __init__(self, worker: int | None = None) -> None:
        number = "" if worker is None else f"worker {worker:<2}  "
        super().__init__(
            f"%(asctime)s.%(msecs)03d  %(levelname)-7s  {number}%(name)-16s  %(message)s", "%H:%M:%S"
        )


class JsonFormatter(logging.Formatter):
    """Write one JSON object a line: time (UTC, ISO 8601), level, logger, worker, message, error."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            fields["worker"] = self._worker
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)  # ASCII: a file name may hold what UTF-8 cannot


def configure(level: str, log_format: str, stream: TextIO | None = None, worker: int | None = None) -> None:
    """Send the records of all loggers to a stream, in the place of what was configured before.

    Args:
        level: The lowest level that is written.
        log_format: `text` or `json`.
        stream: Where to; None takes stderr.
        worker: The number of this process, if it is one of several.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(worker) if log_format == "json" else TextFormatter(worker))
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
