"""permessage-deflate (RFC 7692): whole messages, with a bound on what comes out."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from hakuban.transport import PeerViolationError

if TYPE_CHECKING:
    from zlib import _Compress, _Decompress

_TAIL = b"\x00\x00\xff\xff"
# What follows the last block of a message whose sender ended the deflate stream with it (RFC 7692, 7.2.3.4).
_AFTER_FINAL = frozenset({_TAIL, b"\x00" + _TAIL})
_WORTH_IT = 64


class Deflater:
    """Compresses messages.

    :param window_bits: base-2 logarithm of the window that the other side keeps, 9 to 15.
    :param reset: whether to start each message afresh (no context take-over).
    """

    __slots__ = ("_bits", "_compressor", "_reset")

    def __init__(self, window_bits: int, *, reset: bool) -> None:
        self._bits = window_bits
        self._reset = reset
        self._compressor: _Compress | None = None

    @staticmethod
    def is_worth(message: bytes) -> bool:
        """Whether compressing can make the message shorter; short ones go out as they are."""
        return len(message) >= _WORTH_IT

    def compress(self, message: bytes) -> bytes:
        """The message as it goes into frames."""
        compressor = self._compressor
        if compressor is None:
            # The fastest level: this runs on the event loop, and higher ones save little on JSON.
            compressor = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -self._bits)
        data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        self._compressor = None if self._reset else compressor
        return data.removesuffix(_TAIL)


class Inflater:
    """Decompresses messages.

    :param reset: whether the other side starts each message afresh.
    :param max_message: bytes of the longest message allowed to come out.
    """

    __slots__ = ("_decompressor", "_max_message", "_reset")

    def __init__(self, *, reset: bool, max_message: int) -> None:
        self._reset = reset
        self._max_message = max_message
        self._decompressor: _Decompress | None = None

    def inflate(self, data: bytes) -> bytes:
        """The message whose frames carried data.

        :raises PeerViolationError: code 1009 when it is longer than `max_message`, 1007 when it does not decompress.
        """
        # The largest window reads what was compressed with any.
        decompressor = self._decompressor or zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # One byte more than allowed distinguishes "too long" from "just fits". Where output stopped before that,
            # all input was used up, so that nothing waits in `unconsumed_tail`.
            message = decompressor.decompress(data + _TAIL, self._max_message + 1)
        except zlib.error as error:
            raise PeerViolationError(f"message does not decompress: {error}", code=1007) from None
        if len(message) > self._max_message:
            raise PeerViolationError(f"message over {self._max_message} bytes", code=1009)
        if decompressor.eof and decompressor.unused_data not in _AFTER_FINAL:
            raise PeerViolationError("message goes on after its last deflate block", code=1007)
        self._decompressor = None if self._reset or decompressor.eof else decompressor
        return message
