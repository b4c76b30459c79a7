"""Run the kit: `python -m tests.conformance.run ours | peers | clients | mutants`."""

from __future__ import annotations

import argparse
import logging
import ssl
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio
import trustme

from broker.conformance import Deviation, Report, Verdict, judge_server
from broker.conformance.client_role import judge_client
from broker.conformance.reports import Terminal, to_html, to_json, to_junit
from broker.conformance.target import parse_url
from tests.conformance.mutants import MUTANTS
from tests.programs import run_program

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples" / "conformance"
PEERS = {
    "node": ["node", str(HERE / "servers" / "node.js")],
    "python-socketio": [sys.executable, str(HERE / "servers" / "python_socketio.py")],
}
CLIENTS = {
    "javascript": f"node {HERE / 'clients' / 'javascript.js'}",
    "python-socketio": f"{sys.executable} {EXAMPLES / 'client.py'}",
    "ours": f"{sys.executable} -m tests.conformance.clients.ours",
}


@asynccontextmanager
async def started(command: list[str]):
    """Start a server that prints its URL; it is ended by the end of its standard input."""
    async with trio.open_nursery() as nursery:
        run = partial(run_program, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
        process = await nursery.start(run)
        line = b""
        with trio.fail_after(20):
            while b"\n" not in line:
                data = await process.stdout.receive_some()
                if not data:
                    raise RuntimeError(f"{command} did not start")
                line += data
        yield line.decode().split("\n")[0]
        nursery.cancel_scope.cancel()


def write(report: Report, name: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(to_json(report))
    (folder / f"{name}.html").write_text(to_html(report), encoding="utf-8")
    (folder / f"{name}.xml").write_text(to_junit(report), encoding="utf-8")


async def judge(url: str, name: str, folder: Path, tls: ssl.SSLContext | None = None) -> Report:
    terminal = Terminal(sys.stdout, live=sys.stdout.isatty())
    report = await judge_server(parse_url(url, tls), progress=terminal.progress, begun=terminal.begin)
    report.subject = f"{name} ({report.subject})"
    terminal.finish(report)
    write(report, name, folder)
    return report


async def run_ours(folder: Path, names: list[str]) -> bool:
    passed = True
    for way in ("native", "asgi", "websockets"):
        async with started([sys.executable, "-m", "tests.conformance.servers.ours", way]) as url:
            passed &= (await judge(url, f"ours-{way}", folder)).passed
    with tempfile.TemporaryDirectory() as place:
        authority, client = trustme.CA(), ssl.create_default_context()
        authority.configure_trust(client)
        certificate = Path(place) / "server.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        command = [sys.executable, "-m", "tests.conformance.servers.ours", "--certificate", str(certificate)]
        async with started(command) as url:
            passed &= (await judge(url, "ours-tls", folder, client)).passed
    return passed


async def run_peers(folder: Path, names: list[str]) -> bool:
    for name, command in PEERS.items():
        if names and name not in names:
            continue
        async with started(command) as url:
            await judge(url, name, folder)
    return True


async def run_clients(folder: Path, names: list[str]) -> bool:
    for name, command in CLIENTS.items():
        if names and name not in names:
            continue
        terminal = Terminal(sys.stdout, live=sys.stdout.isatty())
        report = await judge_client(
            "127.0.0.1",
            0,
            command=command + " {url} {transports}",
            progress=terminal.progress,
            begun=terminal.begin,
        )
        report.subject = f"client {name}"
        terminal.finish(report)
        write(report, f"client-{name}", folder)
    return True


async def catch(name: str, *, all_cases: bool = False) -> tuple[bool, str]:
    """Tell whether the kit catches a mutant, and names its clause."""
    mutant = MUTANTS[name]
    command = [sys.executable, "-m", "tests.conformance.servers.ours", "--mutant", name]
    async with started(command) as url:
        only = () if all_cases else (mutant.clause,)
        try:
            report = await judge_server(parse_url(url), only=only)
        except Deviation as error:
            return False, f"nothing could be judged: {error}"
    failed = [outcome for outcome in report.outcomes if outcome.verdict is Verdict.FAIL]
    naming = [outcome for outcome in failed if mutant.clause in outcome.case.clauses]
    if not naming:
        return False, f"{len(failed)} cases failed, none of {mutant.clause}"
    return True, f"{mutant.clause}: {naming[0].case.id}: {naming[0].message}"


async def run_mutants(all_cases: bool, names: list[str]) -> bool:
    caught = 0
    chosen = names or list(MUTANTS)
    for name in chosen:
        try:
            found, text = await catch(name, all_cases=all_cases)
        except* RuntimeError as group:
            found, text = False, str(group.exceptions[0])
        caught += found
        sys.stdout.write(f"{'caught' if found else 'MISSED'}  {name}  {text[:150]}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{caught} of {len(chosen)} mutants caught\n")
    return caught == len(chosen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["ours", "peers", "clients", "mutants"])
    parser.add_argument("names", nargs="*", help="some of them; all by default")
    parser.add_argument("--all", action="store_true", help="run all cases against each mutant")
    parser.add_argument("--folder", type=Path, default=Path("build/conformance"), help="for the reports")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if arguments.what == "mutants":
        passed = trio.run(run_mutants, arguments.all, arguments.names)
    else:
        run = {"ours": run_ours, "peers": run_peers, "clients": run_clients}[arguments.what]
        passed = trio.run(run, arguments.folder, arguments.names)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
