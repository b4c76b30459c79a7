"""The client's parts that need no network: backoff, offsets, buffers, batches, options, the OPEN packet."""

from __future__ import annotations

from typing import Any

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st

from broker import Backoff, BufferFull, ConfigError, Verdict
from broker.client.engine import Packet, PacketType, _closed_by_server
from broker.client.errors import TransportFailed, parse_retry_after
from broker.client.framing import masked_frames
from broker.client.handlers import SOCKET_LIFECYCLE, Listening
from broker.client.handshake import read_opened
from broker.client.offline import OfflinePolicy, Pending, SendBuffer
from broker.client.offsets import OffsetTracker
from broker.client.options import ClientOptions, namespaces_of
from broker.client.polling import batches
from broker.client.replies import Reply
from broker.flow.encoded import EncodedMessage
from protocol import ClientReason

NOW = 1_764_000_000.0  # seconds since 1970
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"


# -- backoff -------------------------------------------------------------------


def test_waits_double_up_to_the_maximum():
    backoff = Backoff()
    assert [backoff.delay(attempt, 0.5) for attempt in range(1, 6)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1))
def test_a_wait_is_within_half_of_the_plain_one_and_never_above_the_maximum(attempt, chance):
    plain = min(2.0 ** min(attempt - 1, 10), 1_000)
    delay = Backoff().delay(attempt, chance)
    assert min(plain / 2, 5.0) <= delay <= min(plain * 1.5, 5.0)


def test_it_gives_up_after_the_attempts():
    assert [Backoff(attempts=2).gives_up(attempt) for attempt in (1, 2, 3)] == [False, False, True]
    assert not Backoff().gives_up(10**9)


@pytest.mark.parametrize(
    "wrong", [{"initial": 0}, {"maximum": float("inf")}, {"factor": 0.5}, {"jitter": 2}, {"attempts": 0}]
)
def test_a_backoff_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Backoff(**wrong)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (b" 7 ", 7.0), ("999999", 3600.0), (None, 0.0), ("Mon, 1 Jan", 0.0), ("-3", 0.0)],
)
def test_retry_after(value, seconds):
    assert parse_retry_after(value) == seconds


# -- offsets -------------------------------------------------------------------


def yeast(seconds: float, suffix: str = "") -> str:
    number, text = round(seconds * 1000), ""
    while number:
        number, digit = divmod(number, 64)
        text = DIGITS[digit] + text
    return text + suffix


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (yeast(NOW), yeast(NOW + 1, ".a")),
        (f"{round(NOW * 1000)}-0", f"{round(NOW * 1000) + 5}-12"),
        (f"{round(NOW):x}" + "ab" * 8, f"{round(NOW) + 3:x}" + "cd" * 8),
    ],
)
def test_a_volatile_text_is_no_offset_once_one_has_been_seen(first, second):
    tracker = OffsetTracker()
    assert tracker.note([1, first], None, NOW)
    for text in ("hello", "message", "f" * 24, "1234567890123-0", "", yeast(0), "x" * 40):
        assert not tracker.note([text], None, NOW)
        assert tracker.offset == first
    assert not tracker.note([second], 3, NOW), "an event that asks for an ack has no offset"
    assert tracker.offset == first
    assert tracker.note([second], None, NOW)
    assert tracker.offset == second


def test_an_offset_of_unknown_form_is_taken_as_the_reference_does():
    tracker = OffsetTracker()
    assert not tracker.note(["a", "unknown/1"], None, NOW)
    assert tracker.offset == "unknown/1"
    assert tracker.note([yeast(NOW)], None, NOW)
    assert not tracker.note([f"{round(NOW * 1000)}-0"], None, NOW), "a server has one form"
    assert tracker.offset == yeast(NOW)
    assert not tracker.note([], None, NOW)
    assert not tracker.note(["x", 1], None, NOW)
    tracker.forget()
    assert tracker.offset is None


# -- buffers -------------------------------------------------------------------


def pending(text: bytes, reply: Reply | None = None) -> Pending:
    """An event; what is none may not be dropped."""
    return Pending(EncodedMessage(b"42" + text), None, reply, is_event=True)


