# SPDX-License-Identifier: Apache-2.0
"""Reading MCAP files, whole or broken off (https://mcap.dev/spec).

The file is scanned from its beginning, from record to record. The summary at its end is not
needed, so the file of a recorder that crashed is read like any other.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zlib import crc32

from compact_yolo_ros.recordings.compression import DECOMPRESS, MOST_BYTES
from compact_yolo_ros.recordings.storage import (
    FOREVER,
    Loss,
    Message,
    Part,
    StorageError,
    StorageInfo,
    Topic,
    in_time_order,
    type_name,
)

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, DATA_END, FOOTER = 3, 4, 5, 6, 7, 15, 2
HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<HIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
MOST_DECLARED = 2**24
"""Largest declaration of a type or a channel in bytes."""
RUN_BYTES = 2**20
"""Messages outside of chunks are grouped, up to so many bytes."""


class _Damage(Exception):
    """What is at ``position`` cannot be a record."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class _Channel(NamedTuple):
    topic: str
    type: str
    definition: str


@dataclass
class _Span:
    """A chunk, or messages that follow each other outside of chunks."""

    offset: int
    start: int = FOREVER
    end: int = 0
    stop: int = 0
    is_chunk: bool = False
    counts: Counter[int] = field(default_factory=Counter)

    def goes_on_at(self, offset: int) -> bool:
        """Whether a message there belongs to this span: none behind a chunk does."""
        is_long = self.stop - self.offset >= RUN_BYTES
        return not self.is_chunk and self.stop == offset and not is_long

    def add(self, channel: int, time: int) -> None:
        self.counts[channel] += 1
        self.start, self.end = min(self.start, time), max(self.end, time)


class McapFile:
    """An MCAP file; see ``Storage``. Its memory is a chunk, and about 500 bytes for each chunk."""

    def __init__(self, path: Path) -> None:
        """Scan the file.

        Raises:
            StorageError: it is not an MCAP file.
            OSError: it cannot be read.
        """
        self._path = path
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, _Channel] = {}
        self._spans: list[_Span] = []
        self.lost: list[str | Loss] = []
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise StorageError(f"{path.name} is not an MCAP file")
            self._scan(file, path.stat().st_size)
            for span in self._spans:
                if not span.counts:  # a chunk without an index
                    self._open(file, span, count=True)
        self._spans = [span for span in self._spans if span.counts]
        self.start = min((span.start for span in self._spans), default=FOREVER)
        self.end = max((span.end for span in self._spans), default=0)
        counts = sum((span.counts for span in self._spans), Counter[int]())
        self.topics = [
            Topic(channel.topic, channel.type, counts[number], channel.definition)
            for number, channel in self._channels.items()
        ]

    def messages(self, topics: frozenset[str], start: int, stop: int) -> Iterator[Message]:
        """See ``Storage``; a damaged chunk is left out and reported in ``lost``."""
        wanted = {n: channel for n, channel in self._channels.items() if channel.topic in topics}
        with self._path.open("rb") as file:
            parts: list[Part] = [
                (span.start, partial(self._read, file, span, wanted, start, stop))
                for span in self._spans
                if span.start < stop and span.end >= start and wanted.keys() & span.counts.keys()
            ]
            yield from in_time_order(parts)

    def _read(
        self, file: BinaryIO, span: _Span, wanted: dict[int, _Channel], start: int, stop: int
    ) -> Iterator[Message]:
        found = []
        try:
            stream, end = _opened(file, span)
            for code, size in _records(stream, end):
                if code != MESSAGE:
                    continue
                if size > MOST_BYTES:
                    raise _Damage(span.offset)
                channel, _, time, _ = MESSAGE_HEAD.unpack(stream.read(MESSAGE_HEAD.size))
                if channel in wanted and start <= time < stop:
                    name, kind, _ = wanted[channel]
                    data = stream.read(max(0, size - MESSAGE_HEAD.size))
                    found.append(Message(time, name, kind, data))
        except Exception:  # each compression has errors of its own
            names = Counter[str]()
            for number in wanted.keys() & span.counts.keys():
                names[wanted[number].topic] += span.counts[number]
            self.lost += [
                Loss(span.offset, f"messages of {name} are lost in damaged chunks", count)
                for name, count in names.items()
            ]
            return iter(())
        found.sort(key=lambda message: message.time)
        return iter(found)

    def _scan(self, file: BinaryIO, size: int) -> None:
        try:
            for code, length in _records(file, size):
                if code in (DATA_END, FOOTER):
                    return
                self._note(file, code, length)
            position = size
        except _Damage as damage:
            position = damage.position
            self._salvage(file, position, size)
            position = max([position, *(span.stop for span in self._spans)])
        except struct.error:
            position = min(file.tell(), size)
        self._distrust_last_index()
        self.lost.append(
            f"{self._path.name} breaks off: the recorder did not close it, or the copy is "
            f"incomplete; it is read up to byte {position} of {size}"
        )

    def _distrust_last_index(self) -> None:
        """Have the last chunk counted: the indexes of some of its channels may be missing."""
        for span in reversed(self._spans):
            if span.is_chunk:
                span.counts.clear()
                return

    def _salvage(self, file: BinaryIO, position: int, size: int) -> None:
        """Take the whole messages at the beginning of an uncompressed chunk that breaks off."""
        file.seek(position)
        head = file.read(HEAD.size + CHUNK_HEAD.size + 12)
        if len(head) < HEAD.size + CHUNK_HEAD.size + 12 or head[0] != CHUNK:
            return
        if head[-12:-8] != bytes(4):  # the length of the compression's name
            return
        try:
            for code, length in _records(file, size):
                self._note(file, code, length)
        except (_Damage, struct.error):
            return

    def _note(self, file: BinaryIO, code: int, length: int) -> None:
        if code in (SCHEMA, CHANNEL):
            self._declare(code, _declaration(file, length))
        elif code == MESSAGE:
            offset = file.tell() - HEAD.size
            channel, _, time, _ = MESSAGE_HEAD.unpack(file.read(MESSAGE_HEAD.size))
            last = self._spans[-1] if self._spans else None
            if last is None or not last.goes_on_at(offset):
                last = _Span(offset)
                self._spans.append(last)
            last.stop = offset + HEAD.size + length
            last.add(channel, time)
        elif code == CHUNK:
            offset = file.tell()
            start, end, _, _ = CHUNK_HEAD.unpack(file.read(CHUNK_HEAD.size))
            self._spans.append(_Span(offset, start, end, offset + length, True))
        elif code == MESSAGE_INDEX and self._spans and self._spans[-1].is_chunk:
            channel, size = struct.unpack("<HI", file.read(6))
            self._spans[-1].counts[channel] += size // 16
            if channel not in self._channels:
                self._open(file, self._spans[-1], count=False)

    def _open(self, file: BinaryIO, chunk: _Span, count: bool) -> None:
        """Read from the content of a chunk what its index does not say."""
        file.seek(chunk.offset)
        try:
            stream, end = _opened(file, chunk)
            for code, length in _records(stream, end):
                if code in (SCHEMA, CHANNEL):
                    self._declare(code, _declaration(stream, length))
                elif code == MESSAGE and count:
                    channel, _, time, _ = MESSAGE_HEAD.unpack(stream.read(MESSAGE_HEAD.size))
                    chunk.add(channel, time)
        except Exception:  # each compression has errors of its own
            if count:
                what = "chunks are damaged, and what they held is lost"
                self.lost.append(Loss(chunk.offset, what))

    def _declare(self, code: int, content: bytes) -> None:
        """Take a declaration; a damaged one costs only the topics that need it."""
        try:
            self._note_declared(code, content)
        except (_Damage, struct.error):
            # Its kind and number tell it from others: it may stand in several places.
            place = int.from_bytes(bytes([code]) + content[:2], "big")
            self.lost.append(Loss(place, "declarations of types or topics are damaged and lost"))

    def _note_declared(self, code: int, content: bytes) -> None:
        number = struct.unpack_from("<H", content)[0]
        if code == SCHEMA:
            name, position = _text(content, 2)
            encoding, position = _text(content, position)
            definition, _ = _text(content, position)
            self._schemas[number] = name, definition if encoding == "ros2msg" else ""
        else:
            kind, definition = self._schemas.get(struct.unpack_from("<H", content, 2)[0], ("", ""))
            topic, position = _text(content, 4)
            encoding, _ = _text(content, position)
            self._channels[number] = _Channel(topic, type_name(kind, encoding), definition)


