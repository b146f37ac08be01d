# SPDX-License-Identifier: Apache-2.0
"""Recorded frames through the detector: every one of them, or those that a robot would answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from time import perf_counter
from typing import Any, TypeVar

from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, DROPPED, Record, Times
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder, ImageError
from compact_yolo_ros.recordings.codec import IMAGE, Codec, stamp_of
from compact_yolo_ros.recordings.storage import BagError, Message
from compact_yolo_ros.support.newest_slots import NewestSlots

AHEAD = 4
"""Frames that are decoded while the network runs."""
MALFORMED = "image malformed"
SWITCH_INTERVAL = 2e-4
"""Seconds that a thread may keep Python to itself while the other waits: with the usual 5 ms, the
network would wait for the decoding of a frame that is not needed yet."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Frame:
    """An image message, and its pixels or the kind of its error and a sentence about it.

    ``decode`` is in seconds.
    """

    topic: str
    time: int
    stamp: int
    frame_id: str
    picture: DecodedImage | None
    error: str
    decode: float
    problem: str = ""

    def unanswered(self, outcome: str) -> Record:
        """The record of a frame that the network did not see."""
        return Record(
            self.topic, self.time, self.stamp, self.frame_id, outcome, problem=self.problem
        )


def read_frame(message: Message, codec: Codec, decoder: ImageDecoder) -> Frame:
    """Decode a message as the node does. Pixels are valid until ``decoder`` is used again."""
    try:
        image = codec.read(message)
    except BagError as found:
        return Frame(
            message.topic, message.time, message.time, "", None, MALFORMED, 0.0, str(found)
        )
    return _decode(message, image, decoder)


def _decode(message: Message, image: Any, decoder: ImageDecoder) -> Frame:
    picture, error, problem = None, "", ""
    began = perf_counter()
    try:
        picture = decoder.image(image) if message.type == IMAGE else decoder.compressed(image)
    except ImageError as found:
        error, problem = f"image {found.kind}", str(found)
    took = perf_counter() - began
    stamp, frame_id = stamp_of(image, message.time), image.header.frame_id
    return Frame(message.topic, message.time, stamp, frame_id, picture, error, took, problem)


def every_frame(
    messages: Iterable[Message], codec: Codec, detector: Detector, skip: int = 0
) -> Iterator[Record]:
    """Answer every frame, as fast as the machine can; the next ones are decoded meanwhile.

    Args:
        messages: images in the order of time.
        codec: reads them.
        detector: finds the objects.
        skip: so many frames are done already.

    Raises:
        BackendError: the network cannot be run.
    """
    # A picture may lie in its decoder: none is used again before its picture is done with.
    decoders = cycle([ImageDecoder() for _ in range(AHEAD + 2)])
    rest = islice(iter(messages), skip, None)
    frames = (read_frame(message, codec, next(decoders)) for message in rest)
    for frame in ahead(frames, AHEAD):
        yield _answer(frame, detector)


def as_on_a_robot(
    messages: Iterable[Message],
    topics: Sequence[str],
    codec: Codec,
    detector: Detector,
    *,
    latency: float | None = None,
    done: Iterable[Record] = (),
) -> Iterator[Record]:
    """Answer the frames that the node would, on the recording's clock.

    A frame arrives when the recorder received it. While one is in work, a newer one of its topic
    replaces the one that waits, and topics take turns: the node's own ``NewestSlots`` decides. The
    clock moves on by what decoding and detection take on this machine.

    Args:
        messages: images of ``topics`` in the order of time.
        topics: the node's cameras, in their order.
        codec: reads the messages.
        detector: finds the objects.
        latency: seconds that a frame takes, instead of what is measured.
        done: what was found before an interruption; not yielded again.

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
        record = _timed(message, codec, decoder, detector, clock, latency)
        clock = record.finished
        yield record


def _timed(
    message: Message,
    codec: Codec,
    decoder: ImageDecoder,
    detector: Detector,
    clock: int,
    latency: float | None,
) -> Record:
    frame = read_frame(message, codec, decoder)
    began = perf_counter()
    record = _answer(frame, detector)
    seconds = perf_counter() - began + frame.decode if latency is None else latency
    values = {**vars(record), "finished": clock + round(seconds * 1e9)}
    return Record(**values)


def _answer(frame: Frame, detector: Detector) -> Record:
    if frame.picture is None:
        return frame.unanswered(frame.error)
    found = detector.detect(frame.picture.pixels, frame.picture.colour)
    height, width = frame.picture.pixels.shape[:2]
    return Record(
        frame.topic,
        frame.time,
        frame.stamp,
        frame.frame_id,
        ANSWERED,
        (height, width),
        found,
        Times(frame.decode, *detector.times),
    )


def _dropped(message: Message, codec: Codec) -> Record:
    try:
        image = codec.read(message)
    except BagError:
        return Record(message.topic, message.time, message.time, "", DROPPED)
    stamp, frame_id = stamp_of(image, message.time), image.header.frame_id
    return Record(message.topic, message.time, stamp, frame_id, DROPPED)


def ahead(items: Iterable[Item], most: int) -> Iterator[Item]:
    """Yield ``items``, of which up to ``most`` are made in advance in a thread of their own."""
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
        except BaseException as error:  # it belongs to whoever takes the items
            put("error", error)

    thread = Thread(target=make, name="ahead", daemon=True)
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
