"""Bring all situations about for a client, and gather how it did."""

from __future__ import annotations

import importlib
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from broker.conformance.cases import Case, Catalogue, Outcome
from broker.conformance.pulse import watching
from broker.conformance.runner import Progress, Report, run_cases
from broker.conformance.transcript import Transcript

from .lab import FIRST_DEADLINE, ClientLab, Meeting, RunClient, open_client_lab

TOPICS = ("connecting", "messages", "ending", "upgrading", "recovery")
TRANSPORTS = {"polling": "polling", "websocket": "websocket", "upgrade": "polling,websocket"}
CLIENTS_AT_A_TIME = 6
LATE = 0.05
SITUATION_TIMEOUT = 30.0
BY_HAND = 60.0

SITUATIONS: Catalogue[ClientLab] = Catalogue()


def load_situations() -> Catalogue[ClientLab]:
    """Return the whole catalogue."""
    for topic in TOPICS:
        importlib.import_module(f"{__package__}.{topic}")
    return SITUATIONS


def transports_of(case: Case[Any]) -> str:
    """Tell which transports a situation wants: the last part of its id."""
    return TRANSPORTS[case.id.rpartition("/")[2]]


async def judge_client(
    host: str,
    port: int,
    *,
    command: str | None = None,
    only: Iterable[str] = (),
    workers: int = CLIENTS_AT_A_TIME,
    progress: Progress | None = None,
    begun: Callable[[int], None] | None = None,
    wait: float | None = None,
    client: RunClient | None = None,
    tell: Callable[[str], Any] = lambda text: None,
) -> Report:
    """Judge a client.

    Args:
        host: Where to listen.
        port: The port, if there is no command.
        command: Starts a client for each situation. None: each situation waits for one to come.
        only: Starts of case ids or clauses; all, if empty.
        workers: How many clients run at a time.
        progress: Called with each outcome.
        begun: Called with the number of situations.
        wait: Seconds that a client may take to come: 30 by default, 60 if a person starts it.
        client: Runs a client in this program, in place of a command.
        tell: Called with a line for the person who starts the clients.

    Raises:
        OSError: There is no such program, or the port is not free.
    """
    cases = load_situations().chosen(only)
    if client is not None:
        meeting = Meeting(host, port, None, wait or FIRST_DEADLINE, client=client)
    elif command is None:
        # A person should start a client once for as many situations as possible.
        cases.sort(key=lambda case: list(TRANSPORTS).index(case.id.rpartition("/")[2]))
        meeting = Meeting(host, port or await _free_port(host), None, wait or BY_HAND, tell)
        tell(f"{len(cases)} situations wait for a client at {meeting.url}, one after another\n")
    else:
        _find_program(command)
        meeting = Meeting(host, port, command, wait or FIRST_DEADLINE)
    by_hand = meeting.by_hand
    report = Report(
        command or (f"a client at {meeting.url}" if by_hand else "a client in this program"), "client"
    )
    if begun is not None:
        begun(len(cases))

    # Cases are told apart by the function that runs them: a laboratory needs to know its transports.
    prepared = [_prepared(case, meeting) for case in cases]
    start = trio.current_time()
    async with watching(LATE) as pulse:
        report.outcomes = await run_cases(
            prepared,
            _no_lab,
            lacks=lambda case: None,
            pulse=pulse,
            workers=1 if by_hand else min(workers, CLIENTS_AT_A_TIME) if command else workers,
            progress=_telling(progress, tell) if by_hand else progress,
            timeout=meeting.wait + SITUATION_TIMEOUT,
        )
    report.seconds = trio.current_time() - start
    return report


@asynccontextmanager
async def _no_lab(transcript: Transcript, attempt: int) -> AsyncIterator[Transcript]:
    yield transcript


async def _free_port(host: str) -> int:
    listeners = await trio.open_tcp_listeners(0, host=host)
    port: int = listeners[0].socket.getsockname()[1]
    for listener in listeners:
        await listener.aclose()
    return port


def _find_program(command: str) -> None:
    program = (shlex.split(command) or [""])[0]
    if shutil.which(program) is None:
        raise FileNotFoundError(f"there is no program {program!r}")


def _telling(progress: Progress | None, tell: Callable[[str], Any]) -> Progress:
    def told(outcome: Outcome) -> None:
        tell(f"      {outcome.verdict}{f': {outcome.message}' if outcome.message else ''}\n")
        if progress is not None:
            progress(outcome)

    return told


def _prepared(case: Case[ClientLab], meeting: Meeting) -> Case[Transcript]:
    async def run(transcript: Transcript) -> None:
        if meeting.tell is not None:
            meeting.tell(f"{transports_of(case):18} {case.id}: {case.title}\n")
        async with open_client_lab(meeting, transports_of(case), transcript) as lab:
            await case.run(lab)

    return Case(case.id, case.clauses, case.title, run)
