# SPDX-License-Identifier: Apache-2.0
"""Reads the headers of H.264 and H.265 bit by bit.

Sources: ITU-T H.264, 7.3.1 and 9.1; ITU-T H.265, 7.3.1.1 and 9.2, which are the same in this.
"""

from __future__ import annotations

MOST_READ = 512
"""Bytes of a unit that are looked at: headers are short."""


class BitReader:
    """Reads a unit bit by bit; raises ValueError at its end."""

    def __init__(self, data: bytes, start: int) -> None:
        """Begin at the byte ``start``; bytes that only keep a start code out are left out."""
        content = data[start : start + MOST_READ].replace(b"\0\0\3", b"\0\0")
        self._left = 8 * len(content)
        self._value = int.from_bytes(content, "big")

    def fixed(self, bits: int) -> int:
        """An unsigned number of so many bits."""
        self._left -= bits
        if self._left < 0:
            raise ValueError("the unit has ended")
        return self._value >> self._left & ((1 << bits) - 1)

    def unsigned(self) -> int:
        """A number in the code ue(v) of 9.1; se(v) has as many bits."""
        zeros = 0
        while not self.fixed(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("a number is too long")
        return (1 << zeros) - 1 + self.fixed(zeros)

    def signed(self) -> int:
        """A number in the code se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)
