"""Codecs: the text, msgpack, parsers of an application, and what they may not do."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from broker import ConfigError, Settings
from broker.flow import codec as subject
from broker.flow.codec import Parser, ParserCodec, make_codec
from protocol import Limits, Violation
from protocol.socketio.decoder import NEED_ATTACHMENTS, Decoder
from protocol.socketio.msgpack import MsgpackParser, encode
from protocol.socketio.packet import Packet, PacketType

CONNECT = Packet(PacketType.CONNECT)
EVENT = Packet(PacketType.EVENT, "/", None, ["x"])
BINARY = Packet(PacketType.BINARY_EVENT, "/", None, ["x", b""])


class Scripted:
    """A parser that does what it is told."""

    def __init__(
        self,
        parts: Callable[[Packet], Any] = lambda packet: ["text"],
        found: Callable[[bytes], Any] = lambda message: CONNECT,
        pending: Any = None,
    ) -> None:
        self._parts = parts
        self._found = found
        self.pending = pending
        self.resets = 0

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        return self._parts(packet)

    def decoder(self, limits: Limits, max_payload_bytes: int) -> Scripted:
        return self

    def feed_text(self, text: bytes) -> Any:
        return self._found(text)

    def feed_binary(self, data: bytes) -> Any:
        return self._found(data)

    def reset(self) -> None:
        self.resets += 1


def test_the_text_is_the_default() -> None:
    codec = make_codec(None)
    assert codec.is_text
    assert codec.event("/a", "x", [1], 2).text == b'42/a,2["x",1]'
    assert codec.ack("/", 3, [None]).text == b"433[null]"
    assert codec.control(CONNECT).text == b"40"
    assert type(codec.decoder(Limits(), 10)) is Decoder


@pytest.mark.clause("SIO-PARSER-2")
def test_msgpack_makes_one_binary_packet() -> None:
    codec = make_codec("msgpack")
    assert not codec.is_text
    event = codec.event("/a", "x", (b"\x01",), 2)
    packed = encode(Packet(PacketType.EVENT, "/a", 2, ["x", b"\x01"]))
    assert (event.text, list(event.attachments)) == (b"", [packed])
    assert (event.is_counted, event.size, event.packets) == (True, len(packed), 1)
    assert event.build_frame() == bytes((0x82, len(packed))) + packed
    (base64,) = event.base64_packets()
    assert base64.startswith(b"b")
    ack = codec.ack("/", 3, (None, 1))
    assert list(ack.attachments) == [encode(Packet(PacketType.ACK, "/", 3, [None, 1]))]
    assert (ack.overflow, ack.key) == (None, None)
    assert codec.decoder(Limits(), 10).feed_binary(packed) == Packet(
        PacketType.EVENT, "/a", 2, ["x", b"\x01"]
    )


@pytest.mark.clause("SIO-PARSER-1")
@pytest.mark.parametrize(
    ("parts", "text", "attachments"),
    [
        (["é"], "4é".encode(), []),
        ([""], b"4", []),
        (("x", b"\x01", b""), b"4x", [b"\x01", b""]),
        ([b"\x01", b"\x02"], b"", [b"\x01", b"\x02"]),
    ],
)
def test_parts_of_a_parser(parts: Any, text: bytes, attachments: list[bytes]) -> None:
    message = ParserCodec(Scripted(lambda packet: parts)).control(CONNECT)
    assert (message.text, list(message.attachments)) == (text, attachments)
    assert message.packets == len(parts)


def fail(*_: Any) -> Any:
    raise LookupError("no such thing")


@pytest.mark.parametrize("parts", [[], [b"", "x"], ["x", "y"], [1], None, 5, ["\ud800"]])
def test_parts_that_are_refused(parts: Any) -> None:
    with pytest.raises(TypeError):
        ParserCodec(Scripted(lambda packet: parts)).ack("/", 1, [])


def test_a_parser_that_fails_to_encode_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot encode this EVENT packet: no such thing"):
        ParserCodec(Scripted(fail)).event("/", "x", [])


@pytest.mark.parametrize(
    ("found", "pending", "outcome"),
    [
        (lambda message: EVENT, None, EVENT),
        (lambda message: Violation.TOO_DEEP, None, Violation.TOO_DEEP),
        (lambda message: NEED_ATTACHMENTS, EVENT, NEED_ATTACHMENTS),
    ],
)
def test_what_a_decoder_says_holds(found: Any, pending: Any, outcome: Any) -> None:
    parser = Scripted(found=found, pending=pending)
    decoder = ParserCodec(parser).decoder(Limits(), 10)
    assert decoder.feed_text(b"x") == outcome
    assert decoder.feed_binary(b"x") == outcome
    assert decoder.pending is pending
    decoder.reset()
    assert parser.resets == 1


@pytest.mark.parametrize(
    ("found", "violation"),
    [
        (fail, Violation.INVALID_PAYLOAD),
        (lambda message: None, Violation.INVALID_PAYLOAD),
        (lambda message: NEED_ATTACHMENTS, Violation.INVALID_PAYLOAD),
        (lambda message: BINARY, Violation.INVALID_PAYLOAD),
        (lambda message: ("event", "/", None, ["x"]), Violation.INVALID_PAYLOAD),
        (lambda message: Packet(PacketType.EVENT, "/", None, ()), Violation.INVALID_PAYLOAD),
        (lambda message: Packet(PacketType.EVENT, "/", None, ["connect"]), Violation.RESERVED_EVENT),
        (lambda message: Packet(PacketType.EVENT, "a", None, ["x"]), Violation.BAD_NAMESPACE),
        (lambda message: Packet(PacketType.ACK, "/", "1", []), Violation.BAD_ACK_ID),
    ],
)
def test_what_a_decoder_may_not_say(found: Any, violation: Violation) -> None:
    decoder = ParserCodec(Scripted(found=found)).decoder(Limits(), 10)
    assert decoder.feed_text(b"x") is violation


# The setting


@pytest.mark.parametrize("value", ["json", "", 5, object(), Scripted, b"msgpack"])
def test_values_that_are_no_parser(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(parser=value)
    (line,) = caught.value.problems
    assert line.startswith(
        'parser: must be None, "msgpack" or an object with the methods encode and decoder, found'
    )


def test_values_that_are_one() -> None:
    parser: Parser = Scripted()
    assert Settings().parser is None
    assert Settings(parser=parser).parser is parser
    assert Settings(parser="msgpack").parser == "msgpack"
    assert isinstance(MsgpackParser(), Parser)
    rows = dict(line.split(None, 1) for line in Settings(parser=parser).describe())
    assert rows["parser"] == "Scripted"


def test_the_setting_in_a_file_and_in_the_environment(tmp_path: Any) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('parser = "msgpack"')
    assert Settings.load(file, {}).parser == "msgpack"
    assert Settings.load(file, {"BROKER_PARSER": "none"}).parser is None
    assert Settings.from_environ({"BROKER_PARSER": "msgpack"}).parser == "msgpack"
    file.write_text("parser = 5")
    with pytest.raises(ConfigError, match=r"broker\.parser: must be None"):
        Settings.load(file, {})


def test_a_missing_package_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> Any:
        return None if name == "msgpack" else importlib.util.find_spec(name)

    monkeypatch.setattr(subject, "find_spec", find_spec)
    with pytest.raises(ConfigError) as caught:
        Settings(parser="msgpack")
    assert caught.value.problems == ("parser: needs the package msgpack; pip install 'trio-broker[msgpack]'",)
