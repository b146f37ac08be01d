# SPDX-License-Identifier: Apache-2.0
"""Small H.264 and H.265 videos made by FFmpeg's encoders; brightness numbers the pictures."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

ENCODERS = {"h264": ("libx264", "libopenh264"), "hevc": ("libx265",)}
OPTIONS = {"libx265": {"x265-params": "log-level=none"}}
OPEN_GOP = {"x265-params": "log-level=none:open-gop=1:bframes=2:keyint=6:min-keyint=6:scenecut=0"}
"""Options of libx265 with which pictures between two keyframes need both, as by default."""
STEP = 8
"""Levels of grey between two pictures."""


class Encoded(NamedTuple):
    """A packet of an encoder: its bytes, the number of its picture, whether it is a keyframe."""

    data: bytes
    number: int
    is_key: bool


def grey(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Picture ``number`` of a video, (h, w, 3) RGB; 24 of them can be told apart."""
    return np.full((size[1], size[0], 3), 24 + STEP * number, np.uint8)


def number_of(pixels: np.ndarray) -> int:
    """Which picture this is."""
    return round((float(pixels.mean()) - 24) / STEP)


def encode(
    codec: str,
    count: int = 12,
    *,
    size: tuple[int, int] = (64, 48),
    gop: int = 6,
    b_frames: int = 0,
    pictures: Any = None,
    pixel_format: str = "yuv420p",
    **options: str,
) -> list[Encoded]:
    """The packets of a video in the order in which an encoder sends them; skips without one."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    encoder = _encoder(av, codec)
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base = pixel_format, Fraction(1, 30)
    encoder.framerate, encoder.gop_size, encoder.max_b_frames = Fraction(30), gop, b_frames
    speed = {"preset": "ultrafast"} if not b_frames else {"preset": "veryfast", "b_strategy": "0"}
    encoder.options = {**speed, **OPTIONS.get(encoder.name, {}), **options}
    packets = []
    for number in range(count):
        pixels = grey(number, size) if pictures is None else pictures[number]
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [Encoded(bytes(packet), packet.pts, packet.is_keyframe) for packet in packets]


def _encoder(av: Any, codec: str) -> Any:
    for name in ENCODERS[codec]:
        try:
            return av.CodecContext.create(name, "w")
        except Exception:  # of a build without it; the type depends on PyAV's version
            continue
    pytest.skip(f"this FFmpeg has no encoder for {codec}")