def _records(stream: BinaryIO, stop: int) -> Iterator[tuple[int, int]]:
    """Yield code and length of each record, with the stream at its content.

    Raises:
        _Damage: a record does not end before ``stop``; the stream is at its beginning.
    """
    position = stream.tell()
    while position < stop:
        stream.seek(position)
        head = stream.read(HEAD.size)
        code, length = HEAD.unpack(head) if len(head) == HEAD.size else (0, FOREVER)
        if not code or position + HEAD.size + length > stop:
            stream.seek(position)
            raise _Damage(position)
        yield code, length
        position += HEAD.size + length


def _declaration(stream: BinaryIO, length: int) -> bytes:
    """The content of a record that declares something.

    Raises:
        _Damage: nothing that is declared has such a length.
    """
    if length > MOST_DECLARED:
        raise _Damage(stream.tell() - HEAD.size)
    return stream.read(length)


def _opened(file: BinaryIO, span: _Span) -> tuple[BinaryIO, int]:
    """A stream at the first record of a span, and where the last one ends.

    Raises:
        Exception: the chunk is damaged or too large; each compression has errors of its own.
    """
    file.seek(span.offset)
    if not span.is_chunk:
        return file, span.stop
    if span.stop - span.offset > MOST_BYTES:
        raise _Damage(span.offset)
    data = _plain_chunk(file.read(span.stop - span.offset))
    return BytesIO(data), len(data)


def _plain_chunk(content: bytes) -> bytes:
    """The records in a chunk.

    Raises:
        Exception: the chunk is damaged; each compression has errors of its own.
    """
    _, _, size, checksum = CHUNK_HEAD.unpack_from(content)
    compression, position = _text(content, CHUNK_HEAD.size)
    (length,) = struct.unpack_from("<Q", content, position)
    if size > MOST_BYTES:
        raise _Damage(position)
    data = DECOMPRESS[compression](content[position + 8 : position + 8 + length], size)
    if len(data) != size or (checksum and crc32(data) != checksum):
        raise _Damage(0)
    return data


def _text(content: bytes, position: int) -> tuple[str, int]:
    """A text with its length before it, and the position behind it."""
    (length,) = struct.unpack_from("<I", content, position)
    stop = position + 4 + length
    if stop > len(content):
        raise _Damage(position)
    return content[position + 4 : stop].decode(errors="replace"), stop


INFO = StorageInfo(ending=".mcap", open=McapFile)
