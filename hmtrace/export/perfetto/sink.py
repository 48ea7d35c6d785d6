"""Packets to a file, in compressed pieces."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

_BUFFER: Final = 1 << 20
_PIECE: Final = 1 << 19
"""Bytes of packets that are compressed together."""
_LEVEL: Final = 1
"""Of zlib: its usual 6 takes 2.6 times as long for a quarter less, and most of the time is here."""
_COMPRESSED: Final = 50
"""TracePacket.compressed_packets."""
_PACKET: Final = 1
"""Trace.packet."""


class PacketSink:
    """Writes packets.

    Parameters
    ----------
    file
        Where to; only written to.

    Attributes
    ----------
    packets
        Bytes of packets so far, before they are compressed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = np.empty(_BUFFER, np.uint8)
        self._waiting = bytearray()
        self.packets = 0

    def put(self, packets: Iterable[Any]) -> None:
        """Write packets that are messages of the package."""
        for packet in packets:
            data = packet.SerializeToString()
            self._add(_field(_PACKET, len(data)) + data)

    def run(
        self, loop: Callable[..., tuple[int, int]], *args: Any, told: Callable[[], None]
    ) -> None:
        """Write what a loop writes (:mod:`hmtrace.export.perfetto.loops`).

        Parameters
        ----------
        loop
            Takes the buffer, `args` and where to begin; gives how far it came, and the bytes.
        told
            Called before these bytes are written: says what the tracks in them are.
        """
        start = 0
        while True:
            done, size = loop(self._buffer, *args, start)
            told()
            self._add(self._buffer[:size].tobytes())
            if not size:
                return
            start = done

    def _add(self, data: bytes) -> None:
        self.packets += len(data)
        self._waiting += data
        if len(self._waiting) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            data = zlib.compress(self._waiting, _LEVEL)
            inner = _field(_COMPRESSED, len(data))
            self._file.write(_field(_PACKET, len(inner) + len(data)) + inner + data)
            self._waiting.clear()


def _field(number: int, size: int) -> bytes:
    """What stands before bytes of a field."""
    out = bytearray()
    for value in (number << 3 | 2, size):
        left = value
        while left >= 128:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)
    return bytes(out)
