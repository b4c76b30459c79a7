"""The wheel: installed into an empty environment, it serves the demo from outside the checkout."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import urllib.request
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 60.0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it without the checkout; return the interpreter that has it."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(directory),
        str(ROOT),
    ]
    # build runs pip and the backend by itself: what they print shows only when they fail.
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = directory.glob("*.whl")

    environment = directory / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    interpreter = environment / "bin" / "python"
    site = next((environment / "lib").glob("python*")) / "site-packages"
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", "--no-deps"]
    subprocess.run(
        [*install, "--no-index", "--disable-pip-version-check", str(wheel)], check=True, capture_output=True
    )
    # The dependencies, and only they: the path of an editable install of ours stands in a .pth file of that
    # directory, and such files count in a site directory alone, not in one that a .pth file adds.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def isolated(python: Path, *arguments: str) -> list[str]:
    return [str(python), "-P", "-W", "error::ResourceWarning", *arguments]


def environ() -> dict[str, str]:
    dropped = ("PYTHONPATH", "COVERAGE_PROCESS_START")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def test_both_packages_come_from_the_wheel(python, tmp_path):
    code = "import broker, protocol; print(broker.__file__, protocol.__file__)"
    command = isolated(python, "-c", code)
    run = subprocess.run(command, cwd=tmp_path, env=environ(), capture_output=True, text=True, check=True)
    assert str(ROOT) + "/" not in run.stdout
    assert run.stdout.count("environment") == 2


def test_both_packages_are_marked_as_typed(python):
    site = next((python.parent.parent / "lib").glob("python*")) / "site-packages"
    assert (site / "broker" / "py.typed").exists()
    assert (site / "protocol" / "py.typed").exists()
    assert not (site / "tests").exists()


def test_the_demo_serves_its_page_and_ends_cleanly(python, tmp_path):
    command = isolated(python, "-m", "broker", "demo", "--port", "0")
    with subprocess.Popen(command, cwd=tmp_path, env=environ(), stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(START_TIMEOUT, process.kill)
        watchdog.start()
        try:
            url = _announced(process)
            with urllib.request.urlopen(url, timeout=START_TIMEOUT) as response:
                assert response.status == 200
                assert "text/html" in response.headers["Content-Type"]
                assert b"socket.io" in response.read()
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=START_TIMEOUT)
        finally:
            watchdog.cancel()
            process.kill()
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def _announced(process: subprocess.Popen[str]) -> str:
    """Read the log up to the line that names the address."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"listening on (http://\S+)", line):
            return found[1]
    raise AssertionError("the demo ended before it listened:\n" + "".join(lines))
