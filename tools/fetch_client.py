#!/usr/bin/env python3
"""Fetch the official Socket.IO browser bundle from npm into broker/bundle/.

The broker serves these files under ``/socket.io/socket.io.js`` and its siblings. They are not kept
in the repository: the version and the digest pinned below say which ones are meant, `npm pack`
brings them, and nothing is installed unless the digest matches.

Usage: fetch_client.py [--check]. Exit codes: 0 the bundle is there, 1 ``--check`` found it absent
or of another version, 2 wrong usage, 3 it could not be fetched (one line on stderr says why).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "socket.io-client"
VERSION = "4.8.4"
INTEGRITY = (  # what `npm view socket.io-client@4.8.4 dist.integrity` says
    "sha512-7wjKAvVXYOJsbmUgkWbnhPD4bFpkqrUR0++XOjpGFmqDqsqV1CI93VTraeExLxpjxEqrWgFoSRZu1ihjLWfkAA=="
)
SCRIPTS = ("socket.io.js", "socket.io.min.js", "socket.io.msgpack.min.js", "socket.io.esm.min.js")
FILES = tuple(name for script in SCRIPTS for name in (script, f"{script}.map"))
TARGET = Path(__file__).resolve().parent.parent / "broker" / "bundle"

NPM_TIMEOUT = 120.0
MAX_FILE_BYTES = 8_000_000
EXIT_ABSENT = 1
EXIT_NOT_FETCHED = 3


class FetchError(Exception):
    """Say in one line what is missing and how to get it."""


def is_present(target: Path = TARGET) -> bool:
    """Tell whether `target` holds the pinned version with every one of its files."""
    try:
        version = (target / "VERSION").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return version == VERSION and all((target / name).is_file() for name in FILES)


def fetch(target: Path = TARGET) -> None:
    """Put the pinned bundle into `target`.

    Raises:
        FetchError: npm is absent or failed, or what it brought is not what is pinned.
    """
    target.mkdir(parents=True, exist_ok=True)
    # Beside the final place: os.replace() is atomic within one file system only.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        tarball = _npm_pack(Path(scratch))
        _verify(tarball)
        staged = Path(scratch) / "staged"
        staged.mkdir()
        _extract(tarball, staged)
        _install(staged, target)


def _npm_pack(directory: Path) -> Path:
    wanted = f"{PACKAGE}@{VERSION}"
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(
            f"npm is not on PATH, so the browser bundle {wanted} was not fetched: "
            "install Node.js with npm and run tools/fetch_client.py"
        )
    command = [npm, "pack", wanted, "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=NPM_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(_failed(wanted, str(error))) from error
    if done.returncode != 0:
        raise FetchError(_failed(wanted, _npm_reason(done.stderr)))
    tarballs = list(directory.glob("*.tgz"))
    if len(tarballs) != 1:
        raise FetchError(_failed(wanted, f"it left {len(tarballs)} archives instead of one"))
    return tarballs[0]


def _failed(wanted: str, why: str) -> str:
    one_line = " ".join(why.split())
    return f"npm could not fetch {wanted} ({one_line}): with network access, run tools/fetch_client.py"


def _npm_reason(stderr: str) -> str:
    """Pick npm's error code out of what it printed; the rest is advice and paths."""
    for line in stderr.splitlines():
        words = line.split()
        if "code" in words[:-1]:
            return words[words.index("code") + 1]
    return next((line for line in stderr.splitlines() if line.strip()), "no reason given")


def _verify(tarball: Path) -> None:
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    found = "sha512-" + base64.b64encode(digest).decode("ascii")
    if found != INTEGRITY:
        raise FetchError(
            f"npm brought a {PACKAGE}@{VERSION} with integrity {found}, not the pinned one: "
            "nothing was installed; check the registry that npm is set up to use"
        )


def _extract(tarball: Path, staged: Path) -> None:
    with tarfile.open(tarball, "r:gz") as archive:
        for name in FILES:
            try:
                content = archive.extractfile(f"package/dist/{name}")
            except KeyError:
                content = None
            if content is None:
                raise FetchError(f"{PACKAGE}@{VERSION} holds no dist/{name}: nothing was installed")
            data = content.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise FetchError(f"dist/{name} is over {MAX_FILE_BYTES} bytes: nothing was installed")
            (staged / name).write_bytes(data)


def _install(staged: Path, target: Path) -> None:
    """Move the files into place; VERSION is away meanwhile, so half a bundle never counts."""
    (target / "VERSION").unlink(missing_ok=True)
    for stale in target.glob("socket.io.*"):
        if stale.name not in FILES:
            stale.unlink()
    for name in FILES:
        os.replace(staged / name, target / name)
    (staged / "VERSION").write_text(VERSION, encoding="ascii")
    os.replace(staged / "VERSION", target / "VERSION")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description="Fetch the Socket.IO browser bundle from npm.")
    parser.add_argument("--check", action="store_true", help="only tell whether it is there")
    options = parser.parse_args(arguments)
    if is_present():
        return 0
    if options.check:
        print(f"the browser bundle {VERSION} is absent: run tools/fetch_client.py", file=sys.stderr)
        return EXIT_ABSENT
    try:
        fetch()
    except FetchError as error:
        print(error, file=sys.stderr)
        return EXIT_NOT_FETCHED
    return 0


if __name__ == "__main__":
    sys.exit(main())
