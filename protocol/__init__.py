"""Socket.IO 5 over Engine.IO 4 as sans-IO code: bytes and `now` in, values out; SPEC.md clause by clause."""

from .limits import Limits
from .reasons import ClientReason, CloseCode, DisconnectReason, Refusal, Refused, Violation

__all__ = ["ClientReason", "CloseCode", "DisconnectReason", "Limits", "Refusal", "Refused", "Violation"]
