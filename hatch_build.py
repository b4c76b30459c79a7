"""Puts the browser bundle into the wheel; a build without npm or network goes on without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FetchClientHook(BuildHookInterface[Any]):
    """Runs tools/fetch_client.py before the files of the wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the bundle; on failure say so and let the build go on."""
        script = Path(self.root) / "tools" / "fetch_client.py"
        done = subprocess.run(  # noqa: S603 - our own script
            [sys.executable, str(script)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = done.stderr.strip() or f"tools/fetch_client.py exited {done.returncode}"
            self.app.display_warning(f"the wheel has no browser bundle: {reason}")
