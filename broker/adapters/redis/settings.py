"""Options that the adapter and the emitters have in common, and what they need to be installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal, get_args

from broker.flow.settings_checks import ConfigError
from protocol.bus.channels import SubscriptionMode

Mode = Literal["classic", "sharded", "streams"]
_MODES: Final[tuple[str, ...]] = get_args(Mode)
_SUBSCRIPTION_MODES: Final[tuple[str, ...]] = get_args(SubscriptionMode)


def check_choice(mode: str, subscription_mode: str) -> None:
    """Hold the modes to those there are.

    Raises:
        ConfigError: One of them is none.
    """
    if mode not in _MODES:
        raise ConfigError(f"adapter: mode is one of {', '.join(_MODES)}, not {mode!r}")
    if subscription_mode not in _SUBSCRIPTION_MODES:
        raise ConfigError(f"adapter: subscription_mode is one of {', '.join(_SUBSCRIPTION_MODES)}")


def check_packages() -> None:
    """Hold what is needed to be installed.

    Raises:
        ConfigError: It is not.
    """
    missing = [name for name in ("hiredis", "msgpack") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"adapter: needs {' and '.join(missing)}; pip install 'trio-broker[redis]'")
