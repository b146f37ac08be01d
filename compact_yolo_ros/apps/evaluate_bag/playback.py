# SPDX-License-Identifier: Apache-2.0
"""Playback of recorded frames to a detector: all of them, or those that a robot would answer."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from queue import SimpleQueue
from threading import Event, Thread
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    DROPPED,
    FrameResult,
    FrameStages,
)
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Answer, Detector, Prepared
from compact_yolo_ros.detection.view import PLAIN, View
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.image_header import LONGEST_FRAME_ID, check_header
from compact_yolo_ros.pixels.jpeg_pixels import Window
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.image_types import IMAGE
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError, Message
from compact_yolo_ros.recordings.video import images
from compact_yolo_ros.support.newest_slots import NewestSlots

AHEAD = 4
"""Frames that are decoded while the network runs, and answers that wait for what follows it."""
FIRST = 10
"""Images of a topic among which one is looked for that can be read."""
MALFORMED, NO_PICTURE = "image malformed", "image video"
SWITCH_INTERVAL = 2e-4
"""Seconds that a thread may run Python code while another waits: with the usual 5 ms, the network
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


def read_frame(
    message: Message, codec: Codec, decoder: ImageDecoder, window: Window | None = None
) -> Frame:
    """Decode a message as the node does. Pixels are valid until ``decoder`` is used again.

    Args:
        message: an image.
        codec: reads it.
        decoder: decodes it.
        window: how many pixels are needed; None: all.
    """
    try:
        content = codec.read(message)
    except BagError as found:
        error = NO_PICTURE if message.problem else MALFORMED
        return Frame(message.topic, message.time, message.time, "", None, error, 0.0, str(found))
    return _decode(message, content, decoder, window)


def _decode(message: Message, content: Any, decoder: ImageDecoder, window: Window | None) -> Frame:
    image, error, problem = None, "", ""
    began = perf_counter()
    try:
        check_header(content.header)
        decode = decoder.image if message.type == IMAGE else decoder.compressed
        image = decode(content, window)
    except ImageError as found:
        error, problem = f"image {found.kind}", str(found)
    took = perf_counter() - began
    stamp, frame_id = stamp_of(content, message.time), content.header.frame_id[:LONGEST_FRAME_ID]
    stamped = stamp_of(content, 0) != 0
    return Frame(message.topic, message.time, stamp, frame_id, image, error, took, problem, stamped)


def first_image_sizes(bag: Bag, topics: Sequence[str], start: int, stop: int) -> tuple[Size, ...]:
    """The size of the first image of each topic, of those that can be read.

    Args:
        bag: the recording.
        topics: of images.
        start: time of the first frame, in ns.
        stop: time behind the last frame, in ns.
    """
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    sizes = []
    for topic in topics:
        decodable = (each for each in images(bag, [topic], start, stop) if not each.problem)
        for message in islice(decodable, FIRST):
            image = read_frame(message, codec, decoder).image
            if image is not None:
                sizes.append(Size(*image.size))
                break
    return tuple(sizes)


def every_frame(
    messages: Iterable[Message],
    codec: Codec,
    detector: Detector,
    skip: int = 0,
    view: View = PLAIN,
) -> Iterator[FrameResult]:
    """Answer every frame as fast as the machine can.

    One thread decodes, one runs the network, and the caller's does what follows.

    Args:
        messages: images in the order of time.
        codec: reads them.
        detector: finds the objects.
        skip: number of frames, from the first on, that are done already.
        view: how the network sees them; if not as they are, one thread does it all.

    Raises:
        BackendError: the network cannot be run.
    """
    rest = islice(iter(messages), skip, None)
    if not view.is_plain:
        decoder, window = ImageDecoder(), view.window(detector.window)
        for message in rest:
            yield _answer(read_frame(message, codec, decoder, window), detector, view)
        return
    with _short_turns():
        ready = prefetch(_prepared(rest, codec, detector), AHEAD)
        answered = prefetch(_answers(ready, detector), AHEAD)
        with closing(answered):
            for frame, size, answer in answered:
                if answer is None:
                    yield frame.unanswered(frame.error)
                else:
                    yield _result(frame, size, detector.conclude(answer), detector)


