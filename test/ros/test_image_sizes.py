# SPDX-License-Identifier: Apache-2.0
"""What counts as the size of a camera's images, without ROS."""

from __future__ import annotations

from compact_yolo_ros.model.sizes import ANY_IMAGE
from compact_yolo_ros.ros.detector.image_sizes import SETTLED, ImageSizes

WIDE, TALL = (1280, 720), (720, 1280)


def see(sizes: ImageSizes, camera: str, *images: tuple[int, int]) -> list[bool]:
    return [sizes.see(camera, (image,)) for image in images]


def test_the_first_image_of_each_camera_counts_at_once() -> None:
    sizes = ImageSizes(["front", "rear"])
    assert sizes.all == (ANY_IMAGE, ANY_IMAGE)
    assert see(sizes, "rear", WIDE, WIDE) == [True, False]
    assert sizes.all == (ANY_IMAGE, WIDE)
    assert see(sizes, "front", TALL, TALL) == [True, False]
    assert sizes.all == (TALL, WIDE)


def test_tiles_and_the_whole_have_their_own_sizes() -> None:
    sizes = ImageSizes(["front", "rear"])
    assert sizes.see("front", (TALL, WIDE))
    assert sizes.all == (TALL, WIDE, ANY_IMAGE)
    assert [sizes.see("front", (WIDE,)) for _ in range(SETTLED)][-1]  # no tiles any more
    assert sizes.all == (WIDE, ANY_IMAGE)


def test_another_size_counts_when_it_has_settled() -> None:
    sizes = ImageSizes([""])
    sizes.see("", (WIDE,))
    assert see(sizes, "", *[TALL] * (SETTLED + 1)) == [False] * (SETTLED - 1) + [True, False]
    assert sizes.all == (TALL,)


def test_two_cameras_on_one_topic_change_nothing_without_end() -> None:
    sizes = ImageSizes([""])
    sizes.see("", (WIDE,))
    assert not any(see(sizes, "", *[TALL, WIDE] * 50))
    assert not any(see(sizes, "", *[TALL, (640, 480)] * 50))
    assert sizes.all == (WIDE,)
