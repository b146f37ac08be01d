# SPDX-License-Identifier: Apache-2.0
"""Decoding a video packet by packet, with PyAV, which nothing else here needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.encodings import MAX_PIXELS
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS, FileLimits
from compact_yolo_ros.pixels.h264_frames import FrameNumbers
from compact_yolo_ros.pixels.h265_pictures import PictureOrder
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.jpeg_pixels import Window
from compact_yolo_ros.pixels.picture_numbers import PictureNumbers
from compact_yolo_ros.pixels.video_packets import (
    H264,
    HEVC,
    VideoPacket,
    begins,
    codec_of,
    needs_before,
)
from compact_yolo_ros.support.pip import pip_line

PIXEL_BYTES = 3 + 1.5 * 17
"""Memory for a pixel: in RGB, and in the picture and the 16 references that a decoder may keep."""
MOST_WAITING = 64
"""Packets whose pictures may be still to come; a decoder keeps 16 at most."""


def load_pyav() -> Any:
    """The module ``av``.

    Raises:
        ModuleNotFoundError: it cannot be imported; the sentence says what to install.
    """
    try:
        import av
        import av.video.reformatter
    except ImportError as error:
        raise ModuleNotFoundError(
            f"video (H.264, H.265) is decoded with PyAV, which cannot be imported ({error}):"
            f" sudo apt install python3-av, or {pip_line('av')}"
        ) from error
    if av.logging.get_level() is not None:  # before PyAV 14 FFmpeg's remarks go to the log
        av.logging.set_level(av.logging.PANIC)
    return av


class VideoPicture(NamedTuple):
    """A decoded picture, not yet in RGB: most are replaced by newer ones before anybody looks.

    Attributes:
        origin: that of its packet.
        frame: PyAV's frame.
    """

    origin: Any
    frame: Any

    @property
    def header(self) -> Any:
        """That of the message, where the origin has one."""
        return self.origin.header


class VideoStream:
    """Decodes the packets of one camera, in their order, in one thread.

    It begins at a keyframe. After a loss or an error it waits for the next one, or it would show
    pictures that never were.

    Attributes:
        is_waiting: whether it waits for a keyframe.
        left_out: packets that were not decoded for that.
    """

    def __init__(self, limits: FileLimits = USUAL_LIMITS) -> None:
        """Load PyAV; the decoder is opened for the first packet.

        Args:
            limits: what the pictures may demand.

        Raises:
            ModuleNotFoundError: see ``load_pyav``.
        """
        self._av = load_pyav()
        self._most_pixels = min(MAX_PIXELS, int(limits.megabytes * 2**20 / PIXEL_BYTES))
        self._codec = ""
        self._decoder: Any = None
        self._forget()
        self._origins: dict[int, Any] = {}
        self._sent = 0
        self._lacks_before = False  # the pictures before the keyframe that was decoded last
        self.is_waiting = True
        self.left_out = 0

    def decode(self, packet: VideoPacket) -> list[VideoPicture]:
        """Decode a packet; return the pictures that come out, in the order of their time.

        With B-frames these may be of earlier packets, or none.

        Raises:
            ImageError: a packet before it is lost, it is damaged, or its pictures are too large.
        """
        codec = codec_of(packet.encoder)
        if codec != self._codec:
            self._open(codec)
        if codec == HEVC and packet.number is None:
            packet = packet._replace(number=self._order.number(bytes(packet.data)))
        if begins(packet):
            self._begin(packet)
        elif self._misses(packet) and not self.is_waiting:
            self.wait()
            self.left_out += 1
            raise ImageError(
                "video",
                "packets of the video are lost, so it goes on at its next keyframe: check the"
                " network and the reliability of the topic",
            )
        if self.is_waiting or (self._lacks_before and needs_before(packet.data, codec)):
            self.left_out += 1
            return []
        frames = self._send(packet)
        if any(frame.is_corrupt for frame in frames) or not (frames or self._reorders):
            raise self._failed("it is incomplete")
        return self._pictures(frames)

    @property
    def pending(self) -> int:
        """Packets whose pictures are still to come."""
        return len(self._origins)

    def wait(self) -> None:
        """Wait for a keyframe: what comes before it is not complete."""
        self.is_waiting = True

    def rest(self) -> list[VideoPicture]:
        """The pictures that are still to come, when there is no further packet."""
        if self._decoder is None or self.is_waiting:
            return []
        try:
            return self._pictures(self._decoder.decode(None))
        except Exception:  # of a decoder whose last packets were damaged
            return []
        finally:
            self.close()

    def close(self) -> None:
        """Free the decoder."""
        self._decoder, self._codec = None, ""
        self._origins.clear()

    @property
    def _reorders(self) -> bool:
        """Whether the video has B-frames, so that pictures come out later than their packets."""
        return bool(self._decoder.has_b_frames)

    def _misses(self, packet: VideoPacket) -> bool:
        """Whether a packet is lost between this one and the one before."""
        by_number = self._numbers.miss(packet.number, reorders=self._reorders)
        return self._codec == H264 and self._frames.miss(bytes(packet.data)) or by_number

    def _open(self, codec: str) -> None:
        self.close()
        try:
            self._decoder = self._av.CodecContext.create(codec, "r")
        except ValueError as error:  # PyAV's errors of unknown codecs are of this kind
            raise ImageError(
                "video",
                f"the FFmpeg of PyAV has no decoder for {codec}: install one that has, or set the"
                " encoder to the other one of H.264 and H.265",
            ) from error
        self._decoder.thread_count = 1  # further ones would each keep a picture back
        self._decoder.options = {"flags": "low_delay", "max_pixels": str(self._most_pixels)}
        self._codec = codec
        self._forget()
        self.is_waiting = True

    def _forget(self) -> None:
        """Know no packet of the video yet."""
        self._numbers, self._frames, self._order = PictureNumbers(), FrameNumbers(), PictureOrder()

    def _begin(self, packet: VideoPacket) -> None:
        """Go on at a keyframe; parameter sets of earlier ones stay known."""
        self._lacks_before = self.is_waiting
        if self.is_waiting:
            flush = getattr(self._decoder, "flush_buffers", None)  # from PyAV 12 on
            if flush is not None and self._decoder.is_open:
                flush()
            self._origins.clear()
        self.is_waiting = False
        self._numbers.begin(packet.number)
        self._frames.begin(bytes(packet.data))

    def _send(self, packet: VideoPacket) -> list[Any]:
        data = bytes(packet.data)
        try:
            if not data:  # would be the end of the video
                raise ValueError("it is empty")
            self._sent += 1
            unit = self._av.Packet(data)
            unit.pts = self._sent
            self._origins[self._sent] = packet.origin
            if len(self._origins) > MOST_WAITING:
                del self._origins[next(iter(self._origins))]
            frames: list[Any] = self._decoder.decode(unit)
        except Exception as error:  # a packet may hold anything; FFmpeg has many errors
            raise self._failed(type(error).__name__) from error
        return frames

    def _failed(self, why: str) -> ImageError:
        """Wait for a keyframe; return the error of a packet that was not decoded."""
        self.wait()
        self.left_out += 1
        return ImageError(
            "video",
            f"a packet of the video cannot be decoded ({why}): check the encoder and the network;"
            f" pictures of more than {self._most_pixels} pixels are refused (max_image_mb)",
        )

    def _pictures(self, frames: list[Any]) -> list[VideoPicture]:
        """The frames with what belongs to each."""
        return [
            VideoPicture(self._origins.pop(frame.pts), frame)
            for frame in frames
            if frame.pts in self._origins
        ]


class PictureConverter:
    """Makes pixels of the pictures of one camera; for one thread at a time."""

    def __init__(self) -> None:
        """Load PyAV.

        Raises:
            ModuleNotFoundError: see ``load_pyav``.
        """
        self._reformatter = load_pyav().video.reformatter.VideoReformatter()

    def image(self, picture: VideoPicture, window: Window | None = None) -> DecodedImage:
        """All pixels of a picture, by the colour space that the video names, else BT.601.

        Raises:
            ImageError: the picture has a format that FFmpeg cannot convert.
        """
        try:
            frame = self._reformatter.reformat(picture.frame, format="rgb24")
            (plane,) = frame.planes
            shape, strides = (frame.height, frame.width, 3), (plane.line_size, 3, 1)
            return DecodedImage(np.ndarray(shape, np.uint8, plane, 0, strides), "rgb")
        except Exception as error:
            raise ImageError(
                "video",
                f"a picture of the video cannot be converted ({type(error).__name__}): set the"
                " encoder to the pixel format yuv420p",
            ) from error