def _prepared(
    messages: Iterable[Message], codec: Codec, detector: Detector
) -> Generator[tuple[Frame, Prepared | None]]:
    """Decode frames and make the network's inputs of them, in a thread of their own."""
    # An image may be memory of its decoder, which must not decode again while it is in use.
    decoders = cycle([ImageDecoder() for _ in range(AHEAD + 2)])
    letterboxes = cycle([_AheadLetterbox(detector) for _ in range(AHEAD + 2)])
    for message in messages:
        frame = read_frame(message, codec, next(decoders), detector.window)
        yield frame, next(letterboxes)(frame.image) if frame.image else None


class _AheadLetterbox:
    """Makes inputs for the network in a buffer of its own, valid until the next call."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._pixels = np.empty((0, 0, 3), np.uint8)

    def __call__(self, image: DecodedImage) -> Prepared:
        began = perf_counter()
        size = self._detector.input_size(*image.size)
        if self._pixels.shape[:2] != size.shape:
            self._pixels = np.empty((*size.shape, 3), np.uint8)
            self._letterbox = Letterbox(self._pixels, self._detector.card.resize)
        placement = self._letterbox(image.pixels, image.colour)
        return Prepared(self._pixels, placement, perf_counter() - began)


def _answers(
    frames: Generator[tuple[Frame, Prepared | None]], detector: Detector
) -> Generator[tuple[Frame, Size, Answer | None]]:
    """Run the network, in a thread of its own, in which little else happens.

    Its frames have no image any more, so that decoders can be used again. A GPU is given the next
    image while it computes.
    """
    started: deque[tuple[Frame, Size | None]] = deque()

    def first() -> tuple[Frame, Size, Answer | None]:
        frame, size = started.popleft()
        return (
            (frame, Size(0, 0), None) if size is None else (frame, size, detector.finish().copy())
        )

    with closing(frames):
        for frame, prepared in frames:
            size = None
            if frame.image is not None:
                size = Size(*frame.image.size)
                detector.start(frame.image, prepared)
            started.append((replace(frame, image=None), size))
            while len(started) >= detector.in_flight:
                yield first()
        while started:
            yield first()


def as_on_a_robot(
    messages: Iterable[Message],
    topics: Sequence[str],
    codec: Codec,
    detector: Detector,
    *,
    latency: float | None = None,
    done: Iterable[FrameResult] = (),
    view: View = PLAIN,
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
        view: how the network sees the images.

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
        result = _timed(message, codec, decoder, detector, clock, latency, view)
        clock = result.finished
        yield result


def _timed(
    message: Message,
    codec: Codec,
    decoder: ImageDecoder,
    detector: Detector,
    clock: int,
    latency: float | None,
    view: View,
) -> FrameResult:
    window = detector.window if view.is_plain else view.window(detector.window)
    frame = read_frame(message, codec, decoder, window)
    began = perf_counter()
    result = _answer(frame, detector, view)
    seconds = perf_counter() - began + frame.decode if latency is None else latency
    return replace(result, finished=clock + round(seconds * 1e9))


def _answer(frame: Frame, detector: Detector, view: View) -> FrameResult:
    if frame.image is None:
        return frame.unanswered(frame.error)
    try:
        found = detector.detect_decoded(frame.image, view)
    except ImageError as error:  # it has no region of interest
        return replace(frame, problem=str(error)).unanswered(f"image {error.kind}")
    return _result(frame, Size(*frame.image.size), found, detector)


def _result(frame: Frame, size: Size, found: Detections, detector: Detector) -> FrameResult:
    """The result of the frame that the detector has just finished."""
    return FrameResult(
        frame.topic,
        frame.time,
        frame.stamp,
        frame.frame_id,
        ANSWERED,
        size,
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


def prefetch(items: Generator[Item], most: int) -> Generator[Item]:
    """Yield ``items``; a thread of its own makes up to ``most`` of them in advance.

    Close it, if not all are taken, to end the thread; ``items`` are closed too.
    """
    made: SimpleQueue[tuple[str, Any]] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()
    for _ in range(most):
        room.put(None)
    ended = Event()

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    room.get()
                    if ended.is_set():
                        return
                    made.put(("item", item))
            made.put(("end", None))
        except BaseException as error:  # raised where the items are taken
            made.put(("error", error))

    thread = Thread(target=make, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            room.put(None)
            yield value
    finally:
        ended.set()
        room.put(None)
        thread.join()


@contextmanager
def _short_turns() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
