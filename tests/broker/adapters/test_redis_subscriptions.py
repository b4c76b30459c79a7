"""The channels of a Redis connection, and what is written to hear them."""

from __future__ import annotations

from broker.adapters.redis.subscriptions import Subscriptions, write_subscriptions


def test_plain_channels_go_in_one_command_and_sharded_ones_in_one_each() -> None:
    assert write_subscriptions([("SUBSCRIBE", "a"), ("SUBSCRIBE", "b")]).count(b"SUBSCRIBE") == 1
    assert write_subscriptions([("SSUBSCRIBE", "a"), ("SSUBSCRIBE", "b")]).count(b"SSUBSCRIBE") == 2
    assert write_subscriptions([]) == b""


def test_the_common_channel_is_the_last() -> None:
    subscriptions = Subscriptions("all")
    for channel in ("all", "a", "b"):
        assert subscriptions.add(("SSUBSCRIBE", channel))
        assert not subscriptions.add(("SSUBSCRIBE", channel))
    assert [channel for _, channel in subscriptions.all()] == ["a", "b", "all"]
    written = write_subscriptions(subscriptions.all())
    assert written.count(b"SSUBSCRIBE") == 3
    assert written.endswith(b"all\r\n")


def test_changes_are_made_up_for() -> None:
    subscriptions = Subscriptions(None)
    subscriptions.add(("SUBSCRIBE", "stays"))
    subscriptions.add(("SUBSCRIBE", "goes"))
    heard = subscriptions.all()
    assert subscriptions.remove(("SUBSCRIBE", "goes"))
    assert not subscriptions.remove(("SUBSCRIBE", "goes"))
    subscriptions.add(("SUBSCRIBE", "comes"))
    assert list(subscriptions.changes_since(heard)) == [("SUBSCRIBE", "comes"), ("UNSUBSCRIBE", "goes")]
