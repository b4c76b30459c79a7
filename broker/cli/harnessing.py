"""Run the test harness as a process, until a signal comes."""

from __future__ import annotations

import signal
import sys

import trio

from broker.cli.arguments import DEFAULT_HOST, Address
from broker.cli.errors import EXIT_FAILED, CommandError
from broker.cli.serving import leaves, told
from broker.testing.process import serve_harness


async def run_harness(port: int) -> int:
    """Serve the control interface and print its URL; the first Ctrl-C or SIGTERM ends it.

    Raises:
        CommandError: It cannot listen at the port.
    """
    failures: list[str] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(serve_harness, DEFAULT_HOST, port)
                sys.stdout.write(f"{server.url}\n")
                sys.stdout.flush()
                await anext(aiter(signals))
                nursery.cancel_scope.cancel()
        except* OSError as group:
            address = Address(f"{DEFAULT_HOST}:{port}", DEFAULT_HOST, port)
            failures += [told(error, [address]) for error in leaves(group)]
    if failures:
        raise CommandError(*failures, exit_code=EXIT_FAILED)
    return 0
