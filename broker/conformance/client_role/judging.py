"""Bring all situations about for a client, and gather how it did."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from broker.conformance.cases import Case, Catalogue
from broker.conformance.pulse import watching
from broker.conformance.runner import Progress, Report, run_cases
from broker.conformance.transcript import Transcript

from .lab import ClientLab, Meeting, open_client_lab

TOPICS = ("connecting", "messages", "ending", "upgrading", "recovery")
TRANSPORTS = {"polling": "polling", "websocket": "websocket", "upgrade": "polling,websocket"}
CLIENTS_AT_A_TIME = 6
LATE = 0.05
SITUATION_TIMEOUT = 60.0

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
    command: str | None,
    only: Iterable[str] = (),
    workers: int = CLIENTS_AT_A_TIME,
    progress: Progress | None = None,
    begun: Callable[[int], None] | None = None,
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
        tell: Called with a line for the person who starts the clients.
    """
    cases = load_situations().chosen(only)
    meeting = Meeting(host, port, command)
    report = Report(command or f"a client at {host}:{port}", "client")
    if begun is not None:
        begun(len(cases))

    # Cases are told apart by the function that runs them: a laboratory needs to know its transports.
    prepared = [_prepared(case, meeting, tell if command is None else None) for case in cases]
    start = trio.current_time()
    async with watching(LATE) as pulse:
        report.outcomes = await run_cases(
            prepared,
            _no_lab,
            lacks=lambda case: None,
            pulse=pulse,
            workers=min(workers, CLIENTS_AT_A_TIME) if command else 1,
            progress=progress,
            timeout=SITUATION_TIMEOUT,
        )
    report.seconds = trio.current_time() - start
    return report


@asynccontextmanager
async def _no_lab(transcript: Transcript, attempt: int) -> AsyncIterator[Transcript]:
    yield transcript


def _prepared(case: Case[ClientLab], meeting: Meeting, tell: Callable[[str], Any] | None) -> Case[Transcript]:
    async def run(transcript: Transcript) -> None:
        if tell is not None:
            tell(f"waiting for a client: {case.id} ({case.title})\n")
        async with open_client_lab(meeting, transports_of(case), transcript) as lab:
            await case.run(lab)

    return Case(case.id, case.clauses, case.title, run)
