"""Serve a broker until a signal comes, then end it in good order."""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio
from attrs import field, frozen

from broker import Broker
from broker.adapters.errors import BusError
from broker.cli.arguments import Address
from broker.cli.errors import EXIT_FAILED, CommandError
from broker.server.workers import Place, watch_supervisor

logger = logging.getLogger("broker.cli")

Failure = TypeVar("Failure", bound=Exception)

_TOLD = {
    errno.EADDRINUSE: "the address is in use; is another server running there?",
    errno.EACCES: "that needs more rights than this process has",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


@frozen(kw_only=True)
class Service:
    """Hold what is served, where and how.

    Attributes:
        broker: The broker.
        addresses: Where it listens; at least one.
        app: The ASGI application for all other paths, or None.
        ssl_context: TLS for all TCP addresses, or None.
        drain_timeout: Seconds that connections may take to end.
        place: Its place among the processes of a server; None if it is alone.
    """

    broker: Broker
    addresses: list[Address] = field(factory=list)
    app: Any = None
    ssl_context: ssl.SSLContext | None = None
    drain_timeout: float = 30.0
    place: Place | None = None


async def run(service: Service, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> int:
    """Serve until the first Ctrl-C or SIGTERM and drain then; a second one cancels at once.

    Args:
        service: What to serve, where and how.
        task_status: Receives the running server.

    Returns:
        The exit code of a clean end, 0.

    Raises:
        CommandError: It cannot listen at one of the addresses, or not reach the other nodes.
    """
    failures: list[OSError | BusError] = []
    server: Any = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            try:
                server = await nursery.start(_startable(service))
            except* (OSError, BusError) as group:
                failures += leaves(group)
            if failures:
                nursery.cancel_scope.cancel()
            else:
                _announce(service, server, nursery)
                task_status.started(server)
                await _wait_signal(signals)
                logger.info(
                    "ending: up to %g s for connections; Ctrl-C again to end at once", service.drain_timeout
                )
                nursery.start_soon(_cancel_at_signal, signals, nursery.cancel_scope)
                await service.broker.drain(deadline=service.drain_timeout)
                nursery.cancel_scope.cancel()
    if failures:
        addresses = service.addresses
        raise CommandError(*(told(error, addresses) for error in failures), exit_code=EXIT_FAILED)
    logger.info("ended")
    return 0


def _announce(service: Service, server: Any, nursery: trio.Nursery) -> None:
    if service.place is None:
        logger.info("listening on %s (Ctrl-C to end)", " ".join(server.urls))
        return
    logger.info("ready, process %d", os.getpid())
    nursery.start_soon(_end_with_supervisor, service.place, nursery.cancel_scope)


async def _end_with_supervisor(place: Place, scope: trio.CancelScope) -> None:
    await watch_supervisor(socket.socket(fileno=place.control), place.beat_interval)
    logger.warning("the supervisor is gone")
    scope.cancel()


def _startable(service: Service) -> Callable[..., Awaitable[Any]]:
    """Return what a nursery starts: `Broker.serve` with its arguments."""
    first = next((address for address in service.addresses if address.host is not None), Address(""))
    return functools.partial(
        service.broker.serve,
        first.host,
        first.port,
        bind=[address.text for address in service.addresses if address is not first],
        ssl_context=service.ssl_context,
        app=service.app,
    )


async def _wait_signal(signals: AsyncIterator[int]) -> None:
    number = await anext(signals)
    logger.info("received %s", signal.Signals(number).name)


async def _cancel_at_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await _wait_signal(signals)
    scope.cancel()


def leaves(group: BaseExceptionGroup[Failure]) -> list[Failure]:
    """Return the errors of a group and of the groups in it."""
    found: list[Failure] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def told(error: OSError | BusError, addresses: Sequence[Address]) -> str:
    """Return the sentence that says where it could not listen, or what bus it could not reach, and why."""
    if isinstance(error, BusError):
        return str(error)
    where = ", ".join(address.text for address in addresses)
    if isinstance(error, socket.gaierror):
        return f"cannot listen on {where}: the name of the host is not known"
    why = _TOLD.get(error.errno or 0, error.strerror or str(error))
    return f"cannot listen on {where}: {why}"
