"""A structured-concurrency message broker for Trio that speaks Socket.IO 5 over Engine.IO 4."""

from protocol import ClientReason, DisconnectReason, Limits
from protocol.recovery import RecoveryRefusal

from .adapters.base import Answers, Gap
from .adapters.errors import BusError, BusRefused, BusUnavailable
from .adapters.redis.adapter import RedisAdapter
from .adapters.redis.emitter import Emitter, TrioEmitter, open_emitter
from .client.backoff import Backoff
from .client.client import Client, open_client
from .client.errors import BufferFull, ConnectError
from .client.events import Event
from .client.socket import ClientSocket
from .flow.codec import PacketDecoder, Parser
from .flow.errors import (
    NO_ACK,
    AckTimeout,
    BrokerError,
    ConnectRefused,
    Disconnected,
    EventError,
    NotRunning,
    TooManyAcks,
    Unanswered,
)
from .flow.outbox import Verdict
from .flow.readiness import Readiness
from .flow.request import Handshake, HttpRequest
from .flow.settings import ConfigError, CookieOptions, History, Recovery, Settings
from .rooms.broadcast import Broadcast
from .rooms.collecting import BroadcastAcks
from .rooms.fanout import EmitResult
from .rooms.history import HistoryEvent, RoomHistory
from .rooms.namespace import Namespace
from .rooms.parent import ParentNamespace
from .rooms.presence import Presence, PresenceChange
from .rooms.recovery import ExpiredSession
from .rooms.remote import RemoteSocket
from .rooms.socket import Socket
from .server.addresses import Server
from .server.broker import Broker
from .server.engine_hooks import HttpResponse
from .server.statistics import Statistics

__all__ = [
    "NO_ACK",
    "AckTimeout",
    "Answers",
    "Backoff",
    "Broadcast",
    "BroadcastAcks",
    "Broker",
    "BrokerError",
    "BufferFull",
    "BusError",
    "BusRefused",
    "BusUnavailable",
    "Client",
    "ClientReason",
    "ClientSocket",
    "ConfigError",
    "ConnectError",
    "ConnectRefused",
    "CookieOptions",
    "DisconnectReason",
    "Disconnected",
    "EmitResult",
    "Emitter",
    "Event",
    "EventError",
    "ExpiredSession",
    "Gap",
    "Handshake",
    "History",
    "HistoryEvent",
    "HttpRequest",
    "HttpResponse",
    "Limits",
    "Namespace",
    "NotRunning",
    "PacketDecoder",
    "ParentNamespace",
    "Parser",
    "Presence",
    "PresenceChange",
    "Readiness",
    "Recovery",
    "RecoveryRefusal",
    "RedisAdapter",
    "RemoteSocket",
    "RoomHistory",
    "Server",
    "Settings",
    "Socket",
    "Statistics",
    "TooManyAcks",
    "TrioEmitter",
    "Unanswered",
    "Verdict",
    "open_client",
    "open_emitter",
]
