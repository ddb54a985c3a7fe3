"""Where a stream of WebSocket frames stands, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_portproxy.protocol.websocket_frames import FrameCursor

from ..support.raw_clients import frame


@pytest.mark.parametrize(
    ("data", "at_boundary"),
    [
        (b"", True),
        (b"\x81", False),
        (b"\x81\x00", True),
        (b"\x81\x01", False),
        (b"\x81\x01a", True),
        (b"\x81\x80", False),
        (b"\x81\x80\0\0\0", False),
        (b"\x81\x80\0\0\0\0", True),
        (b"\x01\x01a\x89\x00", True),
        (b"\x82\x7e\x00", False),
        (b"\x82\x7e\x00\x02a", False),
        (b"\x82\x7e\x00\x02ab", True),
        (b"\x82\x7f" + (1 << 40).to_bytes(8, "big") + b"a", False),
        (frame(2, bytes(70000)), True),
        (frame(2, bytes(70000))[:-1], False),
        (frame(2, b"") * 4000, True),
        (frame(2, b"") * 5000, False),  # more than it cares to look at
    ],
)
def test_a_boundary_is_where_a_frame_ends(data, at_boundary):
    cursor = FrameCursor()
    cursor.feed(data)
    assert cursor.at_boundary is at_boundary


SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65535, 65536, 70000]))
FRAMES = st.lists(st.builds(lambda size, masked: frame(2, bytes(size), masked=masked), SIZES, st.booleans()), max_size=12)


@settings(deadline=None)
@given(FRAMES, st.randoms(use_true_random=False))
def test_any_split_of_any_frames_is_at_a_boundary_exactly_at_their_ends(frames, chance):
    data, ends = b"".join(frames), {0}
    for one in frames:
        ends.add(max(ends) + len(one))
    near = [at + off for at in ends for off in range(-3, 12) if chance.random() < 0.3 and 0 < at + off < len(data)]
    cuts = sorted({*near, *(chance.randrange(len(data)) for _ in range(5) if data), len(data)})
    cursor, before = FrameCursor(), 0
    for cut in cuts:
        cursor.feed(data[before:cut])
        before = cut
        assert cursor.at_boundary is (cut in ends), cut
