"""The queue behind an outbox: order, drops in the middle, and bounds on what is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_nothing_to_take() -> None:
    with pytest.raises(IndexError):
        Backlog().pop()
    assert not Backlog().drop_oldest()


def test_replaced_messages_leave_nothing_behind_one_that_stays() -> None:
    """As of a client that takes nothing, and is told a position again and again."""
    backlog = Backlog()
    backlog.put(message("A"))
    for number in range(10_000):
        backlog.drop_key(("/", "k"))
        backlog.put(message(str(number), "k"))
    assert (len(backlog), backlog.bytes) == (2, 5)
    assert len(backlog._places) < 200
    assert len(backlog._droppable) < 200
    assert texts(backlog.take()) == "A9999"


KEYS = st.sampled_from([None, "a", "b"])
STEPS = st.one_of(
    st.tuples(st.just("put"), KEYS), st.sampled_from([("pop",), ("oldest",), ("key", "a"), ("key", "b")])
)


@given(st.lists(STEPS, max_size=400))
def test_it_does_what_a_list_does(steps: list[tuple[str, ...]]) -> None:
    backlog = Backlog()
    model: list[tuple[str, str | None]] = []
    latest: dict[str, str] = {}
    for number, (step, *rest) in enumerate(steps):
        if step == "put":
            if rest[0] is not None:  # as an outbox does
                dropped = backlog.drop_key(("/", rest[0]))
                assert dropped == ((latest.get(rest[0], ""), rest[0]) in model)
                model = [one for one in model if one[1] != rest[0]]
                latest[rest[0]] = f"{number},"
            backlog.put(message(f"{number},", rest[0]))
            model.append((f"{number},", rest[0]))
        elif step == "pop" and model:
            assert backlog.pop().text.decode() == model.pop(0)[0]
        elif step == "oldest":
            oldest = next((one for one in model if one[1] is not None), None)
            assert backlog.drop_oldest() == (oldest is not None)
            model = [one for one in model if one != oldest]
        elif step == "key":
            assert backlog.drop_key(("/", rest[0])) == any(one[1] == rest[0] for one in model)
            model = [one for one in model if one[1] != rest[0]]
        assert len(backlog) == len(model)
        assert texts(list(backlog)) == "".join(text for text, _ in model)
        assert backlog.bytes == sum(len(text) for text, _ in model)
