"""The checks of a request; edge cases 2 to 14 and the odd queries of attackers."""

from __future__ import annotations

from time import perf_counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import Refusal, Refused
from protocol.engineio.handshake import EngineRequest, check_request, open_packet, parse_query

TRANSPORTS = ("polling", "websocket")
SESSIONS = {"on-polling": "polling", "on-websocket": "websocket"}


def check(
    query: str, method: str = "GET", upgrade: bool = False, origin: str | None = None
) -> tuple[Refusal, str | None] | None:
    parsed = parse_query(query)
    assert parsed is not None
    refused = check_request(EngineRequest(method, parsed, upgrade, origin), TRANSPORTS, SESSIONS.get)
    return None if refused is None else (refused.refusal, refused.rule)


MISMATCH = (Refusal.BAD_REQUEST, "TRANSPORT_MISMATCH")
NO_UPGRADE = (Refusal.BAD_REQUEST, "TRANSPORT_HANDSHAKE_ERROR")


def test_edge_1_handshakes_in_order() -> None:
    assert check("EIO=4&transport=polling&t=abc") is None
    assert check("EIO=4&transport=websocket", upgrade=True) is None
    assert check("EIO=4&transport=polling&a=b&flag") is None


@pytest.mark.parametrize(
    "version", ["", "EIO=abc&", "EIO=3&", "EIO=5&", "EIO=&", "EIO=4&EIO=3&", "EIO=4&EIO=4&"]
)
def test_edge_2_and_14_unsupported_version(version: str) -> None:
    assert check(version + "transport=polling") == (Refusal.UNSUPPORTED_PROTOCOL, None)


@pytest.mark.parametrize(
    "transport",
    ["", "&transport=abc", "&transport=", "&transport=polling&transport=polling", "&transport=webtransport"],
)
def test_edge_3_transport_unknown(transport: str) -> None:
    assert check("EIO=4" + transport) == (Refusal.TRANSPORT_UNKNOWN, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_edge_4_and_13_bad_handshake_method(method: str) -> None:
    assert check("EIO=4&transport=polling", method) == (Refusal.BAD_HANDSHAKE_METHOD, None)
    # In the order of the reference: the method before the rest.
    assert check("transport=websocket", method) == (Refusal.BAD_HANDSHAKE_METHOD, None)


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString", "hasOwnProperty"])
@pytest.mark.parametrize("upgrade", [True, False])
def test_edge_7_and_8_names_of_javascript_objects(name: str, upgrade: bool) -> None:
    assert check(f"EIO=4&transport={name}", upgrade=upgrade) == (Refusal.TRANSPORT_UNKNOWN, None)


@pytest.mark.parametrize(
    "session",
    [
        "sid=test",
        "sid=",
        "sid",
        "sid=__proto__",
        "sid=constructor",
        "sid=on-polling&sid=on-polling",
        pytest.param("sid=" + "x" * 1_000_000, id="long"),
    ],
)
def test_edge_9_unknown_session(session: str) -> None:
    assert check(f"EIO=4&transport=polling&{session}") == (Refusal.SESSION_UNKNOWN, None)
    assert check(f"EIO=4&transport=websocket&{session}") == (Refusal.SESSION_UNKNOWN, None)


def test_edge_11_websocket_as_plain_get() -> None:
    assert check("EIO=4&transport=websocket") == NO_UPGRADE
    assert check("EIO=4&transport=websocket&sid=on-websocket") == NO_UPGRADE


@pytest.mark.parametrize("origin", ["http://a\x01", "http://a\r\nX: y", "http://ä", "a\tb", "\x7f"])
def test_edge_12_origin_with_illegal_characters(origin: str) -> None:
    assert check("EIO=4&transport=polling", origin=origin) == (Refusal.BAD_REQUEST, "INVALID_ORIGIN")


def test_origin_of_a_browser_passes_here() -> None:
    assert check("EIO=4&transport=polling", origin="https://app.example:8443") is None


def test_edge_84_polling_after_the_upgrade() -> None:
    assert check("EIO=4&transport=polling&sid=on-websocket") == MISMATCH
    assert check("EIO=4&transport=websocket&sid=on-polling") == MISMATCH


def test_edge_93_upgrade_with_another_transport() -> None:
    assert check("EIO=4&transport=polling", upgrade=True) == MISMATCH
    assert check("EIO=4&transport=polling&sid=on-polling", upgrade=True) == MISMATCH


def test_requests_of_a_session() -> None:
    assert check("transport=polling&sid=on-polling") is None
    assert check("EIO=4&transport=polling&sid=on-polling", "POST") is None
    assert check("EIO=4&transport=websocket&sid=on-polling", upgrade=True) is None
    # Whether a second WebSocket may have the session is for the upgrade to decide.
    assert check("EIO=4&transport=websocket&sid=on-websocket", upgrade=True) is None


def test_number_of_fields_is_bounded() -> None:
    assert parse_query("&".join(["a=1"] * 200)) == {"a": ["1"] * 200}
    assert parse_query("&".join(["a=1"] * 201)) is None
    started = perf_counter()
    assert parse_query("&" * 1_000_000) is None
    assert perf_counter() - started < 1


def test_query_values_are_decoded_and_kept_in_order() -> None:
    assert parse_query("a=1&b=%C3%A4+x&a=2&c=%ff&d&=e") == {
        "a": ["1", "2"],
        "b": ["ä x"],
        "c": ["\ufffd"],
        "d": [""],
        "": ["e"],
    }
    assert parse_query("") == {}


@given(st.text(), st.sampled_from(["GET", "POST", "X"]), st.booleans(), st.none() | st.text())
def test_any_query_gives_an_answer(query: str, method: str, upgrade: bool, origin: str | None) -> None:
    parsed = parse_query(query)
    if parsed is not None:
        request = EngineRequest(method, parsed, upgrade, origin)
        assert isinstance(check_request(request, TRANSPORTS, SESSIONS.get), (Refused, type(None)))


def test_detail_names_what_is_enabled() -> None:
    refused = check_request(EngineRequest("GET", {}, upgrade=False), ("polling",), SESSIONS.get)
    assert refused is not None
    assert refused.body == {
        "code": 0,
        "message": "Transport unknown",
        "detail": "transport must be one of: polling",
    }


def test_open_packet_has_exactly_the_keys_of_the_protocol() -> None:
    packet = open_packet("abc", ("websocket",), 0.3, 0.2, 1_000_000)
    assert packet[:1] == b"0"
    assert orjson.loads(packet[1:]) == {
        "sid": "abc",
        "upgrades": ["websocket"],
        "pingInterval": 300,
        "pingTimeout": 200,
        "maxPayload": 1_000_000,
    }
