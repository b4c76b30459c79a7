"""Frames between processes, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.bus.frames import FrameKind, FrameSplitter, FrameTooLong, write_frame

frames = st.lists(st.tuples(st.sampled_from(FrameKind), st.binary(max_size=20)), max_size=5)


@given(frames, st.integers(1, 7))
def test_round_trip_in_pieces(sent: list[tuple[FrameKind, bytes]], size: int) -> None:
    data = b"".join(write_frame(kind, content) for kind, content in sent)
    splitter = FrameSplitter(20)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [frame for piece in pieces for frame in splitter.feed(piece)] == sent


def test_a_frame_that_is_too_long() -> None:
    splitter = FrameSplitter(3)
    received = []
    with pytest.raises(FrameTooLong, match="3 bytes at most, not 4"):
        received += splitter.feed(
            write_frame(FrameKind.MESSAGE, b"abc") + write_frame(FrameKind.GAP, b"abcd")
        )
    assert splitter._data[:4] == b"\0\0\0\4"
