"""The acks that one peer owes: each waiter gets exactly one outcome."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from broker import AckTimeout, Disconnected, DisconnectReason, TooManyAcks
from broker.flow.acks import AckTable, AckWaiter, single_value

GONE = DisconnectReason.TRANSPORT_CLOSE


def test_each_id_is_settled_once() -> None:
    table = AckTable(2)
    outcomes: list[Any] = []
    table.expect(0, outcomes.append)
    assert table.resolve(0, [1])
    assert not table.resolve(0, [2])
    assert not table.resolve(7, [3])
    assert outcomes == [[1]]
    assert len(table) == 0


def test_the_table_is_bounded() -> None:
    table = AckTable(2)
    for ack_id in range(2):
        table.expect(ack_id, lambda outcome: None)
    with pytest.raises(TooManyAcks, match="owes 2 acks"):
        table.expect(2, lambda outcome: None)
    table.forget(0)
    table.forget(0)
    table.expect(2, lambda outcome: None)
    assert len(table) == 2


def test_all_fail_with_the_reason_and_may_ask_anew_meanwhile() -> None:
    table = AckTable(1)
    outcomes: list[Any] = []

    def settle(outcome: Any) -> None:
        outcomes.append(outcome)
        table.expect(1, outcomes.append)

    table.expect(0, settle)
    table.fail_all(GONE)
    assert outcomes == [GONE]
    assert len(table) == 1


async def test_waiter_gets_the_values_or_the_reason() -> None:
    waiter = AckWaiter()
    waiter.settle([1, 2])
    assert await waiter.wait(1) == [1, 2]
    waiter = AckWaiter()
    waiter.settle(GONE)
    with pytest.raises(Disconnected, match="transport close") as caught:
        await waiter.wait(1)
    assert caught.value.reason is GONE


async def test_waiter_times_out(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    with pytest.raises(AckTimeout, match=r"no ack within 2\.5 s"):
        await AckWaiter().wait(2.5)
    assert trio.current_time() - before == 2.5


@pytest.mark.parametrize(("values", "value"), [([], None), ([1], 1), ([None], None), ([1, 2], (1, 2))])
def test_single_value(values: list[Any], value: Any) -> None:
    assert single_value(values) == value
