# SPDX-License-Identifier: Apache-2.0
"""Video messages as ROS sends them, written by rosbags from their published definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
from encoded_video import Encoded
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

FFMPEG = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
FOXGLOVE = "foxglove_msgs/msg/CompressedVideo"
DEFINITIONS = {
    FFMPEG: """std_msgs/Header header
int32 width       # original image width
int32 height      # original image height
string encoding   # encoding used
uint64 pts        # packet pts
uint8 flags       # packet flags
bool is_bigendian # true if machine stores in big endian format
uint8[] data      # ffmpeg compressed payload""",
    FOXGLOVE: """builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format""",
}
STORE = get_typestore(Stores.ROS2_HUMBLE)
for _kind, _text in DEFINITIONS.items():
    STORE.register(get_types_from_msg(_text, _kind))


def ffmpeg_packet(
    packet: Encoded, stamp: int, encoder: str = "libx264", frame_id: str = "eye"
) -> bytes:
    """A serialized FFMPEGPacket; the stamp is in ns."""
    make = STORE.types.__getitem__
    time = make("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9))
    message = make(FFMPEG)(
        header=make("std_msgs/msg/Header")(time, frame_id),
        width=64,
        height=48,
        encoding=encoder,
        pts=packet.number,
        flags=int(packet.is_key),
        is_bigendian=False,
        data=np.frombuffer(packet.data, np.uint8),
    )
    return bytes(STORE.serialize_cdr(message, FFMPEG))


def compressed_video(
    packet: Encoded, stamp: int, codec: str = "h264", frame_id: str = "eye"
) -> bytes:
    """A serialized CompressedVideo; the stamp is in ns."""
    make = STORE.types.__getitem__
    message: Any = make(FOXGLOVE)(
        timestamp=make("builtin_interfaces/msg/Time")(*divmod(stamp, 10**9)),
        frame_id=frame_id,
        data=np.frombuffer(packet.data, np.uint8),
        format=codec,
    )
    return bytes(STORE.serialize_cdr(message, FOXGLOVE))
