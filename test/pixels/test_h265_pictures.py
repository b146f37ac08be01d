# SPDX-License-Identifier: Apache-2.0
"""Picture order counts in H.265 number the pictures as their encoder does, and show lost ones."""

from __future__ import annotations

import numpy as np
import pytest
from encoded_video import Encoded, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.pixels.h265_pictures import PictureOrder
from compact_yolo_ros.pixels.picture_numbers import PictureNumbers

KINDS = {
    "no B-frames": "open-gop=0",
    "B-frames": "open-gop=0:bframes=3:b-adapt=0:b-pyramid=1",
    "open groups, whose keyframes have pictures before them": "open-gop=1:bframes=2:b-adapt=0",
    "slices": "open-gop=0:slices=2:ctu=16",
    "layers": "open-gop=0:bframes=3:b-adapt=0:temporal-layers=1",
    "wrapping": "open-gop=0:log2-max-poc-lsb=4",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_counts_are_those_of_the_encoder_and_show_every_loss(kind: str) -> None:
    random = np.random.default_rng(3)
    scenes = random.integers(0, 256, (30, 48, 64, 3), np.uint8)
    b_frames = 3 * ("bframes" in KINDS[kind])
    given_to_x265 = {"x265-params": f"log-level=none:keyint=24:min-keyint=24:{KINDS[kind]}"}
    packets = encode(
        "hevc",
        pictures=scenes,
        count=30,
        gop=24,
        b_frames=b_frames,
        **given_to_x265,
    )
    order, counts, began = PictureOrder(), [], 0
    for packet in packets:
        count = order.number(packet.data)
        assert count is not None
        began = packet.number - count if packet.is_key else began
        counts.append(began + count)
    assert counts == [packet.number for packet in packets]
    assert max(counts) == 29 and (counts != sorted(counts)) == bool(b_frames)
    order, numbers = PictureOrder(), PictureNumbers()
    group = packets[:24]
    assert not lost_in(order, numbers, group, b_frames)
    for lost in range(1, 16):
        assert lost_in(order, numbers, group[:lost] + group[lost + 1 :], b_frames), lost


def lost_in(
    order: PictureOrder, numbers: PictureNumbers, group: list[Encoded], b_frames: int
) -> bool:
    """Whether packets are missing in a group; numbers are known to count after a whole one."""
    numbers.begin(order.number(group[0].data))
    return any([numbers.miss(order.number(each.data), reorders=b_frames > 0) for each in group[1:]])


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=30), max_size=5), st.sampled_from([2, 0x26, 0x28, 0x42, 0x44]))
def test_any_bytes_have_a_count_or_none(parts: list[bytes], kind: int) -> None:
    order = PictureOrder()
    for part in parts:
        order.number(b"\0\0\1" + bytes([kind, 1]) + part)
