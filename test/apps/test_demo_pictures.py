# SPDX-License-Identifier: Apache-2.0
"""What the demo keeps of its pictures: enough for the results, and no more."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from compact_yolo_ros.apps.demo import pictures as pictures_module
from compact_yolo_ros.apps.demo.pictures import MOST_PICTURES, Pictures
from compact_yolo_ros.apps.demo.viewer import DemoViewer


def grey(value: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def frames(video: Path) -> list[float]:
    """Mean grey value of each frame."""
    capture, found = cv2.VideoCapture(str(video)), []
    while (frame := capture.read()[1]) is not None:
        found.append(float(frame.mean()))
    return found


def test_the_video_and_the_sheet_show_what_was_kept(tmp_path: Path) -> None:
    kept = Pictures()
    for number in range(12):
        kept.add(number / 10, grey(20 * number))
    kept.add(1.2, grey(0, 32, 32))  # of another size, which a video cannot have
    kept.save_video(tmp_path / "video.mp4")
    assert frames(tmp_path / "video.mp4") == pytest.approx([20 * n for n in range(12)], abs=6)
    assert cv2.VideoCapture(str(tmp_path / "video.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    kept.save_sheet(tmp_path / "sheet.jpg", {number / 10: number % 2 for number in range(12)})
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    best = [[sheet[48 * y + 24, 64 * x + 32].mean() for x in range(3)] for y in range(2)]
    assert np.array(best) == pytest.approx(20 * np.array([[1, 3, 5], [7, 9, 11]]), abs=6)


@pytest.mark.parametrize(("width", "height"), [(33, 17), (34, 17), (1, 1)])
def test_a_video_shows_all_of_pictures_with_odd_sides(
    tmp_path: Path, width: int, height: int
) -> None:
    kept, pixels = Pictures(), grey(0, width, height)
    pixels[-1], pixels[:, -1] = 255, 255
    kept.add(0.0, pixels)
    kept.save_video(tmp_path / "video.mp4")
    _, frame = cv2.VideoCapture(str(tmp_path / "video.mp4")).read()
    assert frame.shape[:2] == (height + height % 2, width + width % 2)
    assert frame[height - 1, width - 1].min() > 200


def test_one_picture_fills_the_sheet(tmp_path: Path) -> None:
    kept = Pictures()
    kept.add(0.0, grey(100))
    kept.save_sheet(tmp_path / "sheet.jpg", {})
    kept.save_video(tmp_path / "video.mp4")
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape == (96, 192, 3)
    assert len(frames(tmp_path / "video.mp4")) == 1


def test_a_hundred_pictures_of_4k_are_kept_in_a_tenth_of_their_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (108, 192, 3), np.uint8)
    large = cv2.resize(pixels, (3840, 2160), interpolation=cv2.INTER_CUBIC)
    kept = Pictures()
    for number in range(4):
        kept.add(number, large)
    assert len(kept) == 4
    assert kept.size < 0.1 * 4 * large.nbytes


def test_what_is_kept_is_bounded_in_number_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Pictures()
    for number in range(MOST_PICTURES + 10):
        kept.add(number, grey(0))
    assert len(kept) == MOST_PICTURES
    monkeypatch.setattr(pictures_module, "MOST_BYTES", 100_000)
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    kept = Pictures()
    for number in range(100):
        kept.add(number, noise)
    assert 50_000 < kept.size <= 100_000
    kept.add(100, noise)
    kept.save_video(tmp_path / "video.mp4")
    assert len(frames(tmp_path / "video.mp4")) == len(kept)


def test_the_sheet_of_large_pictures_is_smaller(tmp_path: Path) -> None:
    kept = Pictures()
    kept.add(0.0, grey(0, 3840, 2160))
    kept.save_sheet(tmp_path / "sheet.jpg", {})
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape == (2 * 1080, 3 * 1920, 3)


WRITER = cv2.VideoWriter


class Writer:
    """OpenCV's writer within another object: a class derived from OpenCV's own crashes Python."""

    fourcc = staticmethod(cv2.VideoWriter.fourcc)

    def __init__(self, *arguments: Any) -> None:
        self._inner = WRITER(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class NoEncoder(Writer):
    """As where no encoder is installed: it takes every frame without a word."""

    def __init__(self, *_: Any) -> None:
        super().__init__()


def viewer_of(out: Path) -> DemoViewer:
    node = SimpleNamespace(create_subscription=lambda *_: None)
    viewer = DemoViewer(node, None, out, "a model")  # type: ignore[arg-type]
    for number in range(3):
        viewer._pictures.add(number / 10, grey(100))
    return viewer


def test_results_may_be_in_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"l\xe4t")
    out.mkdir()
    viewer_of(out).save()
    assert len(frames((out / "annotated.mp4").rename(tmp_path / "video.mp4"))) == 3
    sheet = np.fromfile(out / "annotated.jpg", np.uint8)
    assert cv2.imdecode(sheet, cv2.IMREAD_COLOR).shape == (96, 192, 3)


def test_without_an_encoder_all_but_the_video_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoWriter", NoEncoder)
    with pytest.raises(OSError, match="annotated.mp4: OpenCV has no encoder for it here"):
        viewer_of(tmp_path).save()
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"annotated.jpg", "detections.json", "diagnostics.json"}


def test_a_video_that_was_not_written_to_its_end_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV does not report a full disk."""
    viewer = viewer_of(tmp_path)
    kept = iter(range(1))

    class FullDisk(Writer):
        def write(self, frame: NDArray[np.uint8]) -> None:
            if next(kept, None) is not None:
                self._inner.write(frame)

    monkeypatch.setattr(cv2, "VideoWriter", FullDisk)
    with pytest.raises(OSError, match="incomplete, perhaps the disk is full"):
        viewer.save()
    assert not (tmp_path / "annotated.mp4").exists()
