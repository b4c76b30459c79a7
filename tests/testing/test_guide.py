"""The testing guide: each of its programs runs as it stands there, in a project of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from broker.testing.control import FAULTS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/testing.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, re.DOTALL)
# An installation brings the plugin as an entry point; a bare checkout does not.
CONFTEST = """
from importlib.metadata import entry_points

_PLUGIN = "broker.testing.plugin"
pytest_plugins = [] if any(one.value == _PLUGIN for one in entry_points(group="pytest11")) else [_PLUGIN]
"""


def test_every_program_of_the_guide_runs(tmp_path):
    assert len(BLOCKS) == GUIDE.count("```python")
    for name, program in BLOCKS:
        (tmp_path / name).write_text(program)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    tests = sum(len(re.findall(r"^async def test_", program, re.MULTILINE)) for _, program in BLOCKS)
    steps = 5 - 1  # one of them is run for each step of the upgrade
    assert f"{tests + steps} passed" in done.stdout, done.stdout + done.stderr


def test_the_guide_names_every_fault():
    table = GUIDE.partition("| fault |")[2].partition("Nothing is reordered")[0]
    assert {name for name in FAULTS if not re.search(rf"\b{name}\b", table)} == set()
