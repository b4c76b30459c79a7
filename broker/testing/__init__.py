"""Test programs that speak Socket.IO: a network in memory, scripted peers, faults, and a clock that jumps."""

from .clients import HarnessClient
from .fake_server import FakeConnection, FakeRequest, FakeServer
from .faults import UpgradeStep, Wire
from .harness import Harness, open_harness
from .network import Connector, VirtualNetwork
from .peers import Peer, PeerClosed, WebSocketPeer
from .pipes import VirtualStream, stream_pair
from .polling_peer import HttpAnswer, PollingPeer, request
from .replaying import replay
from .transcript import Entry, Transcript

__all__ = [
    "Connector",
    "Entry",
    "FakeConnection",
    "FakeRequest",
    "FakeServer",
    "Harness",
    "HarnessClient",
    "HttpAnswer",
    "Peer",
    "PeerClosed",
    "PollingPeer",
    "Transcript",
    "UpgradeStep",
    "VirtualNetwork",
    "VirtualStream",
    "WebSocketPeer",
    "Wire",
    "open_harness",
    "replay",
    "request",
    "stream_pair",
]
