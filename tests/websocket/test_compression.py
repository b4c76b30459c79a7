"""Groups 12 and 13: compression is not offered, so every offer is declined and a compressed frame fails.

The 216 cases differ in sizes and corpora, which do not matter to a server that never inflates: each row of
the tables stands for its 18 sizes.
"""

from __future__ import annotations

import zlib
from collections import Counter

import pytest

from tests.peers import BareWebSocket, build_frame, quick_broker, serving

from .dsl import Case, as_text, text
from .echo import echoing
from .tester import Record, Verdict, judge

_ASKED = "client_no_context_takeover; client_max_window_bits"
_OFFERS = {
    "13.1": [""],
    "13.2": ["; server_no_context_takeover"],
    "13.3": ["; server_max_window_bits=9"],
    "13.4": ["; server_max_window_bits=15"],
    "13.5": ["; server_no_context_takeover; server_max_window_bits=9"],
    "13.6": ["; server_no_context_takeover; server_max_window_bits=15"],
    "13.7": ["; server_no_context_takeover; server_max_window_bits=9", "; server_no_context_takeover", ""],
}
ROWS = {
    **{f"12.{number}": "permessage-deflate; client_max_window_bits" for number in range(1, 6)},
    **{
        row: ", ".join(f"permessage-deflate; {_ASKED}{more}" for more in offers)
        for row, offers in _OFFERS.items()
    },
}
SIZES_PER_ROW = 18
ODD_OFFERS = [
    "permessage-deflate; client_max_window_bits=abc",
    "permessage-deflate; client_max_window_bits=8",
    "permessage-deflate; client_max_window_bits=99",
    'permessage-deflate; client_max_window_bits="15"',
    "permessage-deflate; evil=1",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate, permessage-deflate",
    ";" * 10_000,
    "=,;=" * 1_000,
]


def _deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("row", list(ROWS))
async def test_declined(row: str, verdicts: dict[str, Counter[str]]) -> None:
    async with echoing("socket") as where:
        offer = [("Sec-WebSocket-Extensions", ROWS[row])]
        async with await BareWebSocket.open(where, "/?x=1", headers=offer) as peer:
            assert peer.answer.status == 101
            assert peer.answer.header("sec-websocket-extensions") is None
            await peer.send_frame(0x1, b"plain")
            echo = await peer.receive_frame()
            assert echo is not None
            assert echo.payload == b"plain"
            await peer.send(build_frame(0x1, _deflated(b"*" * 1_000), rsv=4))
            assert (await peer.expect_close()).code == 1002
    verdicts.setdefault("declined", Counter())[Verdict.STRICT] += SIZES_PER_ROW


@pytest.mark.parametrize("offer", ODD_OFFERS, ids=lambda one: one[:50].replace(" ", ""))
async def test_odd_offers_are_declined_or_refused(offer: str) -> None:
    async with serving(quick_broker()) as server:
        headers = [("Sec-WebSocket-Extensions", offer)]
        async with await BareWebSocket.open(server, headers=headers) as peer:
            assert peer.answer.status in (101, 400)
            assert peer.answer.header("sec-websocket-extensions") is None


def test_a_wrong_verdict_is_possible() -> None:
    """The judge tells strict, non-strict and failed apart."""
    case = Case("5.1", [text(b"a")], [as_text(b"a")], weaker=[[]])
    assert judge(case, Record([as_text(b"a")], code=1000, ended=True))[0] is Verdict.STRICT
    assert judge(case, Record([], code=1000, ended=True))[0] is Verdict.NON_STRICT
    assert judge(case, Record([as_text(b"b")], code=1000, ended=True))[0] is Verdict.FAILED
    assert judge(case, Record([as_text(b"a")], code=1006, ended=True))[0] is Verdict.FAILED
