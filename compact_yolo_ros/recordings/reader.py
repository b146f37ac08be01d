# SPDX-License-Identifier: Apache-2.0
"""Reading rosbag2 recordings: every storage, split, compressed, whole or broken off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from compact_yolo_ros.recordings.codec import IMAGE_TYPES
from compact_yolo_ros.recordings.compression import check_libraries, plain_file
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
from compact_yolo_ros.support.yaml_files import read_yaml

METADATA = "metadata.yaml"
METADATA_LIMITS = Limits(size=16_000_000, values=300_000)
"""A recording in 5,000 files has 60,000 values; the parser reads 50,000 a second."""
COMPRESSED_DEPTH = "/compressedDepth"


class Bag:
    """One recording, or several as if they were one; every process that reads it opens its own.

    Attributes:
        paths: as given.
        files: the files, in any order.
        topics: by name; counts are of all messages that can be read.
        expected: number of messages by topic, as the recorder counted; empty if it crashed.
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
        self._ranges: list[tuple[int, int, Path, Storage | None]] = []
        self._kept: tuple[Path, Storage, ExitStack] | None = None
        for path in paths:
            for file in self._files_of(path):
                if any(file.samefile(other) for other in self.files):
                    raise BagError(f"{file} is given twice")
                self._scan(file)
        if not self._ranges:
            why = "; ".join(self._lost) or "it holds no messages"
            raise BagError(f"nothing can be read of {', '.join(map(str, paths))}: {why}")
        self.start = min(start for start, _, _, _ in self._ranges)
        self.end = max(end for _, end, _, _ in self._ranges)

    @property
    def lost(self) -> list[str]:
        """A sentence for everything that could not be read so far."""
        opened = (storage.lost for *_, storage in self._ranges if storage)
        return list(dict.fromkeys([*self._lost, *(text for lost in opened for text in lost)]))

    @property
    def covered(self) -> list[tuple[int, int]]:
        """Times (ns, from and below) of the files, where they overlap as one, in their order."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted((start, end + 1) for start, end, _, _ in self._ranges):
            if merged and start <= merged[-1][1]:
                start, last = merged.pop()
                end = max(end, last)
            merged.append((start, end))
        return merged

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
            yield from storage.messages(topics, start, stop)
            return
        storage = self._unpacked(path)
        yield from storage.messages(topics, start, stop)
        self._lost += [sentence for sentence in storage.lost if sentence not in self._lost]

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

    def _files_of(self, path: Path) -> list[Path]:
        """The files of a folder or a file that exist; missing ones are noted in ``lost``."""
        if not path.exists():
            raise BagError(f"there is no recording {path}")
        if path.is_file():
            if path.name == METADATA:
                path = path.parent
            elif path.suffix == ".bag":
                raise BagError(
                    f"{path} is of ROS 1: `rosbags-convert --src {path} --dst {path.stem}` makes "
                    "a recording of ROS 2 from it"
                )
            else:
                return [path]
        present = sorted(
            file
            for file in path.iterdir()
            if Path(file.name.removesuffix(".zstd")).suffix in STORAGES
        )
        # A file next to its own compressed form: the recorder was about to delete it.
        files = [f for f in present if f.suffix != ".zstd" or f.with_suffix("") not in present]
        if not files:
            raise BagError(f"{path} is not a recording: it holds no {endings()} files")
        missing = set(map(_name, self._metadata(path))) - {_name(file.name) for file in files}
        self._lost += [f"{path.name}: the file {name} is missing" for name in sorted(missing)]
        return files

    def _metadata(self, folder: Path) -> list[str]:
        """Note how much the recorder wrote, and return its files; none without metadata."""
        try:
            content = read_yaml(folder / METADATA, METADATA_LIMITS)
            metadata = content["rosbag2_bagfile_information"]
            for entry in metadata["topics_with_message_count"]:
                name, count = entry["topic_metadata"]["name"], int(entry["message_count"])
                self.expected[name] = self.expected.get(name, 0) + count
            return list(map(str, metadata["relative_file_paths"]))
        except FileNotFoundError:
            self._lost.append(
                f"{folder.name} has no {METADATA}: the recorder was not closed, so the last "
                "messages may be missing"
            )
        except (OSError, ValueError, TypeError, KeyError):
            self._lost.append(f"{folder.name}: {METADATA} cannot be read, and is ignored")
        return []

    def _scan(self, file: Path) -> None:
        self.files.append(file)
        compressed = file.suffix == ".zstd"
        lost: list[str] = []
        try:
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
            self._lost += storage.lost
        for topic in storage.topics:
            before = self.topics.get(topic.name)
            if before and before.type != topic.type and topic.count:
                raise BagError(
                    f"{topic.name} is {before.type} and {topic.type}: give one recording"
                )
            count = topic.count + (before.count if before else 0)
            text = topic.definition or (before.definition if before else "")
            self.topics[topic.name] = Topic(topic.name, topic.type, count, text)
        if not empty:
            # A compressed file is unpacked again when it is read: it takes room while it is open.
            kept = None if compressed else storage
            self._ranges.append((storage.start, storage.end, file, kept))


def _name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1].removesuffix(".zstd")


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
    there = ", ".join(f"{name} ({topic.count} images)" for name, topic in images.items())
    listing = f"its image topics are {there}" if images else "it has no image topics"
    if not names:
        filled = [name for name, topic in images.items() if topic.count]
        if len(filled) == 1:
            return filled
        raise BagError(f"choose a topic of the recording: {listing}")
    for name in names:
        if name not in bag.topics:
            raise BagError(f"the recording has no topic {name}: {listing}")
        if name not in images:
            raise BagError(f"{name} is {bag.topics[name].type}, not images: {listing}")
        if not images[name].count:
            raise BagError(f"{name} has no images: {listing}")
    return list(dict.fromkeys(names))
