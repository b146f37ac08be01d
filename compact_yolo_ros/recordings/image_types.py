# SPDX-License-Identifier: Apache-2.0
"""The types of messages that hold an image."""

from __future__ import annotations

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
FFMPEG_PACKET = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"
VIDEO_TYPES = (FFMPEG_PACKET, COMPRESSED_VIDEO)
"""Packets of a video: ``recordings.video`` makes images of them."""
IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE, *VIDEO_TYPES)
