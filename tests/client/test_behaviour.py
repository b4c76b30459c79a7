"""What the client does by itself: coming back, recovery, reasons, buffers, errors, cancellation."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import pytest
import trio

from broker import (
    AckTimeout,
    Backoff,
    Broker,
    BufferFull,
    ConnectError,
    Disconnected,
    EventError,
    Limits,
    Socket,
    Verdict,
    open_client,
)
from tests.client.fake import Talk, scripted
from tests.client.servers import make_broker, needs_node, node_server
from tests.peers import serving
from tests.programs import run_program

QUICK = Backoff(initial=0.001, maximum=0.01)
WEBSOCKET = ("websocket",)

pytestmark = pytest.mark.usefixtures("within_the_deadline")


class Log(list[Any]):
    """What lifecycle handlers were told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = trio.Event()

    def note(self, name: str) -> Any:
        def handler(*args: Any) -> None:
            self.append((name, *args))
            self._changed.set()
            self._changed = trio.Event()

        return handler

    async def until(self, length: int) -> None:
        while len(self) < length:
            await self._changed.wait()

    def watch(self, client: Any) -> Log:
        for name in ("connect", "connect_error", "disconnect"):
            client.on(name)(self.note(name))
        for name in ("reconnect_attempt", "reconnect", "reconnect_error", "reconnect_failed"):
            client.io.on(name)(self.note(name))
        return self


async def idle(talk: Talk) -> None:
    await talk.enter()


# -- coming back, and reasons --------------------------------------------------


async def test_it_comes_back_and_tells_of_it():
    async def closed(talk: Talk) -> None:
        await talk.enter()
        await talk.close()

    async with (
        scripted(closed, idle) as url,
        open_client(url, transports=WEBSOCKET, reconnect=QUICK) as client,
    ):
        log = Log().watch(client)
        await log.until(5)
        assert sorted(log) == [
            ("connect",),
            ("connect",),
            ("disconnect", "transport close"),
            ("reconnect", 1),
            ("reconnect_attempt", 1),
        ]
        assert client.connected


async def test_a_server_that_throws_out_at_once_is_asked_at_a_slowing_pace():
    async def closed(talk: Talk) -> None:
        await talk.enter()
        await talk.close()

    async with (
        scripted(closed) as url,
        open_client(
            url, transports=WEBSOCKET, reconnect=Backoff(initial=0.001, maximum=60, jitter=0, attempts=4)
        ) as client,
    ):
        attempts = Log()
        client.io.on("reconnect_attempt")(attempts.note("attempt"))
        client.io.on("reconnect_failed")(attempts.note("failed"))
        await attempts.until(5)
        assert attempts == [("attempt", 1), ("attempt", 2), ("attempt", 3), ("attempt", 4), ("failed",)]
        assert not client.active


async def test_nobody_answers_and_it_gives_up_after_its_attempts():
    with trio.socket.socket() as nobody:
        await nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    backoff = Backoff(initial=0.001, maximum=0.01, attempts=2)
    async with open_client(f"ws://127.0.0.1:{port}", transports=WEBSOCKET, reconnect=backoff) as client:
        log = Log().watch(client)
        with pytest.raises(ConnectError, match="websocket error") as failed:
            await client.wait_connected()
        assert failed.value.retryable
        with pytest.raises(ConnectError):
            await anext(aiter(client))
        with pytest.raises(Disconnected):
            await client.call("x")
        await log.until(8)
        assert [name for name, *_ in log].count("connect_error") == 3
        assert ("reconnect_failed",) in log


async def test_without_reconnection_the_first_failure_is_the_last():
    async def closed(talk: Talk) -> None:
        await talk.enter()
        await talk.close()

    async with scripted(closed) as url, open_client(url, transports=WEBSOCKET, reconnect=None) as client:
        assert [event async for event in client] == []
        with pytest.raises(Disconnected, match="transport close"):
            await client.wait_connected()