CONTROL = Pending(EncodedMessage(b"control"))


def texts(buffer: SendBuffer) -> list[bytes]:
    return [item.message.text for item in buffer.take()]


def test_a_full_buffer_raises_by_default_and_loses_nothing():
    buffer = SendBuffer(2, 100, OfflinePolicy.RAISE)
    buffer.offer(pending(b"1"))
    buffer.offer(pending(b"2"))
    with pytest.raises(BufferFull):
        buffer.offer(pending(b"3"))
    assert buffer.offer(CONTROL) is Verdict.QUEUED
    assert texts(buffer) == [b"421", b"422", b"control"]
    assert buffer.dropped == 0


def test_the_newest_gives_way():
    buffer = SendBuffer(1, 100, OfflinePolicy.DROP_NEWEST)
    assert [buffer.offer(pending(text)) for text in (b"1", b"2")] == [Verdict.QUEUED, Verdict.DROPPED]
    assert (texts(buffer), buffer.dropped) == ([b"421"], 1)


async def test_the_oldest_gives_way_but_never_what_may_not_be_dropped():
    buffer = SendBuffer(100, 12, OfflinePolicy.DROP_OLDEST)
    reply = Reply()
    buffer.offer(CONTROL)
    buffer.offer(pending(b"abc", reply=reply))
    assert buffer.offer(pending(b"xyz")) is Verdict.QUEUED
    with pytest.raises(BufferFull, match="gave way"):
        await reply.wait(1)
    assert buffer.offer(pending(b"too long for it")) is Verdict.DROPPED
    assert texts(buffer) == [b"control"]
    assert buffer.dropped == 3


async def test_whoever_waits_for_room_gets_it_when_something_leaves(autojump_clock):
    import trio

    buffer = SendBuffer(1, 100, OfflinePolicy.RAISE)
    first = pending(b"1")
    buffer.offer(first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffer.wait_room, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        assert buffer.discard(first)
    assert not buffer.discard(first)


# -- polling bodies ------------------------------------------------------------


@given(packets=st.lists(st.binary(min_size=1, max_size=40), max_size=60), limit=st.integers(1, 100))
def test_batches_keep_the_order_and_the_limit(packets, limit):
    split = list(batches(packets, limit))
    assert [packet for batch in split for packet in batch] == packets
    for batch in split:
        assert len(batch) <= 16
        assert len(batch) == 1 or len(b"\x1e".join(batch)) <= limit


# -- WebSocket frames ----------------------------------------------------------


@given(
    texts=st.lists(st.text(max_size=300), min_size=1, max_size=5),
    data=st.lists(st.binary(max_size=300), max_size=3),
)
def test_frames_are_what_another_implementation_reads(texts, data):
    check_frames([EncodedMessage(text.encode(), data) for text in texts])


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 200_001])
def test_frames_of_each_length(size):
    check_frames([EncodedMessage(b"x" * size, [b"y" * size])])


def check_frames(messages: list[EncodedMessage]) -> None:
    server = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    server.receive_data(masked_frames(messages))
    read: list[Any] = [b""]
    for event in server.events():
        part = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        read[-1] += part
        if event.message_finished:
            read.append(b"")
    texts_and_data = [([message.text] if message.text else [], message.attachments) for message in messages]
    wanted = [payload for texts, data in texts_and_data for payload in (*texts, *data)]
    assert read == [*wanted, b""]


# -- options -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"url": "ftp://x"}, "URL"),
        ({"url": "localhost:3000"}, "URL"),
        ({"url": "http://host:abc"}, "URL"),
        ({"url": "http://host:65536"}, "URL"),
        ({"url": "http://[::1"}, "URL"),
        ({"url": "http://host..example"}, "URL"),
        ({"url": f"http://{'a' * 64}.example"}, "URL"),
        ({"proxy": "socks5://host:1080"}, "proxy"),
        ({"proxy": "http://host:65536"}, "proxy"),
        ({"proxy": "host:3128"}, "proxy"),
        ({"path": "socket.io"}, "path"),
        ({"transports": ()}, "transports"),
        ({"transports": ("webtransport",)}, "transports"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"ack_timeout": -1.0}, "ack_timeout"),
        ({"retries": -1}, "retries"),
        ({"offline_policy": "keep"}, "keep"),
        ({"on_handler_error": "ignore"}, "ignore"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong, word):
    with pytest.raises(ValueError, match=word):
        ClientOptions(**{"url": "http://host", **wrong})


