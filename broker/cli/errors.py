"""Carry what went wrong with a command to the one place that prints it."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2


class CommandError(Exception):
    """End a command with sentences for a person and an exit code, without a traceback."""

    def __init__(self, *lines: str, exit_code: int = EXIT_USAGE) -> None:
        self.lines = lines
        self.exit_code = exit_code
        super().__init__("; ".join(lines))
