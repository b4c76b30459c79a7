"""How long to wait before each attempt to come back."""

from __future__ import annotations

import math
from typing import Any

from attrs import Attribute, field, frozen, validators


def _check_seconds(_: Any, attribute: Attribute[float], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


@frozen(kw_only=True)
class Backoff:
    """Exponential backoff with jitter. Spec: SIO-REASON-4.

    Attributes:
        initial: Seconds before the first attempt, on average.
        maximum: Most seconds before any attempt.
        factor: How much longer each wait is than the one before.
        jitter: The part of a wait, from 0 to 1, by which chance makes it longer or shorter.
        attempts: How many attempts before giving up; None never gives up.
    """

    initial: float = field(default=1.0, validator=_check_seconds)
    maximum: float = field(default=5.0, validator=_check_seconds)
    factor: float = field(default=2.0, validator=[validators.ge(1)])
    jitter: float = field(default=0.5, validator=[validators.ge(0), validators.le(1)])
    attempts: int | None = field(
        default=None, validator=validators.optional([validators.instance_of(int), validators.gt(0)])
    )

    def delay(self, attempt: int, chance: float) -> float:
        """Return the seconds to wait before an attempt.

        Args:
            attempt: Its number, from 1.
            chance: A random number from 0 to 1.
        """
        # A large exponent overflows a float; the maximum is reached long before.
        plain = self.initial * self.factor ** min(attempt - 1, 64)
        return min(plain * (1 + self.jitter * (2 * chance - 1)), self.maximum)

    def gives_up(self, attempt: int) -> bool:
        """Tell whether there is no attempt of this number."""
        return self.attempts is not None and attempt > self.attempts