@pytest.mark.parametrize(
    ("messages", "reason", "active"),
    [
        (["41"], "io server disconnect", False),
        (["1"], "transport close", True),
        (["42[not json"], "parse error", True),
        (["42[]"], "parse error", True),
        (['42["disconnect"]'], "parse error", True),
        ([b"unasked for"], "parse error", True),
        (["9"], "transport error", True),
        ([""], "transport error", True),
    ],
)
async def test_each_reason_and_whether_it_comes_back(messages, reason, active):
    async def script(talk: Talk) -> None:
        await talk.enter()
        await talk.say(*messages)

    never = Backoff(initial=100, maximum=100)
    async with scripted(script) as url, open_client(url, transports=WEBSOCKET, reconnect=never) as client:
        log = Log().watch(client)
        await log.until(2)
        assert log == [("connect",), ("disconnect", reason)]
        assert (client.active, client.connected, client.id) == (active, False, None)


async def test_a_connection_that_breaks():
    async def script(talk: Talk) -> None:
        await talk.enter()
        await talk.cut()

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET, reconnect=None) as client:
        log = Log().watch(client)
        await log.until(2)
        assert log[1] == ("disconnect", "transport close")


async def test_silence_for_longer_than_interval_and_timeout():
    async def script(talk: Talk) -> None:
        await talk.open(pingInterval=20, pingTimeout=30)
        await talk.hear()
        await talk.say('40{"sid":"S"}')

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET, reconnect=None) as client:
        log = Log().watch(client)
        await log.until(2)
        assert log[1] == ("disconnect", "ping timeout")


async def test_pings_are_answered_and_told():
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        await talk.enter()
        await talk.say("2")
        heard.append(await talk.hear())
        await talk.say('42["done"]')

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET) as client:
        pings = Log()
        client.io.on("ping")(pings.note("ping"))
        assert (await anext(aiter(client))).name == "done"
        assert heard == ["3"]
        await pings.until(1)


async def test_leaving_is_told_to_the_server_and_can_be_undone():
    broker = make_broker()
    left = Log()
    broker.on("disconnect")(lambda socket, reason: left.note("left")(reason))
    async with serving(broker) as server:
        async with open_client(server.url, transports=("polling",)) as client:
            log = Log().watch(client)
            await client.wait_connected()
            client.disconnect()
            await left.until(1)
            assert left == [("left", "client namespace disconnect")]
            await log.until(2)
            assert log[1] == ("disconnect", "io client disconnect")
            with pytest.raises(Disconnected, match="io client disconnect"):
                await client.wait_connected()
            client.emit("say", "kept")
            client.connect()
            await client.wait_connected()
            assert (await anext(aiter(client))).args == ("kept",)


@pytest.mark.parametrize("transports", [("polling",), WEBSOCKET])
@pytest.mark.parametrize("namespace", ["/", "/other"])
async def test_leaving_the_last_namespace_and_joining_one_at_once(transports, namespace):
    broker = make_broker()
    broker.of("/other").on("echo")(lambda socket, value: value)
    async with serving(broker) as server, open_client(server.url, transports=transports) as client:
        await client.wait_connected()
        client.disconnect()
        joined = client.of(namespace)
        joined.connect()
        await joined.wait_connected()
        assert await joined.call("echo", 1) == 1
        assert joined.id in broker.of(namespace).sockets


@pytest.mark.parametrize("again", ["at once", "before the answer", "after it"])
async def test_a_namespace_that_is_left_before_the_server_has_let_it_in(again):
    asked, let_in, gone = trio.Event(), trio.Event(), trio.Event()
    broker = make_broker()
    slow = broker.of("/slow")

    @slow.use
    async def keep_waiting(socket: Socket) -> None:
        asked.set()
        await let_in.wait()

    @slow.on("disconnect")
    def disconnect(socket: Socket, reason: str) -> None:
        gone.set()

    slow.on("echo")(lambda socket, value: value)
    async with serving(broker) as server, open_client(server.url, transports=WEBSOCKET) as client:
        log = Log().watch(client)
        joined = client.of("/slow")
        await asked.wait()
        joined.disconnect()
        if again == "before the answer":
            await trio.testing.wait_all_tasks_blocked()
        if again != "after it":
            joined.connect()
        let_in.set()
        if again == "after it":
            await gone.wait()
            joined.connect()
        assert await joined.call("echo", 1) == 1
        assert list(slow.sockets) == [joined.id]
        assert log == [("connect",)], "the connection has stayed"


