"""Describe the command line: its commands, options and addresses."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, NamedTuple

from broker.server.workers import Place
from protocol.engineio.owner import NODES, WORKERS

DEFAULT_PORT = 3000
DEFAULT_HOST = "127.0.0.1"
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
_MAX_PORT = 65_535


class Address(NamedTuple):
    """Hold one place to listen at: a host and a port, or the path of a Unix socket in `text`."""

    text: str
    host: str | None = None
    port: int = 0


def parse_address(text: str) -> Address:
    """Read HOST:PORT, [IPV6]:PORT or unix:/path.

    Raises:
        argparse.ArgumentTypeError: It is none of these; the message says what is wrong.
    """
    if text.startswith("unix:"):
        if not text.removeprefix("unix:"):
            raise argparse.ArgumentTypeError(f"{text!r} lacks the path, as in unix:/run/broker.sock")
        return Address(text)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, [IPV6]:PORT or unix:/path")
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise argparse.ArgumentTypeError(f"{text!r}: write an IPv6 address in brackets, as in [::1]:3000")
    return Address(text, host[1:-1] if bracketed else host, parse_port(port))


def parse_port(text: str) -> int:
    """Read a TCP port; 0 lets the system choose one.

    Raises:
        argparse.ArgumentTypeError: It is no whole number from 0 to 65535.
    """
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(
            f"the port must be a whole number from 0 to {_MAX_PORT}, found {text!r}"
        )
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, found {text!r}")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="python -m broker",
        description="A message broker for Trio that speaks the Socket.IO protocol.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, add_options, purpose in (
        ("serve", _add_serve, "serve a broker of yours"),
        ("demo", _add_demo, "serve the chat demo, in memory"),
        ("connect", _add_connect, "connect to a server: tail, emit, call"),
        ("harness", _add_harness, "serve brokers that tests in any language control"),
        ("check-config", _add_check_config, "say which settings a file and the environment give"),
        ("conformance", _add_conformance, "tell where a server or client deviates from SPEC.md"),
    ):
        description = f"{purpose[0].upper()}{purpose[1:]}."
        add_options(commands.add_parser(name, help=purpose, description=description))
    return parser


def _add_check_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a TOML file with a [broker] table")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="MODULE:ATTRIBUTE",
        help="a Broker, or a function that returns one; a function with one parameter is given the settings",
    )
    parser.add_argument(
        "--bind",
        type=parse_address,
        action="append",
        metavar="ADDRESS",
        help=f"HOST:PORT, [IPV6]:PORT or unix:/path; may be repeated (default {DEFAULT_HOST}:{DEFAULT_PORT})",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help=f"processes that serve together, at most {WORKERS}; see docs/workers.md (default 1)",
    )
    parser.add_argument(
        "--worker-timeout",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="replace a worker that hangs for so long; 0: never (default 60)",
    )
    parser.add_argument(
        "--node",
        type=_node,
        metavar="N",
        help="the number of this server among several behind a load balancer; see docs/workers.md",
    )
    parser.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="N=HOST:PORT",
        help="where another of them takes plain HTTP; may be repeated, needs --node",
    )
    parser.add_argument("--worker", type=Place.from_text, help=argparse.SUPPRESS)  # the supervisor gives it
    parser.add_argument("--config", metavar="FILE", help="settings for a function that takes them")
    parser.add_argument("--app", metavar="MODULE:ATTRIBUTE", help="the ASGI application for all other paths")
    parser.add_argument("--certfile", metavar="FILE", help="TLS certificate chain, PEM")
    parser.add_argument(
        "--keyfile", metavar="FILE", help="TLS private key, PEM, if not in the certificate file"
    )
    _add_common(parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen at (default {DEFAULT_HOST})")
    parser.add_argument(
        "--port",
        type=parse_port,
        default=DEFAULT_PORT,
        help=f"TCP port, 0 for a free one (default {DEFAULT_PORT})",
    )
    _add_common(parser)


def _add_harness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=parse_port,
        default=DEFAULT_PORT,
        help=f"TCP port on {DEFAULT_HOST}, 0 for a free one (default {DEFAULT_PORT})",
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="warning")
    parser.add_argument("--log-format", choices=LOG_FORMATS, default="text")


def _add_connect(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show what a server sends, and send what is typed: emit EVENT JSON..., call EVENT JSON..., "
        "join /NAMESPACE, leave /NAMESPACE, quit."
    )
    parser.add_argument("url", metavar="URL", help="http(s):// or ws(s)://; its path names a namespace")
    parser.add_argument(
        "--namespace", action="append", metavar="NAME", help="a namespace to join; may be repeated"
    )
    parser.add_argument("--auth", type=_json_object, metavar="JSON", help="the object sent at each connect")
    parser.add_argument("--transport", choices=("polling", "websocket"), help="use this one only")
    parser.add_argument(
        "--parser", default="json", metavar="{json,msgpack}", help="the server's parser (default json)"
    )
    parser.add_argument("--path", default="/socket.io", help="where the server listens (default /socket.io)")
    parser.add_argument(
        "--emit", nargs="+", action="append", metavar=("EVENT", "JSON"), help="emit this, then end"
    )
    parser.add_argument(
        "--call",
        nargs="+",
        action="append",
        metavar=("EVENT", "JSON"),
        help="print the ack of this, then end",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="wait so long for acks (default 10)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--no-color", action="store_true", help="no colours on a terminal")


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"must be a JSON object, found {text!r}")
    return value


def _add_conformance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the server to judge, as in http://localhost:3000"
    )
    parser.add_argument(
        "--listen",
        type=parse_address,
        metavar="ADDRESS",
        help="judge clients instead, which come to HOST:PORT",
    )
    parser.add_argument(
        "--client",
        metavar="COMMAND",
        help="with --listen: starts a client; {url} and {transports} are replaced",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="with --listen: how long a client may take to come (default 30; without --client 60)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="START",
        help="cases or clauses that start so; repeatable",
    )
    parser.add_argument(
        "--workers", type=_count, default=12, metavar="N", help="cases at a time (default 12)"
    )
    parser.add_argument(
        "--patience", type=_seconds, metavar="SECONDS", help="what at once means (default: at least 0.15)"
    )
    parser.add_argument("--cafile", metavar="FILE", help="certificates to trust, PEM, for https")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--junit", metavar="FILE", help="write the report as JUnit XML")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, found {text!r}")
    return int(text)


def _node(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= NODES:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {NODES - 1}, found {text!r}")
    return int(text)


def _peer(text: str) -> tuple[int, Address]:
    number, equals, address = text.partition("=")
    parsed = parse_address(address) if equals else Address(text)
    if parsed.host is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not N=HOST:PORT")
    return _node(number), parsed


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--drain-timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="how long connections may take to end after a first Ctrl-C or SIGTERM (default 30)",
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info")
    parser.add_argument("--log-format", choices=LOG_FORMATS, default="text")
