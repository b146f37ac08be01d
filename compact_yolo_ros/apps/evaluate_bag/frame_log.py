# SPDX-License-Identifier: Apache-2.0
"""The result of every frame of a recording, kept in files that survive an interruption."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.losses import Counted, Losses
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.json_files import parse_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain

ANSWERED, DROPPED = "answered", "dropped"
LOST_BEFORE, LOST_AFTER = "lost before the node", "lost after the node"
TOO_OLD, SKIPPED, FAILED = "too old", "skipped", "failed in the node"
NOT_ANSWERED = "not answered"
UNANSWERED = (DROPPED, LOST_BEFORE, TOO_OLD, SKIPPED, FAILED, LOST_AFTER, NOT_ANSWERED)
"""Outcomes of frames that can be read, but have no detections; all but the first of a live node."""
END = b'{"end": '
"""How the last line of a complete log begins."""


class FrameStages(NamedTuple):
    """Seconds of the stages of an answered frame; nan where one was not measured.

    Attributes:
        decode: bytes of the message to pixels.
        preprocess: pixels to the input of the network.
        inference: the network.
        postprocess: suppression and mapping back.
    """

    decode: float = 0.0
    preprocess: float = 0.0
    inference: float = 0.0
    postprocess: float = 0.0


UNMEASURED = FrameStages(*[math.nan] * len(FrameStages._fields))
"""Of an answer of a live node whose ``~/performance`` was not recorded."""


@dataclass(frozen=True)
class FrameResult:
    """The result of one frame.

    Attributes:
        topic: of the image.
        time: when the recorder received it, in ns.
        stamp: of its header, in ns; ``time`` if it has none.
        frame_id: of its header.
        outcome: ``ANSWERED``, one of ``UNANSWERED``, or the kind of error that kept it from being
            answered.
        size: in pixels; 0x0 unless answered.
        detections: boxes in pixels of the frame.
        stages: what they took.
        finished: when a robot would have had the detections, in ns on the recording's clock; 0
            if every frame was processed, however long it took.
        problem: a sentence about the error.
    """

    topic: str
    time: int
    stamp: int
    frame_id: str
    outcome: str
    size: Size = Size(0, 0)
    detections: Detections = field(default_factory=Detections.empty)
    stages: FrameStages = FrameStages()
    finished: int = 0
    problem: str = ""

    @property
    def age(self) -> float:
        """Seconds from the stamp to the detections, on the recording's clock."""
        return (self.finished - self.stamp) * 1e-9

    def to_line(self) -> bytes:
        """One line of JSON, with the exact detections in base64."""
        found = self.detections
        columns = (found.boxes, found.scores[:, None], found.labels[:, None])
        table = np.hstack(columns).astype("<f4")
        values = {
            "topic": self.topic,
            "time": self.time,
            "stamp": self.stamp,
            "frame_id": self.frame_id,
            "outcome": self.outcome,
            "size": self.size,
            "found": base64.b64encode(table.tobytes()).decode(),
            "stages": [None if math.isnan(each) else round(each, 7) for each in self.stages],
            "finished": self.finished,
            "problem": self.problem,
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> FrameResult:
        """Read what ``to_line`` wrote."""
        values = parse_json(line, LARGE)
        table = np.frombuffer(base64.b64decode(values.pop("found")), "<f4").reshape(-1, 6)
        boxes, scores = table[:, :4].astype(np.float32), table[:, 4].astype(np.float32)
        values["detections"] = Detections(boxes, scores, table[:, 5].astype(np.int32))
        values["size"] = Size(*values["size"])
        stages = (math.nan if seconds is None else seconds for seconds in values["stages"])
        values["stages"] = FrameStages(*stages)
        return cls(**values)


class FrameLog:
    """The results of one part of a recording, in the order in which they were made.

    Attributes:
        path: the file.
        count: number of results in it.
        complete: whether the part is done.
    """

    def __init__(self, path: Path) -> None:
        """Continue ``path``, or begin it. Half a line, left by a crash, is cut off.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("r+b", 0) if path.exists() else path.open("w+b", 0)
        self._size = self.count = 0
        self.complete = False
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            self._size += len(line)
            if line.startswith(END):
                self.complete = True
            else:
                self.count += 1
        self._file.truncate(self._size)
        self._file.seek(self._size)

    def append(self, result: FrameResult) -> None:
        """Write a result; the operating system has it when this returns.

        Raises:
            BagError: the disk is full or the like; the log is as it was before.
        """
        self._write(result.to_line())
        self.count += 1

    def finish(self, lost: Losses) -> None:
        """Mark the part as complete, with what could not be read of it."""
        end = to_plain(_End(tuple(lost.told), tuple(lost.counted)))
        self._write(json.dumps(end).encode() + b"\n")
        self.complete = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file.fileno(), line[written:])
        except OSError as error:
            os.ftruncate(self._file.fileno(), self._size)
            os.lseek(self._file.fileno(), self._size, os.SEEK_SET)
            raise BagError(
                f"cannot write {self.path}: {error.strerror}; what is done is kept: run the "
                "same command again when there is room"
            ) from None
        self._size += len(line)


def read_frame_log(path: Path) -> Iterator[FrameResult]:
    """Yield the results in a log; a last line that breaks off is left out.

    Raises:
        BagError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and not line.startswith(END):
                    yield FrameResult.from_line(line)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise BagError(f"{path} is damaged: give --restart to begin again") from None


def read_lost(path: Path) -> Losses:
    """What could not be read of a part, from its complete log.

    Raises:
        BagError: it is damaged.
    """
    try:
        with path.open("rb") as file:
            for line in file:
                if line.startswith(END):
                    found = from_plain(_End, parse_json(line, LARGE))
                    return Losses(found.end, found.counted)
    except ValueError:
        raise BagError(f"{path} is damaged: give --restart to begin again") from None
    return Losses()


class _End(NamedTuple):
    """The last line of a complete log."""

    end: tuple[str, ...]
    counted: tuple[Counted, ...] = ()