async def test_a_namespace_that_has_been_left_is_not_waited_for():
    broker = make_broker()
    broker.of("/other")
    async with serving(broker) as server, open_client(server.url) as client:
        client.of("/other").disconnect()
        await client.wait_connected()
        assert client.connected


# -- refusals of the handshake -------------------------------------------------


async def test_an_older_server_is_named():
    async def script(talk: Talk) -> None:
        await talk.open()
        await talk.say("40")

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET) as client:
        with pytest.raises(ConnectError, match="older protocol") as refused:
            await client.wait_connected()
        assert not refused.value.retryable


async def say_nothing(talk: Talk) -> None:
    await trio.sleep_forever()


class Cut(trio.abc.Stream):
    """A connection that was reset before anything could be sent; nothing is ever heard of it."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_reset_before_the_handshake_is_noticed_at_once():
    async def connector(host, port):
        return Cut()

    options = {"connector": connector, "transports": WEBSOCKET, "reconnect": None}
    async with open_client("http://nowhere", **options) as client:
        with trio.fail_after(2), pytest.raises(ConnectError, match="websocket error"):
            await client.wait_connected()


async def test_no_session_in_time():
    async with (
        scripted(say_nothing) as url,
        open_client(url, transports=WEBSOCKET, connect_timeout=0.05, reconnect=None) as client,
    ):
        with pytest.raises(ConnectError, match="timeout"):
            await client.wait_connected()


async def test_no_answer_to_connect_in_time():
    async def script(talk: Talk) -> None:
        await talk.open()

    async with (
        scripted(script) as url,
        open_client(url, transports=WEBSOCKET, connect_timeout=0.05, reconnect=None) as client,
    ):
        with pytest.raises(ConnectError, match="no answer to CONNECT"):
            await client.wait_connected()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_refused_handshake_says_why(transport):
    broker = make_broker(transports=("websocket",) if transport == "polling" else ("polling",))
    async with serving(broker) as server:
        async with open_client(server.url, transports=(transport,), reconnect=None) as client:
            with pytest.raises(ConnectError, match=r"status 400 .*Transport unknown"):
                await client.wait_connected()
        async with open_client(
            server.url,
            transports=(transport, "websocket" if transport == "polling" else "polling"),
            try_all_transports=True,
        ) as client:
            await client.wait_connected()


# -- what is sent --------------------------------------------------------------


async def test_query_headers_cookies_auth_reach_the_server_by_both_transports():
    async with serving(make_broker()) as server:
        for transports in (("polling",), WEBSOCKET):
            async with open_client(
                f"{server.url}/?given=1",
                transports=transports,
                namespaces=("/",),
                query={"more": "ü"},
                headers={"X-Test": "yes"},
                cookies={"pot": "42"},
                auth=lambda: {"user": "u"},
            ) as client:
                auth, query, headers = await client.call("handshake")
                assert auth == {"user": "u"}
                assert (query["given"], query["more"]) == ("1", "ü")
                assert headers["x-test"] == "yes"
                assert headers["cookie"] == "pot=42"


async def test_events_before_the_connection_are_kept_in_order_and_volatile_ones_are_not():
    async with serving(make_broker()) as server:
        async with open_client(server.url, offline_limit=3) as client:
            assert client.volatile.emit("say", "gone") is Verdict.DROPPED
            assert [client.emit("say", number) for number in (1, 2, 3)] == [Verdict.QUEUED] * 3
            with pytest.raises(BufferFull):
                client.emit("say", 4)
            with pytest.raises(BufferFull):
                await client.call("echo", 4)
            received = []
            async for event in client:
                received.append(event.args[0])
                if received == [1, 2, 3]:
                    break
            assert client.volatile.emit("say", "now") is Verdict.QUEUED
            assert (await anext(aiter(client))).args == ("now",)


@pytest.mark.parametrize("policy", ["raise", "drop_oldest", "drop_newest"])
async def test_more_may_wait_for_a_connection_than_is_queued_on_one(policy):
    numbers: list[int] = []
    broker = Broker()
    broker.on("say")(lambda socket, number: numbers.append(number))
    broker.on("done")(lambda socket: None)
    options = {"limits": Limits(outbox_messages=10), "offline_limit": 100, "offline_policy": policy}
    async with serving(broker) as server, open_client(server.url, transports=WEBSOCKET, **options) as client:
        for number in range(100):
            client.emit("say", number)
        await client.flush()
        await client.call("done")
        assert numbers == list(range(100))


@pytest.mark.parametrize("retries", [None, 1])
async def test_a_call_that_is_dropped_for_want_of_room_says_so(retries):
    options = {"offline_limit": 1, "offline_policy": "drop_newest", "retries": retries}
    async with scripted(say_nothing) as url:
        async with open_client(url, limits=Limits(close_timeout=0.05), **options) as client:
            await trio.testing.wait_all_tasks_blocked()  # with retries one is in hand
            client.emit("first")
            await trio.testing.wait_all_tasks_blocked()
            client.emit("second")
            with pytest.raises(BufferFull), trio.fail_after(5):
                await client.call("third")


async def test_what_cannot_be_sent_raises():
    async with serving(make_broker()) as server, open_client(server.url) as client:
        with pytest.raises(ValueError, match="reserved"):
            client.emit("connect")
        with pytest.raises(TypeError):
            client.emit("say", object())
        with pytest.raises(ValueError, match="namespace"):
            client.of("chat")
        assert await client.call("echo", 1) == 1


async def test_a_call_that_is_not_answered():
    async with serving(make_broker()) as server, open_client(server.url, transports=WEBSOCKET) as client:
        await client.wait_connected()
        with pytest.raises(AckTimeout):
            await client.timeout(0.02).call("silent")
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(Disconnected, match="io client disconnect"):
                    await client.call("silent")

            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked(0.01)
            client.disconnect()


async def test_a_cancelled_call_is_taken_back_if_it_has_not_been_sent():
    received = Log()
    broker = Broker()
    broker.on("say")(lambda socket, value: received.note("say")(value))
    async with serving(broker) as server:
        async with open_client(server.url, transports=WEBSOCKET) as client:
            with trio.move_on_after(0) as cancelled:
                await client.call("say", "taken back")
            assert cancelled.cancelled_caught
            client.emit("say", "sent")
            await received.until(1)
            assert received == [("say", "sent")]


@pytest.mark.parametrize("transports", [("polling",), WEBSOCKET])
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("retries", [None, 1])
async def test_what_waits_is_sent_before_the_block_is_left(transports, connected, retries):
    received = Log()
    broker = Broker()
    broker.on("say")(lambda socket, value: received.note("say")(value))
    async with serving(broker) as server:
        async with open_client(server.url, transports=transports, retries=retries) as client:
            if connected:
                await client.wait_connected()
            for number in range(100):
                client.emit("say", number)
        await received.until(100)
        assert received == [("say", number) for number in range(100)]


@pytest.mark.parametrize("retries", [None, 1])
async def test_the_block_is_left_in_time_when_what_waits_cannot_be_sent(retries):
    limits = Limits(close_timeout=0.1)
    async with scripted(say_nothing) as url:
        async with open_client(url, transports=WEBSOCKET, retries=retries, limits=limits) as client:
            log = Log().watch(client)
            client.emit("say")
        assert log == []


async def test_a_fast_sender_goes_at_the_pace_of_the_connection():
    async with serving(make_broker()) as server:
        async with open_client(server.url, transports=WEBSOCKET) as client:
            for number in range(40):
                await client.send_event("echo", "x" * 100_000, number)  # 4 MB; 1 MiB may wait
            assert await client.call("echo", "end") == "end"


async def test_an_event_that_is_emitted_while_a_connection_ends_is_kept():
    async def broken(talk: Talk) -> None:
        await talk.enter()
        await talk.hear()
        await talk.say("42[]")

    async with (
        scripted(broken, idle) as url,
        open_client(url, transports=WEBSOCKET, reconnect=QUICK, offline_limit=1_000_000) as client,
    ):
        log = Log().watch(client)
        await client.wait_connected()
        while ("reconnect", 1) not in log:
            assert client.emit("kept") is Verdict.QUEUED
            await trio.lowlevel.checkpoint()


async def test_a_sender_that_waits_for_room_goes_on_by_the_next_connection():
    stuck, heard = trio.Event(), trio.Event()

    async def unread(talk: Talk) -> None:
        await talk.enter()
        await stuck.wait()
        await talk.cut()

    async def listening(talk: Talk) -> None:
        await talk.enter()
        while await talk.hear() != '42["end"]':
            pass
        heard.set()

    async with (
        scripted(unread, listening) as url,
        open_client(url, transports=WEBSOCKET, reconnect=QUICK) as client,
    ):
        await client.wait_connected()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                while not stuck.is_set():
                    await client.send_event("much", "x" * 500_000)
                await client.send_event("end")

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.01)
            stuck.set()
            await heard.wait()


async def test_a_retried_event_is_what_it_was_and_is_given_up_after_the_limit():
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        await talk.enter()
        heard.extend([await talk.hear(), await talk.hear(), await talk.hear(), await talk.hear()])
        await talk.say("433[]")

    async with (
        scripted(script) as url,
        open_client(url, transports=WEBSOCKET, retries=2, ack_timeout=0.02) as client,
    ):
        payload = [1]
        async with trio.open_nursery() as nursery:

            async def lost() -> None:
                with pytest.raises(AckTimeout):
                    await client.call("lost", payload)

            nursery.start_soon(lost)
            await trio.testing.wait_all_tasks_blocked()
            payload.append(2)
            client.emit("next")
            await client.flush()
        assert heard == ['420["lost",[1]]', '421["lost",[1]]', '422["lost",[1]]', '423["next"]']
        assert client.dropped == 1


async def test_a_retried_call_ends_when_there_will_be_no_connection():
    tried = trio.Event()

    async def script(talk: Talk) -> None:
        await talk.enter()
        await talk.hear()
        tried.set()

    async with (
        scripted(script) as url,
        open_client(url, transports=WEBSOCKET, retries=2) as client,
        trio.open_nursery() as nursery,
    ):

        async def call() -> None:
            with pytest.raises(Disconnected, match="io client disconnect"):
                await client.call("x")

        nursery.start_soon(call)  # has been sent
        await tried.wait()
        nursery.start_soon(call)  # waits for the other
        client.emit("stays")
        await trio.testing.wait_all_tasks_blocked()
        client.disconnect()
        with pytest.raises(Disconnected, match="io client disconnect"):
            await client.flush()
        with pytest.raises(Disconnected, match="io client disconnect"):
            await client.call("x")


async def test_flushing_what_is_to_be_retried_ends_when_the_server_refuses():
    async with serving(make_broker()) as server:
        async with open_client(f"{server.url}/chat", retries=2) as client:
            client.emit("say")
            with pytest.raises(ConnectError, match="invalid token"):
                await client.flush()


async def test_a_cancelled_call_that_would_be_retried_is_taken_back_if_it_has_not_been_sent():
    heard: list[Any] = []
    cancelled = trio.Event()

    async def script(talk: Talk) -> None:
        await cancelled.wait()
        await talk.enter()
        heard.append(await talk.hear())
        await talk.say("430[]")

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET, retries=2) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call, "waits for the connection")
            nursery.start_soon(client.call, "waits for the other")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        cancelled.set()
        client.emit("sent")
        await client.flush()
        assert heard == ['420["sent"]']


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_what_gives_way_on_a_connection_is_counted(policy):
    options = {"limits": Limits(outbox_messages=2), "offline_policy": policy}
    async with serving(make_broker()) as server, open_client(server.url, **options) as client:
        await client.wait_connected()
        for number in range(5):
            client.emit("say", number)
        assert client.dropped == 3
        client.disconnect()
        await client._connector.wait_closed()
        assert client.dropped == 3


async def ask_much_and_read_nothing(talk: Talk) -> None:
    await talk.enter()
    await talk.say(*['421["question"]'] * 100)
    await trio.sleep_forever()


async def test_retries_wait_for_room_behind_answers_that_are_not_taken():
    async with (
        scripted(ask_much_and_read_nothing) as url,
        open_client(url, transports=WEBSOCKET, retries=1, limits=Limits(close_timeout=0.05)) as client,
    ):
        client.on("question")(lambda: "x" * 200_000)
        await client.wait_connected()
        await trio.testing.wait_all_tasks_blocked(0.01)
        client.emit("say")
        await trio.testing.wait_all_tasks_blocked()


# -- what comes in -------------------------------------------------------------


async def test_events_with_acks_by_iteration_and_by_handlers():
    heard: list[Any] = []

    async def script(talk: Talk) -> None:
        await talk.enter()
        await talk.say('420["plain",1]', '421["pair"]', '422["typed","x"]', '423["few"]', '424["coded"]')
        heard.extend([await talk.hear() for _ in range(5)])
        await talk.say('42["done"]')

    async with scripted(script) as url, open_client(url, transports=WEBSOCKET) as client:
        client.on("pair")(lambda: (1, 2))

        @client.on("typed")
        def typed(value: int) -> None: ...

        @client.on("few")
        def few(needed: Any) -> None: ...

        @client.on("coded")
        async def coded(*args: Any) -> None:
            async with trio.open_nursery():
                raise EventError("gone", "it is gone", 7)

        events = aiter(client)
        plain = await anext(events)
        assert (plain.name, plain.args, plain.wants_ack) == ("plain", (1,), True)
        assert await plain.ack("a", "b")
        assert not await plain.ack("again")
        done = await anext(events)
        assert not done.wants_ack
        assert not await done.ack()
    assert sorted(heard)[:2] == ['430["a","b"]', "431[1,2]"]
    for text, code in zip(sorted(heard)[2:], ("invalid_arguments", "wrong_arity", "gone"), strict=True):
        assert f'"code":"{code}"' in text


async def test_an_exception_in_a_handler_ends_the_block_as_it_is():
    async with serving(make_broker()) as server:
        with pytest.raises(ZeroDivisionError):
            async with open_client(server.url) as client:

                @client.on("said")
                async def said(value: int) -> float:
                    return 1 / value

                client.emit("say", 0)
                await trio.sleep_forever()


async def test_or_is_logged(caplog):
    async with serving(make_broker()) as server:
        async with open_client(server.url, on_handler_error="log") as client:
            client.on("question")(lambda value: 1 / value)
            client.emit("ask", 0)
            event = await anext(aiter(client))
            assert event.args[0]["error"]["code"] == "internal"
        assert "a handler failed" in caplog.text


@pytest.mark.parametrize("policy", ["raise", "log"])
async def test_an_answer_that_has_no_form_is_an_exception_of_its_handler(policy, caplog):
    async with serving(make_broker()) as server:
        with pytest.raises(TypeError) if policy == "raise" else nullcontext():
            async with open_client(server.url, on_handler_error=policy) as client:
                client.on("question")(lambda value: object())
                client.emit("ask", 0)
                event = await anext(aiter(client))
                assert event.args[0]["error"]["code"] == "internal"
        assert ("a handler failed" in caplog.text) == (policy == "log")


async def test_an_exception_of_the_block_comes_out_as_it_is():
    async with serving(make_broker()) as server:
        with pytest.raises(KeyError, match="mine"):
            async with open_client(server.url):
                raise KeyError("mine")


@pytest.mark.parametrize("policy", ["raise", "log"])
async def test_an_auth_function_that_fails(policy):
    def auth() -> Any:
        raise RuntimeError("no token")

    async with serving(make_broker()) as server:
        wanted: Any = RuntimeError if policy == "raise" else ConnectError
        with pytest.raises(wanted, match="no token"):
            async with open_client(server.url, auth=auth, reconnect=None, on_handler_error=policy) as client:
                await client.wait_connected()
                await trio.sleep_forever()


@pytest.mark.parametrize("policy", ["raise", "log"])
@pytest.mark.parametrize("auth", ["a token", lambda: {"token": object()}])
async def test_auth_that_is_no_object_of_json(policy, auth):
    wanted: Any = TypeError if policy == "raise" else ConnectError
    async with serving(make_broker()) as server:
        with pytest.raises(wanted):
            async with open_client(server.url, auth=auth, reconnect=None, on_handler_error=policy) as client:
                await client.wait_connected()
                await trio.sleep_forever()


async def test_a_handler_may_wait_for_an_ack_while_more_events_come_than_the_inbox_holds():
    broker = Broker()

    @broker.on("burst")
    async def burst(socket: Socket, count: int) -> None:
        for number in range(count):
            socket.emit("tick", number)

    broker.on("echo")(lambda socket, value: value)
    async with serving(broker) as server:
        async with open_client(server.url, transports=WEBSOCKET) as client:
            ticks: list[int] = []
            done = trio.Event()

            @client.on("tick")
            async def tick(number: int) -> None:
                ticks.append(await client.call("echo", number))
                if number == 999:
                    done.set()

            client.emit("burst", 1000)
            await done.wait()
            assert ticks == list(range(1000))


async def test_a_reader_that_is_behind_stops_the_reading_and_loses_nothing():
    broker = Broker()

    @broker.on("burst")
    async def burst(socket: Socket, count: int) -> None:
        for number in range(count):
            await socket.send_event("tick", number)

    async with serving(broker) as server:
        async with open_client(server.url, transports=WEBSOCKET) as client:
            client.emit("burst", 3000)
            numbers = []
            async for event in client:
                numbers.append(event.args[0])
                if len(numbers) == 3000:
                    break
            assert numbers == list(range(3000))


async def test_leaving_cancels_a_handler_and_tells_those_of_disconnect():
    async with serving(make_broker()) as server:
        begun, cleaned = trio.Event(), trio.Event()
        log = Log()
        async with open_client(server.url, transports=WEBSOCKET) as client:
            log.watch(client)

            @client.on("said")
            async def said() -> None:
                begun.set()
                try:
                    await trio.sleep_forever()
                finally:
                    cleaned.set()

            client.emit("say")
            await begun.wait()
        assert cleaned.is_set()
        assert log == [("connect",), ("disconnect", "io client disconnect")]


async def test_a_server_that_asks_and_takes_no_answers_is_read_no_more():
    async def ask(talk: Talk) -> None:
        await talk.enter()
        while True:
            await talk.say('421["question"]')

    limits = Limits(outbox_messages=100, pause_timeout=0.3, close_timeout=0.05)
    async with (
        scripted(ask) as url,
        open_client(url, transports=WEBSOCKET, reconnect=None, limits=limits) as client,
    ):
        client.on("question")(lambda: "x" * 20_000)
        log = Log().watch(client)
        await log.until(2)
        assert log[1] == ("disconnect", "transport error")


# -- leaving, cancelled --------------------------------------------------------


@pytest.mark.parametrize("transports", [("polling",), WEBSOCKET, ("polling", "websocket")])
async def test_cancelled_at_any_moment_it_leaves_nothing(transports):
    """`serving` holds that no task and no socket is left."""
    async with serving(make_broker()) as server:
        for steps in (*range(1, 40, 3), 60, 100, 200):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_after, steps, scope)
                    async with open_client(server.url, transports=transports) as client:
                        client.emit("say", "x")
                        await client.call("echo", 1)
                        await trio.sleep_forever()
            assert scope.cancelled_caught


async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("transports", [("polling",), WEBSOCKET, ("polling", "websocket")])
async def test_left_at_any_moment_it_holds_no_connection(transports):
    async with serving(make_broker()) as server:
        for steps in range(40):
            async with open_client(server.url, transports=transports) as client:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                client.disconnect()
                await client._connector.wait_closed()
                assert client.transport is None


# -- recovery ------------------------------------------------------------------


async def test_an_offset_is_asked_for_and_a_volatile_text_is_not_taken_for_one():
    said: list[Any] = []

    async def first(talk: Talk) -> None:
        said.append(await talk.enter("A", pid="P"))
        await talk.say('42["news",1,"unknown-1"]', '420["acked","not this"]')
        await talk.hear()
        await talk.close()

    async def second(talk: Talk) -> None:
        await talk.open()
        said.append(await talk.hear())
        await talk.say('42["news",2,"unknown-2"]', '40{"sid":"A","pid":"P"}')

    async with (
        scripted(first, second) as url,
        open_client(url, transports=WEBSOCKET, reconnect=QUICK, auth={"user": "u"}) as client,
    ):
        client.on("acked")(lambda text: None)
        log = Log().watch(client)
        events = aiter(client)
        assert (await anext(events)).args[0] == 1
        assert (await anext(events)).args[0] == 2
        await log.until(5)
        assert client.recovered
        assert client.id == "A"
    assert said[0] == {"user": "u"}
    assert said[1] == '40{"pid":"P","offset":"unknown-1","user":"u"}'


@pytest.mark.parametrize("volatile_last", [False, True])
@pytest.mark.parametrize("marks", [pytest.param(None, marks=needs_node)])
async def test_recovery_with_node(volatile_last, marks):
    recovery = {"connectionStateRecovery": {"maxDisconnectionDuration": 60_000}}
    async with node_server(**recovery) as url:
        async with (
            open_client(url, transports=WEBSOCKET, reconnect=QUICK) as client,
            open_client(url, transports=WEBSOCKET) as other,
        ):
            await client.wait_connected()
            await other.wait_connected()
            log = Log().watch(client)
            events = aiter(client)
            client.emit("say", "before")
            assert (await anext(events)).args == ("before",), "the offset is no argument"
            if volatile_last:
                client.emit("volatile", "a text at the end")
                assert (await anext(events)).args == ("a text at the end",)
            known = client.id
            client.emit("cut")
            await log.until(1)
            for number in range(3):
                other.emit("others", number)
            while (await anext(events)).args != (2,):
                pass
            await client.wait_connected()
            assert client.recovered
            assert client.id == known


# -- without httpx2 -------------------------------------------------------------


async def test_websocket_alone_works_without_httpx_and_polling_says_what_to_install():
    program = """
import sys
sys.modules["httpx2"] = None
import trio
from broker import Broker, open_client
async def main():
    async with trio.open_nursery() as nursery:
        broker = Broker()
        broker.on("echo")(lambda socket, value: value)
        server = await nursery.start(broker.serve, "127.0.0.1", 0)
        async with open_client(server.url, transports=("websocket",)) as client:
            print(await client.call("echo", 1))
        try:
            async with open_client(server.url): pass
        except ModuleNotFoundError as error:
            print(error)
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    ran = await run_program([sys.executable, "-c", program], capture_stdout=True)
    number, message = ran.stdout.decode().splitlines()
    assert number == "1"
    assert "pip install 'trio-broker[client]'" in message
