"""Where a stream of WebSocket frames stands, and what it carries, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_portproxy.protocol.websocket_frames import (
    CloseFinder,
    FrameCursor,
    FrameError,
    FrameParser,
    Opcode,
    mask_by_integers,
    print_frame,
)

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


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(
    ("data", "count"),
    [
        (frame(1, b"a") + frame(2, b"") + frame(0, b"more", fin=False), 3),
        (frame(9, b"ping") + frame(10, b"pong") + frame(8, b"\x03\xe8"), 0),
        (frame(9, b"\x82\x01") + frame(2, bytes(70000)) + frame(10, b""), 1),
        (b"\xc1" + frame(1, b"compressed")[1:], 1),
        (frame(2, b"abc")[:1], 0),
        (frame(9, b"") * 5000, 0),
    ],
)
def test_frames_of_messages_are_counted(data, count, whole):
    cursor = FrameCursor()
    for piece in [data] if whole else [data[at : at + 1] for at in range(len(data))]:
        cursor.feed(piece)
    assert cursor.data_frames == count


def test_what_follows_thousands_of_tiny_frames_counts_as_messages():
    cursor = FrameCursor()
    cursor.feed(frame(9, b"") * 5000)
    cursor.feed(b"x")
    assert cursor.data_frames == 1


# ---- frames with content ----


def xor(key: bytes, data: bytes) -> bytes:
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([Opcode.BINARY, Opcode.BINARY, Opcode.PING, Opcode.CLOSE]),
        st.binary(max_size=125) | st.just(bytes(70000)),
    ),
    max_size=6,
)


def parsed(parser: FrameParser, data: bytes, cuts: list[int]) -> list[tuple[Opcode, bytes]]:
    """What the parser returns for `data` in pieces, with the pieces of one message joined."""
    events: list[tuple[Opcode, bytes]] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        for opcode, content in parser.feed(data[start:end]):
            if content and opcode == Opcode.BINARY and events and events[-1][0] == Opcode.BINARY and events[-1][1]:
                events[-1] = (opcode, events[-1][1] + content)
            else:
                events.append((opcode, content))
    return events


def joined(messages: list[tuple[Opcode, bytes]]) -> list[tuple[Opcode, bytes]]:
    events: list[tuple[Opcode, bytes]] = []
    for opcode, content in messages:
        if content and opcode == Opcode.BINARY and events and events[-1][0] == Opcode.BINARY and events[-1][1]:
            events[-1] = (opcode, events[-1][1] + content)
        else:
            events.append((opcode, content))
    return events


@settings(deadline=None)
@given(MESSAGES, st.binary(min_size=4, max_size=4), st.booleans(), st.data())
def test_what_is_printed_is_parsed_however_it_is_cut(messages, key, masked, chance):
    messages = [(opcode, content[:125] if opcode >= Opcode.CLOSE else content) for opcode, content in messages]
    frames = [print_frame(opcode, content, key, xor) if masked else print_frame(opcode, content) for opcode, content in messages]
    data = b"".join(frames)
    cuts = sorted(chance.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    assert parsed(FrameParser(xor, masked=masked), data, cuts) == joined(messages)


@pytest.mark.parametrize(
    ("frames", "events"),
    [
        (frame(2, b"ab", fin=False) + frame(0, b"cd"), [(2, b"abcd")]),
        (frame(2, b"ab", fin=False) + frame(9, b"?") + frame(0, b""), [(2, b"ab"), (9, b"?")]),
        (frame(2, b"", fin=False) + frame(0, b""), [(2, b"")]),
        (frame(2, b"", fin=False) + frame(0, b"a"), [(2, b"a")]),
        (frame(2, b""), [(2, b"")]),
        (frame(2, b"a") + frame(2, b"") + frame(8, b"\x03\xe8"), [(2, b"a"), (2, b""), (8, b"\x03\xe8")]),
    ],
)
def test_messages(frames, events):
    assert parsed(FrameParser(xor, masked=True), frames, []) == events


@pytest.mark.parametrize(
    ("masked", "data", "code"),
    [
        (True, frame(1, b"text"), 1003),
        (True, frame(2, b"a", masked=False), 1002),
        (False, frame(2, b"a"), 1002),
        (True, b"\xc2\x80\0\0\0\0", 1002),  # compressed, which was not negotiated
        (True, frame(3, b""), 1002),
        (True, frame(9, bytes(126)), 1002),
        (True, frame(8, b"", fin=False), 1002),
        (True, frame(0, b"a"), 1002),
        (True, frame(2, b"a", fin=False) + frame(2, b"b"), 1002),
        (True, b"\x82\xff" + b"\xff" * 8 + bytes(4), 1002),
    ],
)
def test_a_violation_has_its_close_code(masked, data, code):
    with pytest.raises(FrameError) as refused:
        FrameParser(xor, masked=masked).feed(data)
    assert refused.value.code == code


def test_a_frame_of_any_size_is_not_held_back():
    parser = FrameParser(xor, masked=False)
    assert parser.feed(b"\x82\x7f" + (1 << 40).to_bytes(8, "big") + b"abc") == [(Opcode.BINARY, b"abc")]
    assert parser.feed(b"de") == [(Opcode.BINARY, b"de")]


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=200))
def test_data_is_masked_byte_by_byte_with_the_repeated_key(key, data):
    assert mask_by_integers(key, data) == bytes(byte ^ key[index % 4] for index, byte in enumerate(data))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 119, 124, 125, 126, 127, 129, 200])
def test_a_message_by_itself_is_parsed_as_one_in_a_stream(size, masked):
    """Short ones have a way of their own. Before the second message there is a ping, after it a part of a third one."""
    content = bytes(range(size))
    message = frame(2, content, masked=masked)
    alone, streamed = (FrameParser(xor, masked=masked) for _ in range(2))
    assert alone.feed(message) == alone.feed(message) == [(Opcode.BINARY, content)]
    events = streamed.feed(message + frame(9, b"", masked=masked) + message + message[:1])
    assert events == [(Opcode.BINARY, content), (Opcode.PING, b""), (Opcode.BINARY, content)]
    rest = b"".join(data for _, data in streamed.feed(message[1:]))
    assert (rest, streamed.feed(message)) == (content, [(Opcode.BINARY, content)])


def test_a_short_message_within_another_is_refused():
    parser = FrameParser(xor, masked=False)
    assert parser.feed(b"\x02\x01a") == [(Opcode.BINARY, b"a")]
    with pytest.raises(FrameError):
        parser.feed(b"\x82\x01b")


@pytest.mark.parametrize("kind", [frame(2, b"x"), frame(9, b"x"), frame(2, bytes(300))])
def test_many_frames_are_parsed_a_part_at_a_time(kind):
    parser, parts = FrameParser(mask_by_integers, masked=True), [5000 * kind]
    events = []
    while parts or parser.is_behind:
        found = parser.feed(parts.pop() if parts else b"")
        assert len(found) <= 1024
        events += found
    assert events == 5000 * FrameParser(mask_by_integers, masked=True).feed(kind)


def test_a_parser_that_is_behind_takes_more():
    parser, data = FrameParser(mask_by_integers, masked=True), b"".join(frame(2, str(number).encode()) for number in range(3000))
    events = parser.feed(data[:-3])
    assert parser.is_behind
    events += parser.feed(data[-3:])
    while parser.is_behind:
        events += parser.feed(b"")
    assert b"".join(content for _, content in events) == "".join(map(str, range(3000))).encode()


# ---- the code of a close frame ----


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (frame(1, b"\x03\xe8"), None),
        (frame(9, b"\x03\xe8"), None),
        (frame(8, b"\x03\xe8"), 1000),
        (frame(8, b"\x0f\xa1bye", masked=False), 4001),
        (frame(8, b""), 1005),
        (frame(8, b"a"), 1005),
        (frame(1, b"abc") + frame(10, b"") + frame(8, b"\x03\xe9") + frame(8, b"\x03\xe8"), 1001),
        (b"\x88\x82" + b"\x01\x02\x03\x04" + b"\x02\xea", 1000),  # masked
        (b"\x88\x82\x01", None),
    ],
)
def test_the_code_of_the_first_close_frame_is_found(data, code):
    finder, plain = CloseFinder(), FrameCursor()
    for cursor in (finder, plain):
        cursor.feed(data)
    assert finder.code == code
    assert finder.at_boundary == plain.at_boundary and finder.data_frames == plain.data_frames


@given(FRAMES, st.integers(1000, 4999), st.integers(1, 7))
def test_it_is_found_after_any_frames_in_any_pieces(frames, code, size):
    finder = CloseFinder()
    for data in frames:
        finder.feed(data)
    assert finder.code is None
    close = frame(8, code.to_bytes(2, "big"))
    finder.feed(close[:size])
    finder.feed(close[size:])
    assert finder.code in (code, 1005) and (finder.code == code or size > 5)
    assert finder.at_boundary
