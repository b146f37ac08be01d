# SPDX-License-Identifier: Apache-2.0
"""Reading rosbag2 recordings: every storage, split, compressed, whole or broken off."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from shlex import join

from compact_yolo_ros.recordings.compression import check_libraries, plain_file
from compact_yolo_ros.recordings.foxglove import FOREIGN_TYPES
from compact_yolo_ros.recordings.image_types import IMAGE_TYPES
from compact_yolo_ros.recordings.losses import Losses
from compact_yolo_ros.recordings.storage import (
    FOREVER,
    BagError,
    Message,
    Storage,
    StorageError,
    Topic,
    in_time_order,
)
from compact_yolo_ros.recordings.storages import STORAGES, endings, open_storage
from compact_yolo_ros.support.document import Limits
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import check_present
from compact_yolo_ros.support.yaml_files import read_yaml

METADATA = "metadata.yaml"
METADATA_LIMITS = Limits(size=16_000_000, values=300_000)
"""A recording in 5,000 files has 60,000 values; the parser reads 50,000 a second."""
COMPRESSED_DEPTH = "/compressedDepth"
PAUSE = 10**9
"""Least time in ns between two recordings; those that follow each other sooner are one."""
MOST_NAMED = 12
"""Most topics that a sentence names."""
MOST_DEFINED = 2**18
"""Longest definition of a message type in letters; the parser reads about 100,000 a second."""


class Bag:
    """One recording, or several as if they were one; every process that reads it opens its own.

    Attributes:
        paths: as given.
        files: the files, in any order.
        topics: by name; counts are of all messages that can be read.
        expected: number of messages by topic, as the recorder counted; empty if it crashed.
        recordings: their times (ns, from and below) in their order.
        start: time of the first message in ns.
        end: time of the last message in ns.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Scan all files.

        Args:
            paths: folders or single files of ``STORAGES``, also with a further .zstd.

        Raises:
            BagError: nothing can be read there, or rosbags is missing.
        """
        check_libraries()
        self.paths = tuple(paths)
        self.files: list[Path] = []
        self.expected: dict[str, int] = {}
        self.topics: dict[str, Topic] = {}
        self._lost: list[str] = []
        self._closed_lost = Losses()  # of compressed files, which are not kept open
        self._ranges: list[tuple[int, int, Path, Storage | None]] = []
        self._kept: tuple[Path, Storage, ExitStack] | None = None
        spans = [span for path in paths if (span := self._scan_all(self._files_of(path)))]
        if not spans:
            why = "; ".join(self._lost) or "it holds no messages"
            raise BagError(f"nothing can be read of {', '.join(map(str, paths))}: {why}")
        self.recordings = _joined(spans)
        self.start, self.end = self.recordings[0][0], self.recordings[-1][1] - 1

    @property
    def length(self) -> int:
        """Ns of all recordings together, without the time between them."""
        return sum(stop - start for start, stop in self.recordings)

    @property
    def lost(self) -> list[str]:
        """A sentence for everything that could not be read so far."""
        return self.losses.sentences()

    @property
    def losses(self) -> Losses:
        """The same, to be added up with what others read of the recording."""
        found = Losses(self._lost)
        found.add(self._closed_lost)
        for *_, path, storage in self._ranges:
            found.note(storage.lost if storage else (), path)
        return found

    def messages(
        self, topics: Sequence[str], start: int = 0, stop: int = FOREVER
    ) -> Iterator[Message]:
        """Yield messages with start <= time < stop (ns) in the order of their times.

        Only what is needed for the next message is in memory. Messages that cannot be read are
        left out and reported in ``lost``.
        """
        wanted = frozenset(topics)
        return in_time_order(
            (first, partial(self._read, path, storage, wanted, start, stop))
            for first, last, path, storage in self._ranges
            if first < stop and last >= start
        )

    def _read(
        self, path: Path, storage: Storage | None, topics: frozenset[str], start: int, stop: int
    ) -> Iterator[Message]:
        if storage is not None:
            yield from map(_in_ros, storage.messages(topics, start, stop))
            return
        storage = self._unpacked(path)
        try:
            yield from map(_in_ros, storage.messages(topics, start, stop))
        finally:
            self._closed_lost.note(storage.lost, path)

    def _unpacked(self, path: Path) -> Storage:
        """A compressed file; the last one stays unpacked, since parts of it are read in turn."""
        if self._kept is not None and self._kept[0] == path:
            return self._kept[1]
        if self._kept is not None:
            # A reader that is not done yet has the file open, so it may be deleted.
            self._kept[2].close()
            self._kept = None
        with ExitStack() as stack:
            storage = open_storage(stack.enter_context(plain_file(path, self._lost)))
            self._kept = path, storage, stack.pop_all()
        return storage

    def _files_of(self, path: Path) -> Sequence[Path]:
        """The files of a folder or a file that exist; missing ones are noted in ``lost``."""
        mode = _mode(path)
        if stat.S_ISREG(mode):
            if path.name == METADATA:
                path = path.parent
            elif path.suffix == ".bag":
                line = join(["rosbags-convert", "--src", str(path), "--dst", path.stem])
                raise BagError(f"{path} is of ROS 1: `{line}` makes a recording of ROS 2 from it")
            else:
                return [path]
        elif not stat.S_ISDIR(mode):
            raise BagError(f"{path} is neither a folder nor a regular file")
        present = _storage_files(path)
        # A file next to its own compressed form: the recorder was about to delete it.
        files = [f for f in present if f.suffix != ".zstd" or f.with_suffix("") not in present]
        if not files:
            raise BagError(f"{path} is not a recording: it holds no {endings()} files")
        return self._listed(path, files)

    def _listed(self, folder: Path, files: Sequence[Path]) -> Sequence[Path]:
        """The files of a folder that its metadata list; all of them if it lists none that is there.

        Others are copies or of other recordings: their messages would count twice.
        """
        listed = set(map(_name, self._metadata(folder)))
        missing = listed - {_name(file.name) for file in files}
        self._lost += [f"{folder.name}: the file {name} is missing" for name in sorted(missing)]
        found = [file for file in files if _name(file.name) in listed]
        if not found:
            return files
        self._lost += [
            f"{folder.name}: {file.name} is left out, since {METADATA} does not list it"
            for file in files
            if file not in found
        ]
        return found

    def _metadata(self, folder: Path) -> list[str]:
        """Note how much the recorder wrote, and return its files; none without metadata."""
        try:
            content = read_yaml(folder / METADATA, METADATA_LIMITS)
            metadata = content["rosbag2_bagfile_information"]
            files = list(map(str, metadata["relative_file_paths"]))
            counts = [
                (entry["topic_metadata"]["name"], int(entry["message_count"]))
                for entry in metadata["topics_with_message_count"]
            ]
            for name, count in counts:
                self.expected[name] = self.expected.get(name, 0) + count
            return files
        except FileNotFoundError:
            self._lost.append(
                f"{folder.name} has no {METADATA}: the recorder was not closed, so the last "
                "messages may be missing"
            )
        except (OSError, ValueError, TypeError, KeyError):
            self._lost.append(f"{folder.name}: {METADATA} cannot be read, and is ignored")
        return []

    def _scan_all(self, files: Sequence[Path]) -> tuple[int, int] | None:
        """Scan the files of a path; return their time (ns, from and below), if they have any.

        However far apart their messages are, they are one recording: it may be of a slow camera.
        """
        before = len(self._ranges)
        for file in files:
            self._scan(file)
        found = self._ranges[before:]
        if not found:
            return None
        return min(start for start, *_ in found), max(end for _, end, *_ in found) + 1

    def _scan(self, file: Path) -> None:
        compressed = file.suffix == ".zstd"
        lost: list[str] = []
        try:
            check_present(file)
            if any(file.samefile(other) for other in self.files):
                raise BagError(f"{file} is given twice")
            self.files.append(file)
            with plain_file(file, lost) as plain:
                storage = open_storage(plain)
        except StorageError as error:
            self._lost += [*lost, str(error)]
            return
        except OSError as error:
            self._lost.append(f"cannot read {file}: {error.strerror}")
            return
        self._lost += lost
        empty = storage.start >= FOREVER
        if empty and any(topic.count for topic in storage.topics):
            self._lost.append(f"{file.name}: the times of its messages lie beyond the year 2262")
        if compressed or empty:
            self._closed_lost.note(storage.lost, file)
        for topic in map(_read_as, storage.topics):
            before = self.topics.get(topic.name)
            if before and before.shown_type != topic.shown_type and topic.count:
                both = f"{before.shown_type} and {topic.shown_type}"
                raise BagError(f"{topic.name} is {both}: give one recording")
            count = topic.count + (before.count if before else 0)
            text = topic.definition or (before.definition if before else "")
            self.topics[topic.name] = replace(topic, count=count, definition=text)
        if not empty:
            # A compressed file is unpacked again when it is read: it takes room while it is open.
            kept = None if compressed else storage
            self._ranges.append((storage.start, storage.end, file, kept))


def time_after(spans: Sequence[tuple[int, int]], elapsed: int) -> int:
    """The time when so much of ``spans`` has passed; what is between them does not count.

    Args:
        spans: times from and below, in their order, as ``Bag.recordings``.
        elapsed: like all of these, in ns; more than all of them leads behind the last one.
    """
    for start, stop in spans:
        if elapsed < stop - start:
            return start + elapsed
        elapsed -= stop - start
    return spans[-1][1] + elapsed


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Times (ns, from and below) in their order; those less than ``PAUSE`` apart become one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start - joined[-1][1] < PAUSE:
            start, before = joined.pop()
            stop = max(stop, before)
        joined.append((start, stop))
    return joined


def _mode(path: Path) -> int:
    """The kind of a file; BagError if it is not there or cannot be reached."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BagError(f"there is no recording {path}") from None
    except (OSError, ValueError) as error:
        raise BagError(f"cannot read {str(path)[:200]!r}: {reason(error)}") from None


