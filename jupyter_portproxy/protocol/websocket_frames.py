"""WebSocket frames (RFC 6455 5.2): the position in a stream of them, and their content as a stream of bytes.

`FrameCursor` reads lengths only, for tunnels whose frames pass unchanged. `FrameParser` and `print_frame` are for raw TCP, where
one end of a tunnel speaks WebSocket and the other does not: no extensions, and no frame is held back until it is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

_MAX_FRAMES_PER_PIECE = 4096  # whose lengths are read
_MAX_PARSED = 1024  # frames at once: 5 ms
_MAX_CONTROL = 125  # bytes
_CONTROL = 0x08  # the bit of an opcode that control frames have
_NO_CODE = 1005
_SHORT_HEAD = 0x82  # the first byte of a binary message in one frame
Mask = Callable[[bytes, bytes], bytes]  # key of four bytes, data -> data XOR the repeated key


def mask_by_integers(key: bytes, data: bytes) -> bytes:
    """A `Mask` without a C extension: 150 to 250 MB/s, where a loop over the bytes has 4."""
    size = len(data)
    keys = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ keys).to_bytes(size, "little")


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class FrameError(Exception):
    """A frame that ends the connection. `code` is the close code (RFC 6455 7.4.1)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameParser:
    """Parses the frames that one peer sends.

    A data frame is parsed in pieces, as they arrive: `_left` bytes of its content are missing, and `_key` is its masking key from
    that byte on. `_content` counts the bytes of the current message. What is not complete (a head, a control frame) is in
    `_rest`. Only `feed` changes the state; after a FrameError the parser is of no more use.

    Thousands of tiny frames take long. So one call parses `_MAX_PARSED` of them at most; `is_behind` is True while
    `_rest` has more, which `feed(b"")` parses.

    Args:
        masked: True for frames of a client, False for those of a server.
        mask: see `Mask`.
        takes_text: text is parsed as BINARY, without a check of its encoding.
    """

    __slots__ = ("_content", "_key", "_left", "_mask", "_masked", "_message_open", "_rest", "_takes_text", "is_behind")

    def __init__(self, mask: Mask, *, masked: bool, takes_text: bool = False) -> None:
        self._mask, self._masked, self._takes_text = mask, masked, takes_text
        self._rest, self._key, self._left, self._content = b"", b"", 0, 0
        self._message_open = self.is_behind = False

    def feed(self, data: bytes) -> list[tuple[Opcode, bytes]]:
        """Parse the next bytes.

        Returns:
            BINARY with a piece of a message, or with no bytes for an empty message; CLOSE, PING and PONG with their content.

        Raises:
            FrameError: the peer violates the protocol, or sends text that is not taken.
        """
        message = self._feed_short(data)
        if message is not None:
            return [(Opcode.BINARY, message)]
        events: list[tuple[Opcode, bytes]] = []
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, size, left_frames = 0, len(data), _MAX_PARSED
        while at < size:
            if self._left:
                end = min(at + self._left, size)
                events.append((Opcode.BINARY, self._unmask(data[at:end])))
                self._left -= end - at
                at = end
                continue
            start = self._parse_head(data, at, size, events) if left_frames else None
            if start is None:
                self._rest = data[at:]
                break
            at, left_frames = start, left_frames - 1
        self.is_behind = at < size and not left_frames
        return events

    def _feed_short(self, data: bytes) -> bytes | None:
        """The content, if the bytes are one short binary message: most are, and this takes a third of the time."""
        if self._rest or self._left or self._message_open or not 2 < len(data) < 132 or data[0] != _SHORT_HEAD:
            return None
        if not self._masked:
            return data[2:] if data[1] == len(data) - 2 < 126 else None
        return self._mask(data[2:6], data[6:]) if data[1] == 0x80 | len(data) - 6 and len(data) > 6 else None

    def _parse_head(self, data: bytes, at: int, size: int, events: list[tuple[Opcode, bytes]]) -> int | None:
        """Parse the head of the frame at `at`, and all of a control frame; None if that is not complete.

        Returns:
            where the content of a data frame starts, or a control frame ends.
        """
        if size - at < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, length = self._check_head(first, second), second & 0x7F
        head = 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if size - at < head:
                return None
            length = int.from_bytes(data[at + 2 : at + head], "big")
            if length >> 63:
                raise FrameError(1002, "the length of a frame has its highest bit set")
        if self._masked:
            head += 4
        start = at + head
        if size < start:
            return None
        if self._masked:
            self._key = data[start - 4 : start]
        if opcode >= Opcode.CLOSE:
            if size < start + length:
                return None
            events.append((opcode, self._unmask(data[start : start + length])))
            return start + length
        self._begin_data(opcode, length, is_final=bool(first & 0x80), events=events)
        return start

    def _check_head(self, first: int, second: int) -> Opcode:
        """Raises: FrameError"""
        if first & 0x70:
            raise FrameError(1002, "a frame uses an extension that was not negotiated")
        if bool(second & 0x80) != self._masked:
            raise FrameError(1002, "a frame is masked" if second & 0x80 else "a frame is not masked")
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError(1002, f"the opcode {first & 0x0F} is unknown") from None
        if opcode == Opcode.TEXT and self._takes_text:
            opcode = Opcode.BINARY
        if opcode == Opcode.TEXT:
            raise FrameError(1003, "a message is text; bytes are expected")
        if opcode >= Opcode.CLOSE:
            if not first & 0x80 or second & 0x7F > _MAX_CONTROL:
                raise FrameError(1002, "a control frame is fragmented or has more than 125 bytes")
        elif (opcode == Opcode.CONTINUATION) != self._message_open:
            raise FrameError(1002, "a message is continued that has not begun, or begins before the last one has ended")
        return opcode

    def _begin_data(self, opcode: Opcode, length: int, *, is_final: bool, events: list[tuple[Opcode, bytes]]) -> None:
        self._content = length if opcode == Opcode.BINARY else self._content + length
        self._left, self._message_open = length, not is_final
        if is_final and not self._content:
            events.append((Opcode.BINARY, b""))

    def _unmask(self, content: bytes) -> bytes:
        if not self._masked or not content:
            return content
        key, turn = self._key, len(content) % 4
        self._key = key[turn:] + key[:turn]
        return self._mask(key, content)


