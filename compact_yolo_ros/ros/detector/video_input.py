# SPDX-License-Identifier: Apache-2.0
"""The subscription to a camera's video: every packet is decoded, each picture passed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from threading import Condition, Thread
from time import monotonic, perf_counter
from typing import Any

from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.video_packets import VideoPacket
from compact_yolo_ros.pixels.video_stream import VideoPicture, VideoStream
from compact_yolo_ros.ros.detector.camera_input import CameraInput, OnImage
from compact_yolo_ros.ros.detector.leftovers import END_LIMIT
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.transports import Transport

MOST_PACKETS, MOST_BYTES = 60, 64 * 2**20
"""What waits for the decoder at most: two seconds of most cameras, and no more than this memory."""
WITHOUT_PICTURE = 2.0
"""Seconds for which packets may come without a picture before that is a problem."""

Failed = Callable[[str, str], object]
"""Takes the kind of a failure and a sentence."""


class VideoInput(CameraInput):
    """Passes on the pictures of a video; ``unpack`` has nothing to do for these.

    A thread decodes while the network runs. It and its decoder live as long as the subscription.
    """

    depth = MOST_PACKETS

    def __init__(
        self,
        receiver: Receiver,
        topic: str,
        transport: Transport,
        reliability: str,
        limits: FileLimits,
        failed: Failed,
    ) -> None:
        """Prepare, see ``CameraInput``.

        Args:
            receiver: subscribes.
            topic: of the camera's raw images.
            transport: of the video.
            reliability: value of that parameter.
            limits: what pictures may demand.
            failed: is told of packets that are lost or damaged, in the decoder's thread.
        """
        super().__init__(receiver, topic, transport, reliability)
        self._read, self.unpack = self.unpack, _unpacked
        self._limits = limits
        self._failed = failed
        self._decoding: VideoDecoding | None = None

    def open(self, on_image: OnImage) -> None:
        """Subscribe; ``on_image`` is called with each picture, and when its packet came."""
        self._decoding = VideoDecoding(self._read, self._limits, on_image, self._failed)
        super().open(self._decoding.put)

    def close(self) -> None:
        """Unsubscribe and free the decoder."""
        super().close()
        if self._decoding is not None:
            self._decoding.close()

    @property
    def counts(self) -> Mapping[str, int]:
        """Packets that came, and those that were not decoded for want of a keyframe."""
        return self._decoding.counts if self._decoding else {}

    def problem(self) -> str:
        """Why no picture comes of the packets that do; empty if one does."""
        return self._decoding.problem() if self._decoding else ""


class VideoDecoding:
    """The decoder of a subscription, in a thread of its own. ``put`` is for the receiver's."""

    def __init__(
        self,
        unpack: Callable[[bytes], VideoPacket],
        limits: FileLimits,
        on_picture: OnImage,
        failed: Failed,
    ) -> None:
        """Start the thread."""
        self._unpack = unpack
        self._on_picture = on_picture
        self._failed = failed
        self._changed = Condition()
        self._packets: deque[tuple[bytes, float]] = deque()
        self._bytes = 0
        self._received = self._dropped = 0
        self._too_slow = self._closed = False
        self._last_error = ""
        self._last_packet = monotonic()
        self._unanswered_since: float | None = None
        """When the first packet came since the last picture."""
        self._stream = VideoStream(limits)
        self._thread = Thread(target=self._run, name="video", daemon=True)
        self._thread.start()

    def put(self, message: bytes) -> None:
        """Hand over a packet; if the decoder is too slow for them, those that wait are dropped."""
        with self._changed:
            self._received += 1
            self._last_packet = monotonic()
            if self._unanswered_since is None:
                self._unanswered_since = self._last_packet
            if len(self._packets) >= MOST_PACKETS or self._bytes + len(message) > MOST_BYTES:
                self._too_slow = True
                self._dropped += len(self._packets)
                self._packets.clear()
                self._bytes = 0
            self._packets.append((message, perf_counter()))
            self._bytes += len(message)
            self._changed.notify()

    def close(self) -> None:
        """End the thread, which frees the decoder."""
        with self._changed:
            self._closed = True
            self._packets.clear()
            self._changed.notify()
        self._thread.join(END_LIMIT)

    @property
    def counts(self) -> Mapping[str, int]:
        """For /diagnostics."""
        left_out = self._dropped + self._stream.left_out
        return {"video_packets": self._received, "video_packets_left_out": left_out}

    def problem(self) -> str:
        """See ``VideoInput``."""
        since = self._unanswered_since
        silence = 0.0 if since is None else self._last_packet - since
        if (
            since is None
            or silence < WITHOUT_PICTURE
            or monotonic() - self._last_packet > WITHOUT_PICTURE
        ):
            return ""
        return self._last_error or (
            f"packets of the video arrive, but no keyframe for {silence:.0f} s: set the encoder to"
            " send one every second (gop_size)"
        )

    def _run(self) -> None:
        try:
            while (taken := self._take()) is not None:
                self._attempt(*taken)
        finally:
            self._stream.close()

    def _take(self) -> tuple[bytes, float, bool] | None:
        """The next packet, and whether some before it were dropped; None in the end."""
        with self._changed:
            while not self._packets and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            message, arrived = self._packets.popleft()
            self._bytes -= len(message)
            too_slow, self._too_slow = self._too_slow, False
        return message, arrived, too_slow

    def _attempt(self, message: bytes, arrived: float, too_slow: bool) -> None:
        try:
            if too_slow:
                self._wait_for_keyframe()
            self._decode(message, arrived)
        except ImageError as error:
            self._stream.wait()  # a packet that cannot be read is missing
            self._tell(f"image {error.kind}", str(error))
        except Exception as error:  # one bad packet must never end the stream
            self._tell("internal", f"{type(error).__name__}: {error}")

    def _decode(self, message: bytes, arrived: float) -> None:
        packet = self._unpack(message)
        packet = packet._replace(origin=packet.origin._replace(arrived=arrived))
        for picture in self._stream.decode(packet):
            self._unanswered_since, self._last_error = None, ""
            self._pass_on(picture)

    def _pass_on(self, picture: VideoPicture) -> None:
        if not self._closed:
            self._on_picture(picture, picture.origin.arrived)

    def _wait_for_keyframe(self) -> None:
        self._stream.wait()
        self._tell(
            "image video",
            "the video comes faster than it can be decoded, so it goes on at its next keyframe: set"
            " the encoder to smaller pictures or fewer of them",
        )

    def _tell(self, kind: str, sentence: str) -> None:
        self._last_error = sentence
        if not self._closed:
            self._failed(kind, sentence)


def _unpacked(picture: Any) -> Any:
    return picture