def _storage_files(folder: Path) -> list[Path]:
    """What a folder holds by the names of recordings; BagError if it cannot be read."""
    try:
        return sorted(
            file
            for file in folder.iterdir()
            if Path(file.name.removesuffix(".zstd")).suffix in STORAGES
        )
    except OSError as error:
        raise BagError(f"cannot read {folder}: {error.strerror}") from None


def _read_as(topic: Topic) -> Topic:
    """A topic with the type that its messages are read as."""
    if len(topic.definition) > MOST_DEFINED:
        topic = replace(topic, definition="")
    foreign = FOREIGN_TYPES.get(topic.type)
    return replace(topic, type=foreign.read_as, recorded_as=topic.type) if foreign else topic


def _in_ros(message: Message) -> Message:
    """A message with the type that it is read as."""
    foreign = FOREIGN_TYPES.get(message.type)
    if foreign is None:
        return message
    return message._replace(type=foreign.read_as, recorded_as=message.type)


def _name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1].removesuffix(".zstd")


def recording_and_topic(text: str) -> tuple[str, str] | None:
    """Split ``RECORDING:TOPIC``; None if a text is not of that form."""
    recording, _, topic = text.rpartition(":")
    return (recording, topic) if recording and topic.startswith("/") else None


def choose_topics(bag: Bag, names: Sequence[str]) -> list[str]:
    """Choose the image topics to read: those that are given, or the only one that has images.

    Raises:
        BagError: a topic is not there or has no images, or none is given and several have images.
    """
    images = {
        name: topic
        for name, topic in sorted(bag.topics.items())
        if topic.type in IMAGE_TYPES and not name.endswith(COMPRESSED_DEPTH)
    }
    listing = _image_topics(images) if images else _other_topics(bag)
    if not names:
        filled = [name for name, topic in images.items() if topic.count]
        if len(filled) == 1:
            return filled
        if not images:
            raise BagError(f"the recording shows nothing: {listing}")
        raise BagError(f"choose a topic of the recording: {listing}")
    for name in names:
        if name not in bag.topics:
            raise BagError(f"the recording has no topic {name}: {listing}")
        if name not in images:
            raise BagError(f"{name} is {bag.topics[name].shown_type}, not images: {listing}")
        if not images[name].count:
            raise BagError(f"{name} has no images: {listing}")
    return list(dict.fromkeys(names))


def _image_topics(images: Mapping[str, Topic]) -> str:
    named = [f"{name} ({topic.count} images)" for name, topic in images.items()]
    return f"its image topics are {_some(named)}"


def _other_topics(bag: Bag) -> str:
    named = [f"{name} ({topic.shown_type})" for name, topic in sorted(bag.topics.items())]
    if not named:
        return "it has no topics"
    foxglove = (f"foxglove.{name}" for name in ("RawImage", "CompressedImage", "CompressedVideo"))
    kinds = ", ".join((*IMAGE_TYPES, *foxglove))
    return f"it has no image topics ({kinds}), but {_some(named)}"


def _some(names: Sequence[str]) -> str:
    """The first of many names, each of bounded length."""
    rest = len(names) - MOST_NAMED
    shown = [name if len(name) <= 200 else f"{name[:200]}..." for name in names[:MOST_NAMED]]
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