def print_frame(opcode: Opcode, content: bytes = b"", key: bytes = b"", mask: Mask | None = None) -> bytes:
    """A message in one frame. `key` and `mask` are for frames of a client; those of a server have neither."""
    size, bit = len(content), 0x80 if key else 0
    if size < 126:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + content if mask is None else head + key + (mask(key, content) if content else b"")


class FrameCursor:
    """The position in one stream.

    It is within a frame while `_left` bytes of that are missing, within a frame's head while `_head` holds the first bytes of
    that, and unknown for good once `_lost` is set; else it is between two frames. Only `feed` changes the state.

    Attributes:
        data_frames: that have begun: frames of messages, not pings, pongs and close frames. Once the position is lost, each piece
            counts as one.
    """

    __slots__ = ("_head", "_left", "_lost", "data_frames")

    def __init__(self) -> None:
        self._left, self._head, self._lost, self.data_frames = 0, b"", False, 0

    @property
    def at_boundary(self) -> bool:
        return self._left == 0 and not self._head and not self._lost

    def feed(self, data: bytes) -> None:
        size = len(data)
        if self._left >= size:
            self._left -= size
            return
        if self._lost:
            self.data_frames += 1
            return
        at, self._left, data_frames = self._left, 0, 0
        if self._head:
            data, self._head = self._head + data, b""
            size = len(data)
        for _ in range(_MAX_FRAMES_PER_PIECE):
            if at >= size:
                self._left = at - size
                break
            end = _frame_end(data, at, size)
            if end is None:
                self._head = data[at:]
                break
            if data[at] & _CONTROL:
                self.on_control(data, at)
            else:
                data_frames += 1
            at = end
        else:
            self._lost = True  # thousands of tiny frames at once cost too much time; the tunnel then closes without 1001
        self.data_frames += data_frames

    def on_control(self, data: bytes, at: int) -> None:
        """A control frame begins at `at`; its head is there."""


class CloseFinder(FrameCursor):
    """The same, and it reads the code of the first close frame: `code`, None before.

    1005 stands for a frame without a code (RFC 6455 7.1.5), and for one whose code has not arrived with its head.
    """

    __slots__ = ("code",)

    def __init__(self) -> None:
        super().__init__()
        self.code: int | None = None

    def on_control(self, data: bytes, at: int) -> None:
        if data[at] & 0x0F != Opcode.CLOSE or self.code is not None:
            return
        is_masked = bool(data[at + 1] & 0x80)
        start = at + (6 if is_masked else 2)
        code, key = data[start : start + 2], data[start - 4 : start - 2] if is_masked else b"\0\0"
        has_code = data[at + 1] & 0x7F >= 2 and len(code) == 2
        self.code = int.from_bytes(bytes((code[0] ^ key[0], code[1] ^ key[1])), "big") if has_code else _NO_CODE


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
