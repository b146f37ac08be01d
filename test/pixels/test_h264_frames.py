# SPDX-License-Identifier: Apache-2.0
"""Frame numbers in H.264 show every lost reference picture, and none that is there."""

from __future__ import annotations

import numpy as np
import pytest
from encoded_video import Encoded, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.pixels.h264_frames import FrameNumbers

KINDS = {
    "baseline": {},
    "high, B-frames as references": {"b_frames": 3, "b-pyramid": "normal", "refs": "4"},
    "high 4:4:4": {"pixel_format": "yuv444p"},
    "slices": {"slices": "4"},
    "intra refresh": {"intra-refresh": "1"},
    "scaling lists": {"b_frames": 1, "cqm": "jvt"},
    "wrapping": {"count": 40},
}


def is_reference(packet: Encoded) -> bool:
    """By nal_ref_idc of the first slice."""
    at = next(
        n
        for n in range(len(packet.data))
        if packet.data[n : n + 3] == b"\0\0\1" and packet.data[n + 3] & 0x1F in (1, 5)
    )
    return bool(packet.data[at + 3] >> 5 & 3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_lost_reference_is_found_and_nothing_else(kind: str) -> None:
    options = {"count": 24, "gop": 12, **KINDS[kind]}
    random = np.random.default_rng(3)
    count = options["count"]
    scenes = random.integers(0, 256, (count, 48, 64, 3), np.uint8)
    packets = encode("h264", pictures=scenes, **options)
    for lost in range(-1, len(packets) - 1):
        numbers = FrameNumbers()
        left = [packet for place, packet in enumerate(packets) if place != lost]
        found = []
        for place, packet in enumerate(left):
            if packet.is_key:
                numbers.begin(packet.data)
            elif numbers.miss(packet.data):
                found.append(place)
        follower = packets[lost + 1]
        hurts = lost >= 0 and is_reference(packets[lost]) and not follower.is_key
        if lost >= 0 and packets[lost].is_key:
            continue  # then the video waits, or goes on from another one
        assert found[:1] == ([lost] if hurts else []), (lost, found)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=30), max_size=5), st.sampled_from([1, 5, 7, 0x67, 0x65, 0x41]))
def test_any_bytes_show_a_loss_or_none(parts: list[bytes], kind: int) -> None:
    numbers = FrameNumbers()
    for part in parts:
        assert numbers.miss(b"\0\0\1" + bytes([kind]) + part) in (True, False)
