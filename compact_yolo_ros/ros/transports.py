# SPDX-License-Identifier: Apache-2.0
"""The forms in which images come, as image_transport has them: types and names of topics."""

from __future__ import annotations

from dataclasses import dataclass

from compact_yolo_ros.ros.optional_messages import MissingPackageError, message_class


@dataclass(frozen=True)
class Transport:
    """A form of images.

    Attributes:
        name: as image_transport and the parameters name it.
        suffix: what its topics have behind the name of the raw ones.
        type_name: of its messages.
        is_video: whether its messages are packets of a video, which depend on those before them.
    """

    name: str
    suffix: str
    type_name: str
    is_video: bool = False

    def message_class(self) -> type:
        """The class of its messages.

        Raises:
            ModuleNotFoundError: its package is not installed; the sentence says which to install.
        """
        try:
            return message_class(self.type_name)
        except MissingPackageError as error:
            raise ModuleNotFoundError(f"transport '{self.name}': {error}") from None


RAW = Transport("raw", "", "sensor_msgs/msg/Image")
COMPRESSED = Transport("compressed", "/compressed", "sensor_msgs/msg/CompressedImage")
FFMPEG = Transport(
    "ffmpeg",
    "/ffmpeg",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
    is_video=True,
)
FOXGLOVE = Transport(
    "foxglove",
    "/foxglove",
    "foxglove_msgs/msg/CompressedVideo",
    is_video=True,
)
COMPRESSED_DEPTH = Transport(
    "compressedDepth", "/compressedDepth", "sensor_msgs/msg/CompressedImage"
)
CALIBRATION = Transport("calibration", "", "sensor_msgs/msg/CameraInfo")
"""Of no images: it is subscribed to as they are."""
IMAGE_TRANSPORTS = {each.name: each for each in (RAW, COMPRESSED, FFMPEG, FOXGLOVE)}
"""Of colour images."""
DEPTH_TRANSPORTS = {each.name: each for each in (RAW, COMPRESSED_DEPTH)}


def camera_info_topic(images: str) -> str:
    """Where image_transport expects the calibration of a camera: beside its raw images.

    Args:
        images: the topic of its images in any form; that of /a/image_raw/compressed is
            /a/camera_info, as that of /a/image_raw.
    """
    for transport in (*IMAGE_TRANSPORTS.values(), *DEPTH_TRANSPORTS.values()):
        images = images.removesuffix(transport.suffix)
    folder, slash, _ = images.rpartition("/")
    return f"{folder}{slash}camera_info"
