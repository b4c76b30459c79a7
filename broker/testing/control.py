"""Brokers that another program starts, scripts, hurts and reads: the verbs of `python -m broker harness`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from broker import Broker, ConfigError, Settings

from .bridge import serve_loopback
from .faults import UpgradeStep, Wire
from .network import VirtualNetwork
from .rules import RuleBook, RuleError, read_rule
from .transcript import Transcript

MAX_BROKERS = 100
FAULTS = (
    "abort_upgrade",
    "cut",
    "cut_after",
    "cut_at",
    "delay",
    "delay_upgrade",
    "drop",
    "drop_pong",
    "end_trickle",
    "heal",
    "latency",
    "partition",
    "refuse",
    "resume_reads",
    "stall_reads",
    "trickle",
)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _one_of(*names: str) -> tuple[str, Callable[[object], bool]]:
    return f"one of {', '.join(names)}", lambda value: value in names


# What stands for the arguments of those verbs in JSON: a wire takes more, and does not look at it at once.
_ARGUMENTS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "match": ("a text", lambda value: isinstance(value, str)),
    "seconds": ("a number of seconds, 0 or more", _is_number),
    "interval": ("a number of seconds, 0 or more", _is_number),
    "max_bytes": ("a whole number above 0", _is_count),
    "count_bytes": ("a whole number above 0", _is_count),
    "count": ("a whole number above 0", _is_count),
    "next_one": ("true or false", lambda value: isinstance(value, bool)),
    "direction": _one_of("to_server", "to_client", "both"),
    "side": _one_of("client", "server"),
    "step": _one_of(*UpgradeStep),
}


class ControlError(Exception):
    """A verb cannot be carried out.

    Attributes:
        status: The HTTP status that fits.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Running:
    """One broker that was started.

    Attributes:
        name: How the other program calls it.
        url: Where it is.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.url = ""
        self.broker = Broker(settings)
        self.rules = RuleBook(self.broker)
        self.transcript = Transcript()
        self.wire: Wire | None = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve until its scope is cancelled."""
        try:
            with self.scope:
                async with self.broker, trio.open_nursery() as nursery:
                    network = VirtualNetwork(nursery, self.transcript)
                    network.listen(self.broker.handle_stream)
                    self.wire = network.wire
                    port = await nursery.start(serve_loopback, network)
                    self.url = f"http://127.0.0.1:{port}"
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self.ended.set()


class Control:
    """The verbs; each takes and returns what JSON can say.

    Args:
        nursery: Where the brokers run.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[str, Running] = {}
        self._count = 0
        self.verbs: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "start": self.start,
            "stop": self.stop,
            "rule": self.rule,
            "fault": self.fault,
            "emit": self.emit,
            "transcript": self.transcript,
            "statistics": self.statistics,
        }

    async def start(self, given: dict[str, Any]) -> dict[str, Any]:
        """Start a broker: `settings` and `rules`, both optional. Returns its `id` and `url`."""
        if len(self._running) >= MAX_BROKERS:
            raise ControlError(f"there are {MAX_BROKERS} brokers; stop one", 429)
        _only(given, "settings", "rules")
        try:
            settings = Settings(**given.get("settings", {}))
        except (ConfigError, TypeError) as error:
            raise ControlError(f"settings: {error}") from None
        rules = given.get("rules", [])
        if not isinstance(rules, list):
            raise ControlError("rules: they are a list")
        self._count += 1
        running = Running(f"b{self._count}", settings)
        for rule in rules:
            _add_rule(running, rule)
        self._running[running.name] = running
        await self._nursery.start(running.run)
        return {"id": running.name, "url": running.url}

    async def stop(self, given: dict[str, Any]) -> None:
        """Stop the broker `id`."""
        running = self._find(given)
        del self._running[running.name]
        running.scope.cancel()
        await running.ended.wait()

    async def rule(self, given: dict[str, Any]) -> None:
        """Add a `rule` to the broker `id`; see `EventRule`."""
        await trio.lowlevel.checkpoint()
        _add_rule(self._find(given), given.get("rule"))

    async def fault(self, given: dict[str, Any]) -> None:
        """Do a `verb` of `Wire`, with `arguments`, a list or an object, to the broker `id`."""
        await trio.lowlevel.checkpoint()
        wire = self._find(given).wire
        verb, arguments = given.get("verb"), given.get("arguments", [])
        if verb not in FAULTS:
            raise ControlError(f"there is no fault {verb!r}; there are {', '.join(FAULTS)}")
        if not isinstance(arguments, (list, dict)):
            raise ControlError(f"{verb}: arguments are a list or an object, not {arguments!r}")
        function = getattr(wire, verb)
        try:
            bind = inspect.signature(function).bind
            bound = bind(**arguments) if isinstance(arguments, dict) else bind(*arguments)
        except TypeError as error:
            raise ControlError(f"{verb}: {error}") from None
        for name, value in bound.arguments.items():
            allowed, is_one = _ARGUMENTS[name]
            if not is_one(value):
                raise ControlError(f"{verb}: {name} must be {allowed}, not {value!r}")
        function(*bound.args, **bound.kwargs)

    async def emit(self, given: dict[str, Any]) -> dict[str, Any]:
        """Send an `event` with `arguments` to everybody in a `namespace` of the broker `id`."""
        await trio.lowlevel.checkpoint()
        broker = self._find(given).broker
        event, namespace = given.get("event"), given.get("namespace", "/")
        if not isinstance(event, str) or not isinstance(namespace, str):
            raise ControlError("event and namespace are texts")
        try:
            result = broker.of(namespace).emit(event, *given.get("arguments", []))
        except (TypeError, ValueError) as error:
            raise ControlError(str(error)) from None
        return {"queued": result.queued, "dropped": result.dropped, "closed": result.closed}

    async def transcript(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what has gone over the wire of the broker `id`."""
        await trio.lowlevel.checkpoint()
        return [
            {
                "time": one.time,
                "connection": one.connection,
                "mark": one.mark,
                "kind": one.kind,
                "text": one.text,
            }
            for one in self._find(given).transcript.entries
        ]

    def shown_transcript(self, name: str) -> str:
        """Return the transcript of a broker as lines."""
        return self._find({"id": name}).transcript.pretty()

    async def statistics(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the figures of the broker `id`."""
        await trio.lowlevel.checkpoint()
        figures = self._find(given).broker.statistics()
        return {
            "sessions": figures.sessions,
            "sockets": figures.sockets,
            "disconnects": {str(reason): count for reason, count in figures.disconnects.items()},
            "refusals": {str(rule): count for rule, count in figures.refusals.items()},
            "events": {str(cause): count for cause, count in figures.events.items()},
        }

    def _find(self, given: dict[str, Any]) -> Running:
        running = self._running.get(str(given.get("id")))
        if running is None:
            raise ControlError(f"there is no broker {given.get('id')!r}", 404)
        return running


def _add_rule(running: Running, data: Any) -> None:
    try:
        running.rules.add(read_rule(data))
    except (RuleError, ValueError) as error:
        raise ControlError(str(error)) from None


def _only(given: dict[str, Any], *names: str) -> None:
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ControlError(f"unknown: {', '.join(unknown)}; known are {', '.join(names)}")
