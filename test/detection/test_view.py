# SPDX-License-Identifier: Apache-2.0
"""Turned cameras, regions of interest and tiles: what is found, and in which pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.tile_merging import merge
from compact_yolo_ros.detection.view import PLAIN, Area, View, parse_tiles
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.jpeg_pixels import JpegPixels


@pytest.fixture(scope="module")
def detector(toy: str):
    with_all = Detector.open(RunOptions(toy, input_sizes=(320,), threads=1))
    yield with_all
    with_all.close()


def picture(*squares: tuple[int, int], size: tuple[int, int] = (640, 480)) -> np.ndarray:
    """Black with green squares of 32 pixels at x, y."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y in squares:
        image[y : y + 32, x : x + 32, 1] = 255
    return image


def boxes(found: Detections) -> list[list[int]]:
    return sorted(found.boxes.round().astype(int).tolist())


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("size", [(640, 512), (512, 640)])
def test_boxes_of_a_turned_camera_are_in_its_own_pixels(detector, rotation, size) -> None:
    """Whatever the turn, a cell of the network is 32 pixels of an image twice as large."""
    image = picture((64, 32), (320, 416), size=size)
    found = detector.detect_decoded(DecodedImage(image, "bgr"), View(rotation))
    assert boxes(found) == [[64, 32, 96, 64], [320, 416, 352, 448]]
    seen = size if rotation % 180 == 0 else size[::-1]
    expected = (256, 320) if seen[0] > seen[1] else (320, 256)
    assert detector.backend.input.shape[1:3] == expected


