# SPDX-License-Identifier: Apache-2.0
"""Where the objects of one camera are in space; nothing is subscribed while nobody wants it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from time import monotonic
from typing import Any

from std_msgs.msg import Header

from compact_yolo_ros.detection.camera_model import CalibrationError, CameraModel, read_camera_info
from compact_yolo_ros.detection.position import Positions, bearings, heights_of, positions
from compact_yolo_ros.detection.position_options import PositionOptions
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.pixels.depth import Depth, depth_pixels
from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.ros.detector.camera_input import CameraInput
from compact_yolo_ros.ros.detector.depth_history import DepthHistory, DepthImage
from compact_yolo_ros.ros.detector.parameters import file_limits
from compact_yolo_ros.ros.detector.topics import CAMERA_INFO, DEPTH, FrameResult
from compact_yolo_ros.ros.diagnostics.camera_health import MAX_SILENCE, too_reliable
from compact_yolo_ros.ros.diagnostics.causes import NewCauses
from compact_yolo_ros.ros.received_images import unpack_file, unpack_image
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.ros.transports import CALIBRATION, DEPTH_TRANSPORTS, RAW, Transport

GRACE = 2.0
"""Seconds after it has subscribed for which missing messages are no problem yet."""
BEHIND_STAMP = 12
"""Where the bytes of a message begin that are the same in each CameraInfo of a camera."""


class NoPositionsError(ValueError):
    """Why the objects of an image have no positions; a sentence for people."""


class CameraPositions:
    """Finds the objects in the images of one camera, from what its other topics bring.

    ``expect`` and ``locate`` are for the worker, the rest for the executor's thread. What the
    topics bring comes in the receiver's.
    """

    def __init__(
        self,
        receiver: Receiver,
        camera: str,
        values: Mapping[str, Any],
        warn: Callable[[str], object],
    ) -> None:
        """Prepare; nothing is subscribed before ``open``.

        Args:
            receiver: subscribes.
            camera: its name.
            values: of all parameters, by name, of which some do not change.
            warn: takes a sentence for people.
        """
        self._warn = warn
        # As its publisher offers it: some have a single message, latched.
        self._calibrations = CameraInput(receiver, CAMERA_INFO.path(camera), CALIBRATION, "auto")
        transport = DEPTH_TRANSPORTS[values["depth_transport"]]
        self._depth = CameraInput(receiver, DEPTH.path(camera), transport, values["reliability"])
        self._read, self._pixels = depth_reader(transport, file_limits(values))
        self._history = DepthHistory()
        self._options: PositionOptions | None = None
        self._is_open = False
        self._info = b""
        self._calibration: tuple[bytes, bool, CameraModel] | None = None
        self.reset()

    def reset(self) -> None:
        """Count from now on."""
        self._since = monotonic()
        self._counts: Counter[str] = Counter()
        self._failure = (float("-inf"), "")
        self._is_failing = False
        self._causes = NewCauses()

    def open(self) -> None:
        """Subscribe if positions are wanted."""
        self._is_open = True
        self._follow()

    def close(self) -> None:
        """Unsubscribe."""
        self._is_open = False
        self._follow()

    def use(self, options: PositionOptions | None) -> None:
        """Find objects as these options say from now on; None: not at all."""
        self._options = options
        self._follow()

    @property
    def is_ready(self) -> bool:
        """Whether a calibration and, where they are used, depth images have come."""
        options = self._options
        return options is None or bool(self._info and (self._history or not options.uses_depth))

    def expect(self, header: Header) -> None:
        """Keep what an image needs until its positions are asked for, however long that takes."""
        if self._options is not None and self._options.uses_depth:
            self._history.expect(header)

    def locate(self, result: FrameResult) -> FrameResult:
        """The result for an image with a way to ask for positions, which are found once."""
        return result._replace(locate=cache(partial(self._find, result)))

    @property
    def counts(self) -> Mapping[str, int]:
        """For /diagnostics: objects found, those of unknown depth, and images that failed."""
        keys = "found", "unknown", "failed"
        return {f"positions_{key}": self._counts[key] for key in keys} if self._options else {}

    def problem(self) -> str:
        """Why images of the last seconds, or the last one of a slow camera, had no positions.

        Empty if they had.
        """
        since, sentence = self._failure
        told = MAX_SILENCE if self._is_failing else WINDOW
        return sentence if self._options and monotonic() - since < told else ""

    def _follow(self) -> None:
        """Have the subscriptions that are needed now."""
        options = self._options if self._is_open else None
        if options is None:
            self._calibrations.close()
            self._info = b""
        elif not self._calibrations.is_open:
            self._since = monotonic()
            self._calibrations.open(self._keep_info)
        uses_depth = options is not None and options.uses_depth
        if uses_depth and not self._depth.is_open:
            self._since = monotonic()  # it may be long after the calibration
            self._depth.open(self._keep_depth)
        elif not uses_depth and self._depth.is_open:
            self._depth.close()
            self._history.clear()

    def _keep_info(self, message: bytes) -> None:
        self._info = message

    def _keep_depth(self, message: bytes) -> None:
        try:
            self._history.add(self._read(message))
        except ImageError as error:
            self._failed(str(error))

    def _find(self, result: FrameResult) -> Positions | None:
        try:
            found = self._positions(result)
        except (ImageError, CalibrationError, NoPositionsError) as error:
            self._is_failing = True
            self._failed(str(error))
            return None
        self._is_failing = False
        self._counts["found"] += len(found)
        self._counts["unknown"] += len(result.detections) - len(found)
        return found

    def _positions(self, result: FrameResult) -> Positions:
        options, found, size = result.settings.positions, result.detections, result.image.size
        assert options is not None
        camera = self._camera(options.rectified)
        if camera.size != size:
            raise NoPositionsError(
                f"the CameraInfo is of images of {_by(camera.size)} pixels, and the image has "
                f"{_by(size)}: remap camera_info to that of the image topic"
            )
        heights = heights_of(found.labels, options.heights)
        if not options.uses_depth:
            return bearings(found.boxes, camera, heights, result.view.rotation)
        depth = self._depth_of(result.header, size, options.tolerance)
        return positions(found.boxes, camera, depth, heights, result.view.rotation)

    def _camera(self, rectified: bool) -> CameraModel:
        """The calibration; it is read again only when another one has come."""
        info = self._info
        if not info:
            raise NoPositionsError(
                f"no CameraInfo has come on {self._calibrations.topic}: remap camera_info to that "
                "of the camera"
            )
        known = self._calibration
        if known is not None and (info[BEHIND_STAMP:], rectified) == known[:2]:
            return known[2]
        model = read_camera_info(self._calibrations.unpack(info), rectified=rectified)
        self._calibration = (info[BEHIND_STAMP:], rectified, model)
        return model

    def _depth_of(self, header: Header, size: tuple[int, int], tolerance: float) -> Depth:
        """The depth image that belongs to an image."""
        nearest = self._history.nearest(header)
        if nearest is None and self._depth.incompatible_qos:
            raise NoPositionsError(too_reliable(self._depth.topic))
        if nearest is None:
            raise NoPositionsError(
                f"no depth image has come on {self._depth.topic}: remap depth to the one that is "
                "aligned to the image"
            )
        image, seconds = nearest
        if seconds > tolerance and self._history.is_too_short(header):
            raise NoPositionsError(
                f"depth images are kept for too short a time: the oldest one is {seconds:.3f} s "
                "newer than the image, as they are too large or too frequent for how long the "
                "network takes: have smaller or fewer ones published, and check both stamps"
            )
        if seconds > tolerance:
            raise NoPositionsError(
                f"the nearest depth image is {seconds:.3f} s away from the image, and "
                f"depth_tolerance is {tolerance:g} s: check both stamps, or set it higher"
            )
        remedy = "have the driver align the depth to the colour image, and remap depth to that"
        if image.header.frame_id != header.frame_id:
            raise NoPositionsError(
                f"the depth image is in the frame '{image.header.frame_id[:60]}' and the image in "
                f"'{header.frame_id[:60]}': {remedy}"
            )
        if (image.width, image.height) != size:
            raise NoPositionsError(
                f"the depth image has {_by((image.width, image.height))} pixels and the image "
                f"{_by(size)}: {remedy}"
            )
        return self._pixels(image)

    def _failed(self, sentence: str) -> None:
        """Count it; log each cause once only."""
        self._counts["failed"] += 1
        now = monotonic()
        if now - self._since < GRACE:
            return
        self._failure = (now, sentence)
        if self._causes.is_new("positions", sentence, now):
            self._warn(f"no positions: {sentence} (further times are counted in /diagnostics)")


def depth_reader(
    transport: Transport, limits: FileLimits
) -> tuple[Callable[[bytes], DepthImage], Callable[[Any], Depth]]:
    """What reads a message of depths without its pixels, and what reads these."""
    if transport is RAW:
        return unpack_image, depth_pixels
    from compact_yolo_ros.pixels.compressed_depth import depth_file, depth_of_file

    return lambda message: depth_file(unpack_file(message), limits), depth_of_file


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
