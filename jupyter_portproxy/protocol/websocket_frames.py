"""The position in a stream of WebSocket frames (RFC 6455 5.2): between two of them, or within one.

Only lengths are read; frames are not changed, validated or stored.
"""

from __future__ import annotations

_MAX_FRAMES_PER_PIECE = 4096


class FrameCursor:
    """The position in one stream.

    It is within a frame while `_left` bytes of that are missing, within a frame's head while `_head` holds the first bytes of
    that, and unknown for good once `_lost` is set; else it is between two frames. Only `feed` changes the state.
    """

    __slots__ = ("_head", "_left", "_lost")

    def __init__(self) -> None:
        self._left, self._head, self._lost = 0, b"", False

    @property
    def at_boundary(self) -> bool:
        return self._left == 0 and not self._head and not self._lost

    def feed(self, data: bytes) -> None:
        size = len(data)
        if self._left >= size or self._lost:
            self._left = max(0, self._left - size)
            return
        at, self._left = self._left, 0
        if self._head:
            data, self._head = self._head + data, b""
            size = len(data)
        for _ in range(_MAX_FRAMES_PER_PIECE):
            if at >= size:
                self._left = at - size
                return
            end = _frame_end(data, at, size)
            if end is None:
                self._head = data[at:]
                return
            at = end
        self._lost = True  # thousands of tiny frames at once cost too much time; the tunnel then closes without 1001


def _frame_end(data: bytes, at: int, size: int) -> int | None:
    """Where the frame that starts at `at` ends; None if its head is not complete."""
    if size - at < 2:
        return None
    length = data[at + 1] & 0x7F
    head = 6 if data[at + 1] & 0x80 else 2
    if length == 126:
        if size - at < 4:
            return None
        length, head = int.from_bytes(data[at + 2 : at + 4], "big"), head + 2
    elif length == 127:
        if size - at < 10:
            return None
        length, head = int.from_bytes(data[at + 2 : at + 10], "big"), head + 8
    return None if size - at < head else at + head + length
