# SPDX-License-Identifier: Apache-2.0
"""Playback of recorded frames to a detector: all of them, or those that a robot would answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import perf_counter
from typing import Any, TypeVar

from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    DROPPED,
    FrameResult,
    FrameStages,
)
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.image_header import LONGEST_FRAME_ID, check_header
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.image_types import IMAGE
from compact_yolo_ros.recordings.storage import BagError, Message
from compact_yolo_ros.support.newest_slots import NewestSlots

AHEAD = 4
"""Frames that are decoded while the network runs."""
MALFORMED = "image malformed"
SWITCH_INTERVAL = 2e-4
"""Seconds that a thread may run Python code while the other waits: with the usual 5 ms, the network
would wait for the decoding of a frame that is not needed yet."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """An image message, decoded.

    Attributes:
        topic: of the image.
        time: when the recorder received it, in ns.
        stamp: of its header, in ns; ``time`` if it has none.
        frame_id: of its header.
        image: its pixels; None if the message could not be decoded.
        error: the kind of error then.
        decode: seconds that it took.
        problem: a sentence about the error.
        stamped: whether its header has a stamp.
    """

    topic: str
    time: int
    stamp: int
    frame_id: str
    image: DecodedImage | None
    error: str
    decode: float
    problem: str = ""
    stamped: bool = False

    def unanswered(self, outcome: str) -> FrameResult:
        """The result of a frame that the network did not see."""
        return FrameResult(
            self.topic, self.time, self.stamp, self.frame_id, outcome, problem=self.problem
        )


def read_frame(message: Message, codec: Codec, decoder: ImageDecoder) -> Frame:
    """Decode a message as the node does. Pixels are valid until ``decoder`` is used again."""
    try:
        content = codec.read(message)
    except BagError as found:
        return Frame(
            message.topic, message.time, message.time, "", None, MALFORMED, 0.0, str(found)
        )
    return _decode(message, content, decoder)


def _decode(message: Message, content: Any, decoder: ImageDecoder) -> Frame:
    image, error, problem = None, "", ""
    began = perf_counter()
    try:
        check_header(content.header)
        decode = decoder.image if message.type == IMAGE else decoder.compressed
        image = decode(content)
    except ImageError as found:
        error, problem = f"image {found.kind}", str(found)
    took = perf_counter() - began
    stamp, frame_id = stamp_of(content, message.time), content.header.frame_id[:LONGEST_FRAME_ID]
    stamped = stamp_of(content, 0) != 0
    return Frame(message.topic, message.time, stamp, frame_id, image, error, took, problem, stamped)


def every_frame(
    messages: Iterable[Message], codec: Codec, detector: Detector, skip: int = 0
) -> Iterator[FrameResult]:
    """Answer every frame as fast as the machine can, while the next ones are decoded.

    Args:
        messages: images in the order of time.
        codec: reads them.
        detector: finds the objects.
        skip: number of frames, from the first on, that are done already.

    Raises:
        BackendError: the network cannot be run.
    """
    # An image may be memory of its decoder, which must not decode again while it is in use.
    decoders = cycle([ImageDecoder() for _ in range(AHEAD + 2)])
    rest = islice(iter(messages), skip, None)
    frames = (read_frame(message, codec, next(decoders)) for message in rest)
    for frame in prefetch(frames, AHEAD):
        yield _answer(frame, detector)


def as_on_a_robot(
    messages: Iterable[Message],
    topics: Sequence[str],
    codec: Codec,
    detector: Detector,
    *,
    latency: float | None = None,
    done: Iterable[FrameResult] = (),
) -> Iterator[FrameResult]:
    """Answer the frames that the node would, on the recording's clock.

    A frame arrives when the recorder received it. While one is processed, a newer one of a topic
    replaces the one that waits, and topics take turns: the node's own ``NewestSlots`` decides. The
    clock advances by what decoding and detection take on this machine.

    Args:
        messages: images of ``topics`` in the order of time.
        topics: the node's cameras, in their order.
        codec: reads the messages.
        detector: finds the objects.
        latency: seconds that a frame takes, instead of what is measured.
        done: results from before an interruption; they are not yielded again.

    Raises:
        BackendError: the network cannot be run.
    """
    slots: NewestSlots[Message] = NewestSlots(len(topics))
    waiting: dict[str, Message] = {}
    decoder, known = ImageDecoder(), iter(done)
    arrivals = iter(messages)
    coming = next(arrivals, None)
    clock = 0
    while coming is not None or waiting:
        if not waiting and coming is not None:
            clock = max(clock, coming.time)
        while coming is not None and coming.time <= clock:
            old = waiting.get(coming.topic)
            if old is not None and next(known, None) is None:
                yield _dropped(old, codec)
            slots.put(coming, topics.index(coming.topic))
            waiting[coming.topic] = coming
            coming = next(arrivals, None)
        message = slots.take()
        assert message is not None  # one waits, and the slots are never closed
        del waiting[message.topic]
        before = next(known, None)
        if before is not None:
            clock = before.finished
            continue
        result = _timed(message, codec, decoder, detector, clock, latency)
        clock = result.finished
        yield result


def _timed(
    message: Message,
    codec: Codec,
    decoder: ImageDecoder,
    detector: Detector,
    clock: int,
    latency: float | None,
) -> FrameResult:
    frame = read_frame(message, codec, decoder)
    began = perf_counter()
    result = _answer(frame, detector)
    seconds = perf_counter() - began + frame.decode if latency is None else latency
    return replace(result, finished=clock + round(seconds * 1e9))


def _answer(frame: Frame, detector: Detector) -> FrameResult:
    if frame.image is None:
        return frame.unanswered(frame.error)
    found = detector.detect(frame.image.pixels, frame.image.colour)
    height, width = frame.image.pixels.shape[:2]
    return FrameResult(
        frame.topic,
        frame.time,
        frame.stamp,
        frame.frame_id,
        ANSWERED,
        Size(width, height),
        found,
        FrameStages(frame.decode, *detector.times),
    )


def _dropped(message: Message, codec: Codec) -> FrameResult:
    try:
        content = codec.read(message)
    except BagError:
        return FrameResult(message.topic, message.time, message.time, "", DROPPED)
    stamp, frame_id = stamp_of(content, message.time), content.header.frame_id[:LONGEST_FRAME_ID]
    return FrameResult(message.topic, message.time, stamp, frame_id, DROPPED)


def prefetch(items: Iterable[Item], most: int) -> Iterator[Item]:
    """Yield ``items``; a thread of its own makes up to ``most`` of them in advance."""
    queue: Queue[tuple[str, Any]] = Queue(most)
    ended = Event()

    def put(kind: str, value: Any) -> None:
        while not ended.is_set():
            try:
                queue.put((kind, value), timeout=0.1)
                return
            except Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put("item", item)
                if ended.is_set():
                    return
            put("end", None)
        except BaseException as error:  # raised where the items are taken
            put("error", error)

    thread = Thread(target=make, name="prefetch", daemon=True)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        ended.set()
        sys.setswitchinterval(usual)
        _drain(queue.get_nowait)
        thread.join()


def _drain(get: Callable[[], object]) -> None:
    try:
        while True:
            get()
    except Empty:
        return