def test_a_region_of_interest_is_seen_in_all_its_pixels(detector) -> None:
    """16 pixels are a cell of a crop as large as the input, and half a cell of the image."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[256:272, 400:416, 2] = 255
    image[0:64, 0:64, 0] = 255  # outside
    shown = DecodedImage(image, "bgr")
    assert not len(detector.detect_decoded(shown, PLAIN)[:0])
    found = detector.detect_decoded(shown, View(roi=Area(320, 160, 320, 320)))
    assert boxes(found) == [[400, 256, 416, 272]]
    found = detector.detect_decoded(shown, View(180, Area(320, 160, 320, 320)))
    assert boxes(found) == [[400, 256, 416, 272]]
    # One that reaches out of the image ends there.
    assert View(roi=Area(600, 400, 100, 100)).part((640, 480)) == Area(600, 400, 40, 80)
    with pytest.raises(ImageError, match="none of them in the roi .*: set roi to a part of it"):
        detector.detect_decoded(shown, View(roi=Area(640, 0, 10, 10)))


def test_a_jpeg_is_decoded_no_smaller_than_its_part_needs(detector) -> None:
    image = picture((1600, 1216), size=(2560, 1920))
    _, data = cv2.imencode(".jpg", image)
    file = JpegPixels(data.tobytes(), (2560, 1920), False)
    view = View(roi=Area(1280, 960, 640, 640))
    assert view.window(detector.window)(file.size) == (1280, 960)
    half = DecodedImage(file.decode(2), "bgr", 2, file)
    assert boxes(detector.detect_decoded(half, view)) == [[1600, 1216, 1632, 1248]]
    odd = View(roi=Area(1281, 961, 639, 639))
    (box,) = detector.detect_decoded(half, odd).boxes
    np.testing.assert_allclose(box, [1600, 1216, 1632, 1248], atol=3)


def test_tiles_find_what_is_too_small_for_the_whole(detector) -> None:
    image = np.zeros((1280, 1280, 3), np.uint8)
    image[720:736, 160:176, 1] = 255  # 1/16 of a cell of the whole
    image[0:64, 512:576, 2] = 255  # a cell of it
    shown = DecodedImage(image, "bgr")
    view = View(tiles=(4, 4), overlap=0.0)
    found = detector.detect_decoded(shown, view)
    assert [160, 720, 176, 736] in boxes(found)
    alone = detector.detect_decoded(shown, PLAIN)
    assert [160, 720, 176, 736] not in boxes(alone) and len(alone) == 1
    runs = []
    run = detector.backend.run
    detector.backend.run = lambda: runs.append(1) or run()
    try:
        detector.detect_decoded(shown, view)
    finally:
        del detector.backend.run
    assert len(runs) == 17
    assert detector.times.inference > 0


def test_what_an_edge_of_a_tile_cuts_takes_no_place_among_the_best(detector) -> None:
    image = np.zeros((1280, 1280, 3), np.uint8)
    image[720:736, 304:336, 2] = 255  # in two tiles, and too small for the whole
    image[720:736, 160:176, 1] = 200
    shown, view = DecodedImage(image, "bgr"), View(tiles=(4, 4), overlap=0.0)
    usual = detector.selection
    for most in (100, 1):
        detector.selection = usual.change(max_detections=most)
        try:
            assert boxes(detector.detect_decoded(shown, view)) == [[160, 720, 176, 736]]
        finally:
            detector.selection = usual


def test_tiles_cover_the_part_evenly() -> None:
    view = View(roi=Area(100, 50, 1000, 400), tiles=(3, 2), overlap=0.25)
    whole, *tiles = view.areas((2000, 1000))
    assert whole == (100, 50, 1000, 400) and len(tiles) == 6
    assert {tile.size for tile in tiles} == {(400, 229)}
    covered = np.zeros((1000, 2000), int)
    for x, y, width, height in tiles:
        covered[y : y + height, x : x + width] += 1
    assert covered[50:450, 100:1100].min() == 1 and covered.sum() == 6 * 400 * 229
    for left, right in zip(tiles, tiles[1:3], strict=False):
        assert left.x + left.width - right.x == pytest.approx(100, abs=1)
    assert view.seen((2000, 1000)) == ((400, 229), (1000, 400))
    assert View(90, tiles=(2, 1), overlap=0).seen((640, 480)) == ((480, 320), (480, 640))
    assert View(90).seen((640, 480)) == ((480, 640),)


WHOLE, LEFT, RIGHT = Area(0, 0, 180, 100), Area(0, 0, 100, 100), Area(80, 0, 100, 100)


def found(*rows: tuple[float, ...], label: int = 0) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.full(len(table), label, np.int32))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # cut by the edge between two tiles: the whole image shows it
        (
            [
                found((60, 10, 112, 50, 0.5)),
                found((60, 10, 100, 50, 0.9)),
                found((80, 10, 110, 50, 0.8)),
            ],
            [[60, 10, 112, 50]],
        ),
        # a whole one, and the part of it that the other tile shows, also as another class
        (
            [found(), found((84, 10, 100, 50, 0.9), label=1), found((84, 10, 120, 50, 0.7))],
            [[84, 10, 120, 50]],
        ),
        # found in a tile and in the whole image: the better box stays as it is
        (
            [found((10, 10, 40, 50, 0.6)), found((11, 10, 40, 48, 0.9)), found()],
            [[11, 10, 40, 48]],
        ),
        # at an edge of the whole image nothing is cut by a tile
        ([found(), found((0, 0, 30, 100, 0.9)), found()], [[0, 0, 30, 100]]),
        # a small object before a large one, both whole: two objects
        (
            [found((10, 10, 60, 90, 0.9)), found((20, 50, 35, 80, 0.8)), found()],
            [[10, 10, 60, 90], [20, 50, 35, 80]],
        ),
        # two classes in one place are two objects
        (
            [found((10, 10, 60, 90, 0.9)), found((10, 10, 60, 90, 0.8), label=1), found()],
            [[10, 10, 60, 90], [10, 10, 60, 90]],
        ),
        ([found(), found(), found()], []),
    ],
)
def test_an_object_in_several_tiles_is_one(parts, expected) -> None:
    merged = merge(parts, [WHOLE, LEFT, RIGHT], 0.5)
    assert boxes(merged) == expected
    assert (np.diff(merged.scores) <= 0).all()


def test_wrong_views_are_refused() -> None:
    for text in ("3", "0x2", "3x9", "a", "3x2x1", ""):
        with pytest.raises(ValueError, match="not like 3x2"):
            parse_tiles(text)
    assert parse_tiles("3x2") == (3, 2)
    for values in ({"rotation": 45}, {"roi": Area(0, 0, 0, 5)}, {"roi": Area(-1, 0, 5, 5)}):
        with pytest.raises(ValueError, match="rotation|roi"):
            View(**values)
    with pytest.raises(ValueError, match="tile_overlap"):
        View(overlap=0.9)
