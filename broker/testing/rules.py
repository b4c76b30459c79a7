"""Declarative rules: what a broker of the harness process does with an event, said in JSON."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import trio
from attrs import frozen
from cattrs import Converter, transform_error

from broker import NO_ACK, Broker, ConnectRefused, EventError, Namespace, Socket

_CONCURRENCY = 64


@frozen(kw_only=True)
class Refusal:
    """How an event, or a connection, is refused.

    Attributes:
        message: The sentence that the client is told.
        code: The code of an event's refusal.
        data: More, for programs.
    """

    message: str = "refused"
    code: str = "refused"
    data: Any = None


@frozen(kw_only=True)
class EventRule:
    """What is done with an event; the parts are done in the order in which they stand here.

    Attributes:
        event: Its name; `connect` is for those who join the namespace.
        namespace: Where.
        delay: Seconds to wait first.
        emit: An event that its sender is sent, as a list of name and arguments.
        broadcast: An event that everybody in the namespace is sent.
        disconnect: Whether its sender is disconnected: from the namespace, or `close` for altogether.
        refuse: How it is refused.
        silent: Whether it is never acked.
        answer: The values of its ack; None acks with what was sent.
        times: To how many events this is done before the rule is spent; None for all.
    """

    event: str
    namespace: str = "/"
    delay: float = 0.0
    emit: list[Any] | None = None
    broadcast: list[Any] | None = None
    disconnect: bool | str = False
    refuse: Refusal | None = None
    silent: bool = False
    answer: list[Any] | None = None
    times: int | None = None


_converter = Converter(forbid_extra_keys=True)
_converter.register_structure_hook(bool | str, lambda value, _: value)


class RuleError(ValueError):
    """A rule cannot be read."""


def read_rule(data: Any) -> EventRule:
    """Read a rule.

    Raises:
        RuleError: It is none; the message says where and why.
    """
    if not isinstance(data, dict):
        raise RuleError("a rule is an object with the name of an event")
    try:
        return _converter.structure(data, EventRule)
    except Exception as error:
        raise RuleError("; ".join(transform_error(error, path="rule"))) from None


class RuleBook:
    """The rules of one broker: the newest one of an event that is not spent is followed.

    Args:
        broker: The broker; what it does is registered here.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rules: dict[tuple[str, str], list[EventRule]] = {}
        self._left: dict[int, int] = {}

    def add(self, rule: EventRule) -> None:
        """Follow a rule from now on."""
        key = rule.namespace, rule.event
        namespace: Broker | Namespace = (
            self._broker if rule.namespace == "/" else self._broker.of(rule.namespace)
        )
        if key not in self._rules:
            self._register(namespace, key)
        self._rules.setdefault(key, []).append(rule)
        if rule.times is not None:
            self._left[id(rule)] = rule.times

    def _register(self, namespace: Broker | Namespace, key: tuple[str, str]) -> None:
        if key[1] == "connect":
            self._register_joining(namespace, key)
            return

        @namespace.on(key[1], concurrency=_CONCURRENCY)
        async def follow(socket: Socket, *args: Any) -> Any:
            rule = self._take(key)
            return NO_ACK if rule is None else await _follow(rule, socket, args)

    def _register_joining(self, namespace: Broker | Namespace, key: tuple[str, str]) -> None:
        joining: WeakKeyDictionary[Socket, EventRule] = WeakKeyDictionary()

        @namespace.use
        async def admit(socket: Socket) -> None:
            rule = self._take(key)
            if rule is not None:
                joining[socket] = rule
                await trio.sleep(rule.delay)
                if rule.refuse is not None:
                    raise ConnectRefused(rule.refuse.message, data=rule.refuse.data)

        @namespace.on("connect")
        async def connect(socket: Socket) -> None:
            rule = joining.pop(socket, None)
            if rule is not None:
                await _send(rule, socket)

    def _take(self, key: tuple[str, str]) -> EventRule | None:
        for rule in reversed(self._rules[key]):
            left = self._left.get(id(rule))
            if left is None:
                return rule
            if left > 0:
                self._left[id(rule)] = left - 1
                return rule
        return None


async def _follow(rule: EventRule, socket: Socket, args: tuple[Any, ...]) -> Any:
    await trio.sleep(rule.delay)
    await _send(rule, socket)
    if rule.refuse is not None:
        raise EventError(rule.refuse.code, rule.refuse.message, rule.refuse.data)
    if rule.silent:
        return NO_ACK
    return args if rule.answer is None else tuple(rule.answer)


async def _send(rule: EventRule, socket: Socket) -> None:
    if rule.emit is not None:
        await socket.send_event(*rule.emit)
    if rule.broadcast is not None:
        socket.namespace.emit(*rule.broadcast)
    if rule.disconnect:
        socket.disconnect(close=rule.disconnect == "close")
