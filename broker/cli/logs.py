"""Write log records as aligned text for people, or as JSON lines for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO


class TextFormatter(logging.Formatter):
    """Write time, level and logger in columns, then the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d  %(levelname)-7s  %(name)-16s  %(message)s", "%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """Write one JSON object a line: time (UTC, ISO 8601), level, logger, message, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)  # ASCII: a file name may hold what UTF-8 cannot


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send the records of all loggers to `stream` (stderr), in the place of what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
