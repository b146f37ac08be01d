# SPDX-License-Identifier: Apache-2.0
"""The images of a recording: its videos are decoded, everything else stays as it is."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from compact_yolo_ros.pixels.file_limits import DISK_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.video_packets import (
    KEY_FLAG,
    VideoPacket,
    begins,
    has_parameters,
    is_amid,
)
from compact_yolo_ros.pixels.video_stream import PictureConverter, VideoPicture, VideoStream
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.image_messages import ImageContent, raw_to_cdr
from compact_yolo_ros.recordings.image_types import FFMPEG_PACKET, IMAGE, VIDEO_TYPES
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import FOREVER, BagError, Message

LEAD = 10 * 10**9
"""Time in ns before the first image in which its keyframe is looked for first; encoders send one
every second or so, but x264 every 250 images unless it is told otherwise."""
NO_KEYFRAME = "the video has no keyframe before it, so that it cannot be decoded"
LOST = "packets of the video before it are lost or damaged, so that it cannot be decoded"


def images(
    bag: Bag, topics: Sequence[str], start: int = 0, stop: int = FOREVER
) -> Iterator[Message]:
    """``Bag.messages`` of image topics, with a raw image for each packet of a video.

    A packet that cannot be decoded becomes a message with a ``problem``. With B-frames, the time of
    an image is that of the packet at its place in the order.

    Raises:
        BagError: there are videos, and nothing to decode them with.
    """
    videos = [topic for topic in topics if bag.topics[topic].type in VIDEO_TYPES]
    others = [topic for topic in topics if topic not in videos]
    parts = [bag.messages(others, start, stop)] if others else []
    parts += [_pictures(bag, topic, start, stop) for topic in videos]
    return parts[0] if len(parts) == 1 else heapq.merge(*parts, key=lambda message: message.time)


def _pictures(bag: Bag, topic: str, start: int, stop: int) -> Iterator[Message]:
    """The images of a video that were received from ``start`` on and before ``stop``."""
    video = _Video(topic, Codec(bag.topics.values()), start)
    for message in bag.messages([topic], _begin(bag, topic, start, video)):
        if message.time >= stop and not video.owes(stop):
            return
        for image in video.images(message):
            if start <= image.time < stop:
                yield image
    for image in video.rest():
        if start <= image.time < stop:
            yield image


def _begin(bag: Bag, topic: str, start: int, video: _Video) -> int:
    """Time in ns of the packet to begin with, so that all from ``start`` on are decoded.

    That is the last keyframe before ``start``, however far away, or the one before that if pictures
    behind it may need those before it; and further back where some encoders write the parameters
    of a video, at its beginning only. It is ``start`` if there is no keyframe.
    """
    begin, is_last = start, True
    for keyframe in _keyframes(bag, topic, start, video):
        begin = keyframe.time
        if keyframe.has_parameters and not (is_last and keyframe.is_amid):
            break
        is_last = False
    return begin


class _Keyframe(NamedTuple):
    """Time in ns of a keyframe, and what ``video_packets`` says of it."""

    time: int
    has_parameters: bool
    is_amid: bool


def _keyframes(bag: Bag, topic: str, start: int, video: _Video) -> Iterator[_Keyframe]:
    """The keyframes before ``start``, the last one first."""
    stop, lead = start, LEAD
    while stop > bag.start:
        since = max(bag.start, stop - lead)
        found = map(video.keyframe, bag.messages([topic], since, stop))
        yield from reversed([keyframe for keyframe in found if keyframe])
        stop, lead = since, 2 * lead


class _Video:
    """Decodes the packets of a topic in their order."""

    def __init__(self, topic: str, codec: Codec, start: int) -> None:
        """Images received before ``start`` (ns) are left out, which saves their conversion."""
        self._topic = topic
        self._codec = codec
        self._start = start
        try:
            self._stream, self._converter = VideoStream(DISK_LIMITS), PictureConverter()
        except ModuleNotFoundError as error:
            raise BagError(f"{topic}: {error}") from None
        self._times: deque[int] = deque()
        """Of packets whose pictures are still to come."""
        self._has_begun = False

    def keyframe(self, message: Message) -> _Keyframe | None:
        """What is known of a keyframe; None if the message is none."""
        try:
            packet = self._packet(message)
            if not begins(packet):
                return None
        except (BagError, ImageError):
            return None
        return _Keyframe(message.time, has_parameters(packet), is_amid(packet))

    def owes(self, stop: int) -> bool:
        """Whether a picture received before ``stop`` is still to come."""
        return bool(self._times) and self._times[0] < stop

    def images(self, message: Message) -> Iterator[Message]:
        """What comes out for a packet: images, or a message with a problem."""
        try:
            pictures = self._stream.decode(self._packet(message))
        except (BagError, ImageError) as error:
            self._stream.wait()
            yield from self._owed(0)
            yield self._failed(message.time, str(error))
            return
        if self._stream.is_waiting:
            yield self._failed(message.time, LOST if self._has_begun else NO_KEYFRAME)
            return
        self._has_begun = True
        self._times.append(message.time)
        yield from self._owed(self._stream.pending + len(pictures))
        yield from self._images(pictures)

    def rest(self) -> Iterator[Message]:
        """What is still to come at the end."""
        yield from self._images(self._stream.rest())
        yield from self._owed(0)

    def _owed(self, coming: int) -> Iterator[Message]:
        """A message for each packet that waits, but for as many as are still coming."""
        while len(self._times) > coming:
            yield self._failed(self._times.popleft(), LOST)

    def _packet(self, message: Message) -> VideoPacket:
        content = self._codec.read(message)
        if message.type == FFMPEG_PACKET:
            header, is_marked = content.header, bool(content.flags & KEY_FLAG)
            origin = header.stamp, header.frame_id
            data = memoryview(content.data)
            return VideoPacket(content.encoding, data, origin, int(content.pts), is_marked)
        origin = content.timestamp, content.frame_id
        return VideoPacket(content.format, memoryview(content.data), origin)

    def _images(self, pictures: Sequence[VideoPicture]) -> Iterator[Message]:
        for picture in pictures:
            time = self._times.popleft()
            if time >= self._start:
                yield self._image(picture, time)

    def _image(self, picture: VideoPicture, time: int) -> Message:
        try:
            pixels: Any = self._converter.image(picture).pixels
        except ImageError as error:
            return self._failed(time, str(error))
        stamp, frame_id = picture.origin
        height, width = pixels.shape[:2]
        content = ImageContent(
            stamp.sec,
            stamp.nanosec,
            frame_id,
            pixels.tobytes(),
            width=width,
            height=height,
            encoding="rgb8",
            step=3 * width,
        )
        return Message(time, self._topic, IMAGE, raw_to_cdr(content))

    def _failed(self, time: int, problem: str) -> Message:
        return Message(time, self._topic, IMAGE, b"", problem=problem)