@pytest.mark.parametrize("value", ["Msgpack", None, 5])
def test_a_parser_that_there_is_not(value: Any):
    with pytest.raises(ConfigError) as refused:
        ClientOptions(url="http://host", parser=value)
    assert refused.value.problems == (f'parser: must be "json" or "msgpack", found {value!r}',)


def test_a_parser_that_is_not_installed_is_named_as_by_the_server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("broker.flow.codec.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        ClientOptions(url="http://host", parser="msgpack")
    assert refused.value.problems == (
        "parser: needs the package msgpack; pip install 'trio-broker[msgpack]'",
    )


def test_addresses():
    options = ClientOptions(url="https://user@[::1]:8443/chat?room=1", query={"a": "b c"}, path="/io/")
    assert (options.secure, options.host, options.port, options.netloc) == (True, "::1", 8443, "[::1]:8443")
    assert options.resource("polling", "S1") == "/io/?room=1&a=b+c&EIO=4&transport=polling&sid=S1"
    assert options.http_url(None).startswith("https://[::1]:8443/io/?room=1")
    assert namespaces_of(options, None) == ("/chat",)
    assert namespaces_of(options, ["/", "/b"]) == ("/", "/b")
    assert ClientOptions(url="ws://host").port == 80
    for wrong in ([], ["chat"], ["/a,b"]):
        with pytest.raises(ValueError, match="namespace"):
            namespaces_of(options, wrong)


# -- opening -------------------------------------------------------------------


def test_the_open_packet_is_read_in_seconds_and_unknown_keys_are_ignored():
    text = (
        b'{"sid":"S","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":9,"x":1}'
    )
    opened = read_opened(Packet(PacketType.OPEN, text))
    assert (opened.session_id, opened.upgrades) == ("S", ("websocket",))
    assert (opened.ping_interval, opened.ping_timeout, opened.max_payload_bytes) == (25.0, 20.0, 9)


@pytest.mark.parametrize(
    "packet",
    [
        Packet(PacketType.MESSAGE, b"{}"),
        Packet(PacketType.OPEN, b""),
        Packet(PacketType.OPEN, b"[]"),
        Packet(PacketType.OPEN, b'{"pingInterval":1,"pingTimeout":1}'),
        Packet(PacketType.OPEN, b'{"sid":"S","pingInterval":true,"pingTimeout":1}'),
        Packet(PacketType.OPEN, b'{"sid":"S","pingInterval":-5,"pingTimeout":1}'),
    ],
)
def test_what_is_no_open_packet_fails(packet: Any):
    with pytest.raises(TransportFailed) as failed:
        read_opened(packet)
    assert failed.value.reason is ClientReason.TRANSPORT_ERROR


# -- handlers ------------------------------------------------------------------


def test_an_event_has_one_handler_and_reserved_names_have_none():
    listening = Listening(SOCKET_LIFECYCLE, others=True)
    listening.on("x")(print)
    with pytest.raises(ValueError, match="has a handler already"):
        listening.on("x")(print)
    listening.off("x")
    listening.on("x")(print)
    with pytest.raises(ValueError, match="newListener"):
        listening.on("newListener")
    with pytest.raises(ValueError, match="reconnekt"):
        Listening(frozenset({"reconnect"}), others=False).on("reconnekt")


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (b"", "the server closed the session"),
        (b'{"code":209,"message":"slow consumer"}', "the server closed the session: slow consumer"),
        (b'{"message":7}', "the server closed the session"),
        (b"[]", "the server closed the session"),
        (b"{", "the server closed the session"),
    ],
)
def test_what_stands_behind_a_close_is_told(why: bytes, said: str) -> None:
    assert _closed_by_server(why) == said
