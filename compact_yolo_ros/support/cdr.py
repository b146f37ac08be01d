# SPDX-License-Identifier: Apache-2.0
"""Reading the CDR in which DDS carries messages, without a copy of their bytes.

Source: OMG DDS-XTypes 1.3, 7.4 and 7.6.3.1.2. A value of n bytes begins at a multiple of n behind
the encapsulation header of four bytes; in version 2 those of eight bytes begin at one of four.
"""

from __future__ import annotations

from struct import Struct

ENCAPSULATION = 4
"""Bytes of the header that says how the message is encoded."""
BYTE_ORDERS = {b"\0\0": ">", b"\0\1": "<", b"\0\6": ">", b"\0\7": "<"}
"""By the header's first two bytes: plain CDR of version 1, then of version 2."""
PADDING = 0b11
"""Bits of the header's last byte that count the bytes behind the message, which fill a word."""
_WORDS = {order: (Struct(f"{order}I"), Struct(f"{order}i"), Struct(f"{order}Q")) for order in "<>"}
VERSION_2 = 6
"""From this second byte of the header on."""


class CdrError(ValueError):
    """The bytes are not such a message."""


class CdrReader:
    """Reads the fields of one message in turn; every length is checked before it is used."""

    def __init__(self, data: bytes) -> None:
        """Begin with the first field.

        Args:
            data: a message with its encapsulation header.

        Raises:
            CdrError: the header names another encoding.
        """
        order = BYTE_ORDERS.get(data[:2])
        if order is None or len(data) < ENCAPSULATION:
            raise CdrError(f"its encoding {data[:2].hex() or 'without a number'} is not plain CDR")
        self._data = data
        self._unsigned, self._signed, self._long = _WORDS[order]
        self._long_step = 4 if data[1] >= VERSION_2 else 8
        self._at = ENCAPSULATION
        self._end = len(data) - (data[3] & PADDING)

    def unsigned(self) -> int:
        """The next uint32."""
        return int(self._word(self._unsigned))

    def signed(self) -> int:
        """The next int32."""
        return int(self._word(self._signed))

    def unsigned_long(self) -> int:
        """The next uint64."""
        behind = self._at - ENCAPSULATION
        self._at = ENCAPSULATION - (-behind // self._long_step) * self._long_step
        value: int = self._long.unpack_from(self._data, self._take(8))[0]
        return value

    def octet(self) -> int:
        """The next uint8."""
        return self._data[self._take(1)]

    def text(self) -> str:
        """The next string, up to its first NUL; what is no UTF-8 is replaced."""
        length = self.unsigned()
        start = self._take(length)
        text = self._data[start : start + length].partition(b"\0")[0]
        return text.decode("utf-8", "replace")

    def octets(self) -> memoryview:
        """The next sequence of bytes, as a view of the message."""
        length = self.unsigned()
        start = self._take(length)
        return memoryview(self._data)[start : start + length]

    def _word(self, word: Struct) -> int:
        self._at = -(-self._at // 4) * 4
        value: int = word.unpack_from(self._data, self._take(4))[0]
        return value

    def _take(self, length: int) -> int:
        """Go on behind ``length`` bytes; return where they begin."""
        start, self._at = self._at, self._at + length
        if self._at > self._end:
            raise CdrError(f"{self._at - self._end} of its {self._at} bytes are missing")
        return start
