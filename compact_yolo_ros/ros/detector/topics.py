# SPDX-License-Identifier: Apache-2.0
"""The topics and services of the detector node: a row each, for node, docs/node.md and tests.

A topic with a message for each processed image is one row with a writer; ``CameraPublisher`` does
the rest, and ``make docs`` writes the row into docs/node.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo, VisionInfo

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.view import View
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.ros.detector.debug_image import DebugImageWriter, Pack
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.messages import (
    new_detection_writer,
    to_compressed_image,
    to_detection_3d_array,
    to_image,
)
from compact_yolo_ros.ros.optional_messages import (
    IMAGE_ANNOTATIONS,
    MARKER_ARRAY,
    message_class,
)

if TYPE_CHECKING:
    from compact_yolo_ros.detection.position import Positions

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks


class FrameResult(NamedTuple):
    """One processed image.

    Attributes:
        camera: name of its camera; empty for a single one.
        header: of the image message.
        image: its pixels.
        detections: what was found, in pixels of the image.
        settings: what it was processed with.
        tracks: the objects with a track, in pixels of the image; None if nothing is tracked.
        arrived: when the message came, on ``perf_counter``.
        locate: finds the detections in space when first asked, None if it cannot; None if that is
            not wanted.
    """

    camera: str
    header: Header
    image: DecodedImage
    detections: Detections
    settings: Settings
    tracks: Detections | None = None
    arrived: float = 0.0
    locate: Callable[[], Positions | None] | None = None

    @property
    def view(self) -> View:
        """How the network saw it."""
        return self.settings.view(self.camera)


FrameWriter = Callable[[FrameResult], Any]
"""Makes the message for an image, or its bytes, valid until the next call; None if there is nothing
to send."""


def type_name(kind: type) -> str:
    """Name of a message or service as the graph shows it, for example ``sensor_msgs/msg/Image``."""
    package, group, *_ = kind.__module__.split(".")
    return f"{package}/{group}/{kind.__name__}"


@dataclass(frozen=True)
class Interface:
    """A topic or service of the node.

    Attributes:
        name: as ROS resolves it for a node with one camera.
        type: class of the messages, or of the service; the name of one that is loaded only where
            it is needed.
        description: what docs/node.md says about it.
        kind: ``subscription``, ``publisher`` or ``service``.
        per_camera: with several cameras, each has its own below its name.
    """

    name: str
    type: type | str
    description: str
    kind: str
    per_camera: bool = False

    def path(self, camera: str = "") -> str:
        """Name for a camera: ``~/detections`` of ``front`` is ``~/front/detections``."""
        home, rest = ("~/", self.name[2:]) if self.name.startswith("~/") else ("", self.name)
        return f"{home}{camera}/{rest}" if camera and self.per_camera else self.name

    @property
    def type_name(self) -> str:
        """Name of the type, for example ``sensor_msgs/msg/Image``."""
        return self.type if isinstance(self.type, str) else type_name(self.type)


@dataclass(frozen=True)
class Output(Interface):
    """A topic that the node publishes.

    Attributes:
        depth: messages that are kept for a slow subscriber.
        latched: the last message is kept for late subscribers.
        always: published in every lifecycle state, not only while the node is active.
        on_demand: messages are made only while there is a subscriber.
        wanted: whether there is such a topic with these settings; None if there always is.
        writer: makes, for a model, what writes the message of each image; None if the topic has
            no message for each image of a camera.
    """

    kind: str = "publisher"
    depth: int = 10
    latched: bool = False
    always: bool = False
    on_demand: bool = False
    wanted: Callable[[Settings], bool] | None = None
    writer: Callable[[ModelCard], FrameWriter] | None = None

    def create(self, node: LifecycleNode, camera: str = "") -> Publisher[Any]:
        """A publisher on the topic.

        Raises:
            MissingPackageError: the package of its messages cannot be loaded.
        """
        kind = message_class(self.type) if isinstance(self.type, str) else self.type
        qos = QoSProfile(depth=self.depth)
        if self.latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        create = node.create_publisher if self.always else node.create_lifecycle_publisher
        # rclpy's events of a publisher only log what a subscriber's log says too, and each of them
        # costs the executor time whenever it waits.
        events = PublisherEventCallbacks(use_default_callbacks=False)
        return create(kind, self.path(camera), qos, event_callbacks=events)


def _detection_writer(card: ModelCard) -> FrameWriter:
    writer = new_detection_writer()
    return lambda result: writer.write(result.header, result.detections, result.settings.class_ids)


def _track_writer(card: ModelCard) -> FrameWriter:
    writer = new_detection_writer()

    def write(result: FrameResult) -> Any:
        if result.tracks is None:
            return None
        return writer.write(result.header, result.tracks, result.settings.class_ids)

    return write


def _located(result: FrameResult) -> Positions | None:
    return None if result.locate is None else result.locate()


def _position_writer(card: ModelCard) -> FrameWriter:
    def write(result: FrameResult) -> Any:
        found = _located(result)
        if found is None:
            return None
        ids = result.settings.class_ids
        return to_detection_3d_array(result.header, result.detections, found, ids)

    return write


def _marker_writer(card: ModelCard) -> FrameWriter:
    from compact_yolo_ros.ros.detector.markers import MarkerWriter

    writer = MarkerWriter(card.classes)

    def write(result: FrameResult) -> Any:
        found = _located(result)
        if found is None:
            return None
        return writer.write(result.header, result.detections, found, result.view.rotation)

    return write


def _annotation_writer(card: ModelCard) -> FrameWriter:
    from compact_yolo_ros.ros.detector.annotations import AnnotationWriter

    writer = AnnotationWriter(card.classes)

    def write(result: FrameResult) -> Any:
        if not result.settings.annotations:
            return None
        return writer.write(result.header, result.image.size, result.detections, result.tracks)

    return write


def _debug_image_writer(pack: Pack, card: ModelCard) -> FrameWriter:
    writer = DebugImageWriter(card.classes, pack)
    return lambda result: writer.write(
        result.header, result.image, result.detections, result.settings, result.tracks
    )


IMAGE = Interface(
    "image",
    Image,
    "The camera, remapped by `image_topic`. With `image_transport:=compressed` it is the topic "
    "`compressed` below that name, a `sensor_msgs/msg/CompressedImage`; with `ffmpeg` or "
    "`foxglove` a [video](stack.md#video-h264-and-h265).",
    "subscription",
    per_camera=True,
)
DEPTH = Interface(
    "depth",
    Image,
    "With `positions` depth: depth images, aligned to the camera's and of its size and frame, in "
    "millimetres (16UC1) or metres (32FC1). With `depth_transport: compressedDepth` they come on "
    "the topic `compressedDepth` below that name.",
    "subscription",
    per_camera=True,
)
CAMERA_INFO = Interface(
    "camera_info",
    CameraInfo,
    "With `positions`: the calibration of the camera.",
    "subscription",
    per_camera=True,
)
DETECTIONS = Output(
    "~/detections",
    Detection2DArray,
    "One array for every processed image, empty if nothing was found. The array and each detection "
    "carry the image's header; boxes are in its pixels. With `tracking`, `id` is the number of the "
    "track, or empty.",
    per_camera=True,
    on_demand=True,
    writer=_detection_writer,
)
TRACKS = Output(
    "~/tracks",
    Detection2DArray,
    "With `tracking`: one array for every processed image, with the objects that have a track, "
    "also those below `score_threshold`. `id` is the number of the track, and boxes are those of "
    "its filter, which are steadier.",
    per_camera=True,
    on_demand=True,
    wanted=lambda settings: settings.tracking is not None,
    writer=_track_writer,
)
DETECTIONS_3D = Output(
    "~/detections_3d",
    Detection3DArray,
    "With `positions`: where the detections of an image are in the camera's optical frame, in "
    "metres, with the image's header ([positions](#positions-in-space)).",
    per_camera=True,
    on_demand=True,
    wanted=lambda settings: settings.positions is not None,
    writer=_position_writer,
)
MARKERS = Output(
    "~/markers",
    MARKER_ARRAY,
    "With `positions`: the same objects to look at in RViz or Foxglove, with labels and, with "
    "`tracking`, trails ([viewers](viewers.md#objects-in-space)).",
    per_camera=True,
    on_demand=True,
    wanted=lambda settings: settings.positions is not None,
    writer=_marker_writer,
)
LABEL_INFO = Output(
    "~/label_info",
    LabelInfo,
    "Number and name of each class, and the current score threshold.",
    depth=1,
    latched=True,
    always=True,
)
VISION_INFO = Output(
    "~/vision_info",
    VisionInfo,
    "Name of the model, and the topic of the class names.",
    depth=1,
    latched=True,
    always=True,
)
DEBUG_IMAGE = Output(
    "~/debug_image",
    Image,
    "The image with the detections drawn, with `tracking` also trails of the last two seconds, "
    "as often and as large as `debug_image_rate` and `debug_image_size` say; only while there is a "
    "subscriber.",
    per_camera=True,
    depth=1,
    on_demand=True,
    writer=partial(_debug_image_writer, to_image),
)
DEBUG_IMAGE_COMPRESSED = Output(
    "~/debug_image/compressed",
    CompressedImage,
    "The same as JPEG, to look at it from another machine; only while there is a subscriber.",
    per_camera=True,
    depth=1,
    on_demand=True,
    writer=partial(_debug_image_writer, to_compressed_image),
)
ANNOTATIONS = Output(
    "~/annotations",
    IMAGE_ANNOTATIONS,
    "With `annotations`: boxes and labels for Foxglove to draw over the camera's image, in its "
    "pixels and with its stamp, with `tracking` also trails of the last two seconds "
    "([viewers](viewers.md#foxglove)).",
    per_camera=True,
    on_demand=True,
    wanted=lambda settings: settings.annotations,
    writer=_annotation_writer,
)
PERFORMANCE = Output(
    "~/performance",
    DiagnosticArray,
    "[Figures of every processed image](#performance-of-every-image), for plotting; only while "
    "there is a subscriber.",
    on_demand=True,
)
DIAGNOSTICS = Output(
    "/diagnostics",
    DiagnosticArray,
    "Health of the node, once a second.",
    always=True,
)
ENABLE = Interface(
    "~/enable",
    SetBool,
    "`false` unsubscribes from the camera, so that the node costs nothing; `true` resumes.",
    "service",
)

DETECT_ONCE = Interface(
    "~/detect_once",
    Trigger,
    "What the newest image shows, also while the stream is disabled: `message` is a line of JSON, "
    "and the detections come on their topic too ([on demand](#detections-on-demand)).",
    "service",
    per_camera=True,
)

INTERFACES: tuple[Interface, ...] = (
    IMAGE,
    DEPTH,
    CAMERA_INFO,
    DETECTIONS,
    TRACKS,
    DETECTIONS_3D,
    MARKERS,
    LABEL_INFO,
    VISION_INFO,
    DEBUG_IMAGE,
    DEBUG_IMAGE_COMPRESSED,
    ANNOTATIONS,
    PERFORMANCE,
    DIAGNOSTICS,
    ENABLE,
    DETECT_ONCE,
)
"""All of them, in the order of docs/node.md."""
