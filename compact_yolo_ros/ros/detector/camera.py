# SPDX-License-Identifier: Apache-2.0
"""One camera of the detector node: its subscription, its decoder, its publishers and counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Header

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.jpeg_pixels import Window
from compact_yolo_ros.ros.cv_bridge_decoder import CvBridgeDecoder
from compact_yolo_ros.ros.detector.camera_input import CameraInput, OnImage
from compact_yolo_ros.ros.detector.camera_tracking import CameraTracking
from compact_yolo_ros.ros.detector.detect_once import DetectOnce
from compact_yolo_ros.ros.detector.parameters import file_limits
from compact_yolo_ros.ros.detector.publishing import CameraPublisher
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.detector.topics import IMAGE, FrameResult
from compact_yolo_ros.ros.diagnostics.camera_health import refused_age
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters
from compact_yolo_ros.ros.diagnostics.situations import CameraSituation, CameraState
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.transports import IMAGE_TRANSPORTS, RAW

if TYPE_CHECKING:
    from compact_yolo_ros.detection.position_options import PositionOptions
    from compact_yolo_ros.ros.detector.camera_positions import CameraPositions

Decode = Callable[[Any, Window], DecodedImage]
"""Returns the pixels of an image message, as many as are needed or more; raises ImageError."""


def new_decoder(values: Mapping[str, Any]) -> Decode:
    """The decoder that the parameters choose; for one camera and one thread.

    Args:
        values: of all parameters, by name.

    Raises:
        ModuleNotFoundError: cv_bridge is chosen and cannot be imported, or what a video needs.
    """
    transport = IMAGE_TRANSPORTS[values["image_transport"]]
    transport.message_class()
    if transport.is_video:
        from compact_yolo_ros.pixels.video_stream import PictureConverter

        return PictureConverter().image
    limits = file_limits(values)
    decoder = (
        CvBridgeDecoder(limits)
        if values["image_decoder"] == "cv_bridge"
        else ImageDecoder(limits, values["mono16_bits"])
    )
    return decoder.image if transport is RAW else decoder.compressed


class Camera:
    """Images come from ``<name>/image``, detections go to ``~/<name>/detections``.

    A single camera has no name: then these are ``image`` and ``~/detections``.

    Attributes:
        name: empty, or one name as ``check_camera_names`` allows.
        input: the subscription.
        counters: counts and times of its images.
        tracking: its tracks; for the worker.
        positions: where its objects are; None until that is wanted.
        unpack: reads a serialized image message; for the worker, as the next.
        decode: turns what was read into pixels.
        once: answers who asks for a single image.
    """

    def __init__(
        self,
        node: LifecycleNode,
        receiver: Receiver,
        name: str,
        card: ModelCard,
        decode: Decode,
        settings: Settings,
        values: Mapping[str, Any],
    ) -> None:
        """Create the publishers; nothing is subscribed before ``open``.

        Args:
            node: publishes.
            receiver: subscribes, for the same node.
            name: see above.
            card: of the model.
            decode: see above.
            settings: to begin with.
            values: of all parameters, by name; of these only such as do not change are used.
        """
        self.name = name
        self.input = self._new_input(receiver, values)
        self.counters = FrameCounters()
        self.unpack = self.input.unpack
        self.decode = decode
        self._publisher = CameraPublisher(node, name, card, settings)
        self._log = node.get_logger()
        self.tracking = CameraTracking(self._warn)
        self._is_open = False
        self._listens_since = 0.0
        self._new_positions = partial(self._import_positions, receiver, values)
        self.positions: CameraPositions | None = None
        self._use_positions(settings.positions)
        self.once = DetectOnce(node, name, settings.detect_once_timeout)

    def _new_input(self, receiver: Receiver, values: Mapping[str, Any]) -> CameraInput:
        topic, reliability = IMAGE.path(self.name), values["reliability"]
        transport = IMAGE_TRANSPORTS[values["image_transport"]]
        if not transport.is_video:
            return CameraInput(receiver, topic, transport, reliability)
        from compact_yolo_ros.ros.detector.video_input import VideoInput

        limits = file_limits(values)
        failed = partial(self.failed, is_image=False)
        return VideoInput(receiver, topic, transport, reliability, limits, failed)

    def open(self, on_image: OnImage) -> None:
        """Subscribe, and count from now on, also the images that wait from before."""
        self.counters.restart()
        self.tracking = CameraTracking(self._warn)
        if self.positions is not None:
            self.positions.reset()
        self.listen(on_image)

    def listen(self, on_image: OnImage) -> None:
        """Subscribe, and count on: for those who ask for a single image."""
        self._is_open = True
        self._listens_since = monotonic()
        if self.positions is not None:
            self.positions.open()
        self.input.open(on_image)

    @property
    def is_complete(self) -> bool:
        """Whether what belongs to an image is there too, or was waited for long enough."""
        if self.positions is None or self.positions.is_ready:
            return True
        return monotonic() - self._listens_since > self.once.timeout / 2

    def close(self) -> None:
        """Unsubscribe."""
        self.input.close()
        self._is_open = False
        if self.positions is not None:
            self.positions.close()

    def destroy(self) -> None:
        """Unsubscribe and remove the publishers."""
        self.close()
        self.once.close()
        self._publisher.destroy()

    def use(self, settings: Settings) -> None:
        """Have the publishers that are wanted with ``settings``."""
        self._publisher.use(settings)
        self._use_positions(settings.positions)
        self.once.timeout = settings.detect_once_timeout

    def use_model(self, card: ModelCard) -> None:
        """Publish what another model finds; for the worker, between two images."""
        self._publisher.use_model(card)
        self.tracking = CameraTracking(self._warn)

    def expect(self, header: Header) -> None:
        """Keep what belongs to an image until its result is published; for the worker."""
        if self.positions is not None:
            self.positions.expect(header)

    def publish(self, result: FrameResult) -> None:
        """Publish the result for one image."""
        if result.settings.positions is not None and self._is_open and self.positions is not None:
            result = self.positions.locate(result)
        self._publisher.publish(result)
        self.once.answered(result)

    def skipped(self) -> None:
        """Count an image that the governor skips."""
        self.counters.image_skipped()
        self.once.refused(
            "the governor skips images to hold a target: set a looser target, or a longer "
            "detect_once_timeout"
        )

    def too_old(self, age: float) -> None:
        """Count an image that ``max_age`` refuses; ``age`` is in seconds since its stamp."""
        self.counters.image_too_old(age)
        self.once.refused(f"max_age refuses images: {refused_age(age)}")

    def failed(self, kind: str, sentence: str, *, is_image: bool = True) -> None:
        """Count a failure, of an image or of a packet of a video.

        Each cause is logged once only, or a bad camera would flood the log.
        """
        self.once.refused(sentence)
        if self.counters.error(kind, sentence, is_image=is_image):
            self._log.error(f"{self._which}{sentence} (further ones are counted in /diagnostics)")

    def state(self, settings: Settings) -> CameraState:
        """What /diagnostics says about it now."""
        announced = self.input.announced()
        situation = CameraSituation(
            topic=self.input.topic,
            publishers=announced.publishers,
            incompatible_qos=self.input.incompatible_qos,
            reliability=self.input.reliability,
            subscribers=self._publisher.subscriber_count(),
            nodes=announced.nodes,
            is_latched=announced.is_latched,
            asks_for_latched=self.input.asks_for_latched,
            mistake=announced.mistake or self.input.problem(),
            concern=(self.positions and self.positions.problem()) or self._publisher.problem,
        )
        tracks = self.tracking.facts if settings.tracking else {}
        places = self.positions.counts if self.positions else {}
        counts = {**self.input.counts, **tracks, **places, **self._publisher.counts}
        return CameraState(self.counters.snapshot(), situation, counts)

    def _use_positions(self, options: PositionOptions | None) -> None:
        """Find objects as these options say; what does it is made when they are first wanted."""
        if self.positions is None and options is not None:
            self.positions = self._new_positions()
        if self.positions is not None:
            self.positions.use(options)

    def _import_positions(self, receiver: Receiver, values: Mapping[str, Any]) -> CameraPositions:
        from compact_yolo_ros.ros.detector.camera_positions import CameraPositions

        positions = CameraPositions(receiver, self.name, values, self._warn)
        if self._is_open:
            positions.open()
        return positions

    @property
    def _which(self) -> str:
        """Names the camera in front of a sentence, where there are several."""
        return f"{self.name}: " if self.name else ""

    def _warn(self, sentence: str) -> None:
        self._log.warning(f"{self._which}{sentence}")
