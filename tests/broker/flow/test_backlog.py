"""The queue behind an outbox: order, drops in the middle, and bounds on what is taken."""

from __future__ import annotations

from broker.flow.backlog import Backlog
from broker.flow.encoded import EncodedMessage
from broker.flow.overflow import Overflow


def message(text: str, key: str | None = None, attachments: int = 0) -> EncodedMessage:
    made = EncodedMessage(text.encode(), [b"x"] * attachments)
    if key is not None:
        made.key, made.overflow = ("/", key), Overflow.KEEP_LATEST
    return made


def texts(messages: list[EncodedMessage]) -> str:
    return "".join(one.text.decode() for one in messages)


def test_order_and_counts() -> None:
    backlog = Backlog()
    for letter in "abc":
        backlog.put(message(letter))
    assert (len(backlog), backlog.bytes) == (3, 3)
    assert texts(backlog.take()) == "abc"
    assert (len(backlog), backlog.bytes) == (0, 0)
    assert backlog.take() == []


def test_take_is_bounded_by_bytes_and_by_packets() -> None:
    backlog = Backlog()
    backlog.put(message("a", attachments=5))
    for letter in "bcd":
        backlog.put(message(letter, "k"))
    assert texts(backlog.take(max_packets=2)) == "a"  # the first goes whatever it is
    assert texts(backlog.take(max_bytes=2)) == "bc"
    backlog.put(message("e", attachments=1))
    assert texts(backlog.take(max_packets=2)) == "d"
    assert backlog.drop_oldest() is False  # `e` may not be dropped
    assert texts(backlog.take(max_packets=2)) == "e"


def test_dropping_keeps_the_order() -> None:
    backlog = Backlog()
    backlog.put(message("A"))
    for letter in "bcdef":
        backlog.put(message(letter, letter))
    assert backlog.drop_oldest()
    assert backlog.drop_key(("/", "d"))
    assert not backlog.drop_key(("/", "d"))
    assert not backlog.drop_key(("/", "A"))
    assert (len(backlog), backlog.bytes) == (4, 4)
    backlog.put(message("g", "g"))
    backlog.put(message("h", "h"))
    assert texts(backlog.take()) == "Acefgh"


def test_the_next_message_may_be_dropped_after_it_was_looked_at() -> None:
    backlog = Backlog()
    backlog.put(message("A"))
    backlog.put(message("b", "b", attachments=3))
    backlog.put(message("c", "c"))
    assert texts(backlog.take(max_packets=2)) == "A"  # `b` was looked at, and left
    assert backlog.drop_key(("/", "b"))
    assert texts(backlog.take()) == "c"


def test_key_means_the_latest() -> None:
    backlog = Backlog()
    backlog.put(message("1", "k"))
    backlog.put(message("2", "k"))
    assert backlog.drop_key(("/", "k"))
    assert texts(backlog.take()) == "1"
