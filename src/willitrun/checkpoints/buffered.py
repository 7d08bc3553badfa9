"""A bounded window over a file: fields are taken in order, long stretches are skipped by seeking."""

from __future__ import annotations

from struct import Struct
from typing import BinaryIO

from willitrun.errors import CorruptCheckpointError

__all__ = ["HeaderReader"]

WINDOW_BYTES = 1 << 20
_U64 = Struct("<Q")


class HeaderReader:
    """Reads little-endian fields in order; never holds more than one window and one field.

    Parameters
    ----------
    stream
        Seekable binary stream at position 0.
    size
        Bytes that the file has.
    what
        Name of the file, for messages.
    """

    def __init__(self, stream: BinaryIO, size: int, what: str) -> None:
        self._stream = stream
        self.size = size
        self.what = what
        self._window = b""
        self._start = 0
        self._at = 0

    @property
    def position(self) -> int:
        """Bytes taken or skipped so far."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """Bytes behind the position."""
        return self.size - self.position

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > len(self._window) - self._at:
            self._refill(count)
        at = self._at
        self._at = at + count
        return self._window[at : at + count]

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes without reading them."""
        if count > self.left:
            self._truncated(count)
        self._at += count
        if self._at > len(self._window):
            self._start += self._at
            self._window, self._at = b"", 0
            self._stream.seek(self._start)

    def unpack(self, layout: Struct) -> int | float | bool:
        """The next number of a layout."""
        value: int | float | bool = layout.unpack(self.take(layout.size))[0]
        return value

    def skip_strings(self, count: int) -> None:
        """Pass over ``count`` strings, each behind its length, without decoding one.

        Only the lengths are looked at: a vocabulary of 152 k entries costs one short loop.
        """
        unpack, left = _U64.unpack_from, count
        while left:
            if len(self._window) - self._at < 8:
                self._refill(8)
            window, at = self._window, self._at
            last = len(window) - 8
            while left and at <= last:
                length = unpack(window, at)[0]
                at += 8 + length
                left -= 1
            if self._start + at > self.size:
                self._at = min(self._at, len(window))
                self._truncated(at - self._at)
            if at > len(window):
                self._start += at
                self._window, self._at = b"", 0
                self._stream.seek(self._start)
            else:
                self._at = at

    def _refill(self, count: int) -> None:
        if count > self.left:
            self._truncated(count)
        self._start += self._at
        self._stream.seek(self._start)
        self._window = self._stream.read(max(count, WINDOW_BYTES))
        self._at = 0
        if len(self._window) < count:
            self._truncated(count)

    def _truncated(self, count: int) -> None:
        raise CorruptCheckpointError(
            f"{self.what} ends inside its header: {count} bytes are due at byte {self.position}, "
            f"{max(self.left, 0)} are there.",
            hint="Download it again.",
        )
