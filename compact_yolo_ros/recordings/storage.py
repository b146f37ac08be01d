# SPDX-License-Identifier: Apache-2.0
"""What the files of a recording have in common, whatever their format, and the row of a format."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

FOREVER = 2**63 - 1
"""Later than any message, in nanoseconds."""


class BagError(ValueError):
    """A recording cannot be used, or does not have what the caller needs; one sentence."""


class StorageError(ValueError):
    """A file is not in its storage's format, or too damaged to read its topics; one sentence."""


@dataclass(frozen=True)
class Topic:
    """A topic of a recording.

    Attributes:
        name: with its namespace.
        type: such as ``sensor_msgs/msg/Image``; see ``type_name``.
        count: messages that can be read, before any damage found on the way.
        definition: text of the message type in .msg form, with those it needs; may be empty.
        recorded_as: the type in the recording, where ``type`` is what it is read as; or empty.
    """

    name: str
    type: str
    count: int
    definition: str = ""
    recorded_as: str = ""

    @property
    def shown_type(self) -> str:
        """The type in the recording, for people."""
        return self.recorded_as or self.type


class Message(NamedTuple):
    """A message as it was recorded: ``time`` is that of its arrival at the recorder, in ns.

    See ``Topic`` for ``type`` and ``recorded_as``. ``problem`` says why there are no data.
    """

    time: int
    topic: str
    type: str
    data: bytes
    recorded_as: str = ""
    problem: str = ""


class Loss(NamedTuple):
    """Messages that cannot be read, at one place of a file: found again, they are the same.

    Attributes:
        place: tells it from others, such as an offset or the number of a message.
        what: what is lost, as it follows a number: ``messages of /camera are damaged and lost``.
        number: how many.
    """

    place: int
    what: str
    number: int = 1


def type_name(kind: str, encoding: str) -> str:
    """The type of a topic: as ROS has it, or ``kind (encoding)`` where messages are not CDR."""
    if encoding in ("cdr", ""):
        return kind
    return f"{kind or 'untyped'} ({encoding})"


class Storage(Protocol):
    """One file of a recording, scanned once when it was opened.

    Attributes:
        topics: those in the file.
        start: time of the first message in ns; ``FOREVER`` without messages.
        end: time of the last message in ns; 0 without messages.
        lost: a sentence, or what makes one together with others of its kind, for everything that
            could not be read so far.
    """

    topics: list[Topic]
    start: int
    end: int
    lost: list[str | Loss]

    def messages(self, topics: frozenset[str], start: int, stop: int) -> Iterator[Message]:
        """Yield messages with start <= time < stop (ns) in the order of their times."""


@dataclass(frozen=True)
class StorageInfo:
    """The row of a storage format.

    Attributes:
        ending: of its files' names, with the dot.
        open: opens a file; raises ``StorageError`` or OSError.
    """

    ending: str
    open: Callable[[Path], Storage]


Part = tuple[int, Callable[[], Iterator[Message]]]
"""Time of the first message, and what yields the messages in the order of their times."""


def in_time_order(parts: Iterable[Part]) -> Iterator[Message]:
    """Yield the messages of all parts in the order of their times.

    A part is opened at the time of its first message, so that only overlapping ones are in memory.
    Messages of one time come in the order of the parts.
    """
    opened: list[tuple[int, int, Message, Iterator[Message]]] = []

    def advance(number: int, messages: Iterator[Message]) -> None:
        message = next(messages, None)
        if message is not None:
            heapq.heappush(opened, (message.time, number, message, messages))

    def earliest() -> Message:
        _, number, message, messages = heapq.heappop(opened)
        advance(number, messages)
        return message

    for number, (start, messages) in enumerate(sorted(parts, key=lambda part: part[0])):
        while opened and opened[0][0] < start:
            yield earliest()
        advance(number, messages())
    while opened:
        yield earliest()
