"""Carry out the commands: gather what one needs, then serve until told to end."""

from __future__ import annotations

import argparse
import functools
import logging
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import trio

from broker import Broker
from broker.cli import logs
from broker.cli.arguments import DEFAULT_HOST, DEFAULT_PORT, Address
from broker.cli.errors import CommandError
from broker.cli.loading import load_application, load_broker
from broker.cli.screen import Screen
from broker.cli.serving import Service, run
from broker.flow.settings import ConfigError, Settings
from broker.server.neighbours import Neighbours
from broker.server.workers import Place
from protocol.engineio.owner import Owner

logger = logging.getLogger("broker.cli")


def check_config(file: str) -> int:
    """Print the settings that a file and the environment give.

    Raises:
        CommandError: They are wrong; one line for each problem.
    """
    try:
        settings = Settings.load(file)
    except ConfigError as error:
        raise CommandError(*error.problems) from error
    sys.stdout.write("\n".join(settings.describe()) + "\n")
    return 0


def demo(arguments: argparse.Namespace) -> int:
    """Serve the chat demo until a signal ends it.

    Raises:
        CommandError: It cannot listen at the address.
    """
    from broker.demo import app, create_broker  # needed here alone; serve does without

    logs.configure(arguments.log_level, arguments.log_format)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = Address(f"{host}:{arguments.port}", arguments.host, arguments.port)
    service = Service(
        broker=create_broker(), addresses=[address], app=app, drain_timeout=arguments.drain_timeout
    )
    return trio.run(functools.partial(run, service))


def harness(arguments: argparse.Namespace) -> int:
    """Serve the control interface of the test harness until a signal ends it.

    The first line of the output is its URL.

    Raises:
        CommandError: It cannot listen at the port.
    """
    from broker.cli.harnessing import run_harness  # the harness is needed here alone

    logs.configure(arguments.log_level, arguments.log_format)
    return trio.run(run_harness, arguments.port)


def serve(arguments: argparse.Namespace) -> int:
    """Serve a broker until a signal ends it.

    Raises:
        CommandError: The broker cannot be found or made, its settings are wrong, or it cannot listen.
    """
    addresses = arguments.bind or [Address(f"{DEFAULT_HOST}:{DEFAULT_PORT}", DEFAULT_HOST, DEFAULT_PORT)]
    if arguments.workers > 1 and arguments.worker is None:
        from broker.cli.supervising import supervise_workers  # a single process does without

        return supervise_workers(arguments, addresses)
    place: Place | None = arguments.worker
    if arguments.peer and arguments.node is None:
        raise CommandError("--peer needs --node, the number of this server")
    logs.configure(arguments.log_level, arguments.log_format, worker=place.number if place else None)
    try:
        broker = load_broker(arguments.target, arguments.config)
    except ConfigError as error:
        raise CommandError(*error.problems) from error
    if place is not None:
        addresses = [Address(f"fd:{number}") for number in place.listening]
    _settle(broker, place, arguments)
    service = Service(
        broker=broker,
        addresses=addresses,
        app=None if arguments.app is None else load_application(arguments.app),
        ssl_context=_tls(arguments.certfile, arguments.keyfile),
        drain_timeout=arguments.drain_timeout,
        place=place,
    )
    for line in broker.settings.describe():
        # All workers have the same.
        logger.log(logging.DEBUG if place is not None and place.number else logging.INFO, "%s", line)
    return trio.run(functools.partial(run, service))


def _settle(broker: Broker, place: Place | None, arguments: argparse.Namespace) -> None:
    """Tell a broker of the other workers of its server, and of the other nodes."""
    if place is None and arguments.node is None:
        return
    peers = {number: (address.host, address.port) for number, address in arguments.peer}
    owner = Owner(arguments.node or 0, place.number if place else 0)
    folder = Path(place.folder) if place else None
    count = place.count if place else 1
    broker.settle_beside(Neighbours(owner, folder, broker.settings.limits, peers, count))


def connect(arguments: argparse.Namespace) -> int:
    """Be a client in the terminal until told to end.

    Raises:
        CommandError: The options cannot be.
    """
    from broker.cli import connecting  # needed here alone

    options: dict[str, Any] = {"auth": arguments.auth, "path": arguments.path, "parser": arguments.parser}
    if arguments.namespace:
        options["namespaces"] = arguments.namespace
    if arguments.transport:
        options["transports"] = (arguments.transport,)
    once = [("emit", said) for said in arguments.emit or ()] + [
        ("call", said) for said in arguments.call or ()
    ]
    plan = connecting.Plan(
        url=arguments.url,
        options=options,
        once=[" ".join((verb, *said)) for verb, said in once],
        timeout=arguments.timeout,
    )
    colour = connecting.colour_wanted(arguments.no_color, os.environ.get("NO_COLOR"))
    screen = Screen(sys.stdout, arguments.json, colour)
    return trio.run(connecting.run, plan, screen, sys.stdin)


def _tls(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    if certfile is None:
        if keyfile is not None:
            raise CommandError("--keyfile needs --certfile")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:  # ssl.SSLError is one
        files = certfile if keyfile is None else f"{certfile} with {keyfile}"
        raise CommandError(f"cannot use {files} for TLS: {error.strerror or error}") from error
    return context
