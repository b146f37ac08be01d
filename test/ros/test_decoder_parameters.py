# SPDX-License-Identifier: Apache-2.0
"""The parameters of a camera's decoder reach it, whichever decoder it is."""

from __future__ import annotations

import sys
from array import array
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hostile_images import animation, jpeg, landscape, png, seeds
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.ros.detector.camera import Decode, new_decoder
from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS

DEFAULTS = {spec.name: spec.default for spec in DETECTOR_PARAMETERS}
LARGE = png(np.zeros((1024, 1024, 3), np.uint8))


class CvBridge:
    """Stands in for cv_bridge's: it takes every file for a black image."""

    def compressed_imgmsg_to_cv2(self, message: Any, encoding: str) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(params=["builtin", "cv_bridge"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What makes a decoder of compressed images, of either kind."""
    module = ModuleType("cv_bridge")
    module.CvBridge = CvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    chosen = {"image_decoder": request.param, "image_transport": "compressed"}
    return lambda **values: new_decoder({**DEFAULTS, **chosen, **values})


def is_taken(decode: Decode, file: bytes) -> bool:
    try:
        decode(CompressedImage(format="jpeg", data=array("B", file)))
    except ImageError:
        return False
    return True


@pytest.mark.parametrize(
    ("file", "name", "too_low", "enough"),
    [
        (LARGE, "max_image_mb", 2, 3),
        (seeds()["jpeg, progressive"], "max_jpeg_scans", 3, DEFAULTS["max_jpeg_scans"]),
        (animation(3), "max_png_frames", DEFAULTS["max_png_frames"], 3),
    ],
)
def test_limits(decoder: Any, file: bytes, name: str, too_low: int, enough: int) -> None:
    assert not is_taken(decoder(**{name: too_low}), file)
    assert is_taken(decoder(**{name: enough}), file)


def test_the_usual_limits_take_what_cameras_send(decoder: Any) -> None:
    for file in (LARGE, jpeg(landscape()), seeds()["jpeg, progressive"]):
        assert is_taken(decoder(), file)


@pytest.mark.parametrize(("bits", "expected"), [(10, 255), (12, 128), (16, 8)])
def test_bits_of_mono16(bits: int, expected: int) -> None:
    values = np.full((4, 6), 2056, "<u2")
    message = Image(width=6, height=4, step=12, encoding="mono16")
    message.data = array("B", values.tobytes())
    pixels = new_decoder({**DEFAULTS, "mono16_bits": bits})(message).pixels
    assert (pixels == expected).all()
