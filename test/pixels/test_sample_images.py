# SPDX-License-Identifier: Apache-2.0
"""The images that doctor and benchmark give to a network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.pixels.sample_images import sample_images


def test_the_images_are_the_same_each_time_and_hold_objects() -> None:
    first, second = sample_images(), sample_images()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(first) > 5


def test_two_sheets_of_the_same_pictures_give_two_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("a.webp", "b.webp"):
        shutil.copy(find_model("yolo_nano").path.with_suffix(".webp"), tmp_path / name)
    monkeypatch.setattr(
        "compact_yolo_ros.pixels.sample_images.resource_directory", lambda name: tmp_path
    )
    one, other, *generated = sample_images()
    assert len(generated) == 3 and one.shape == other.shape
    assert np.abs(one.astype(int) - other).mean() > 30


def test_sheets_may_be_in_a_folder_whose_name_is_not_utf_8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"l\xe4t")
    folder.mkdir()
    shutil.copy(find_model("yolo_nano").path.with_suffix(".webp"), folder / "a.webp")
    (folder / "b.webp").touch()
    monkeypatch.setattr(
        "compact_yolo_ros.pixels.sample_images.resource_directory", lambda name: folder
    )
    assert len(sample_images()) == 4


def test_without_sheets_the_generated_images_remain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "compact_yolo_ros.pixels.sample_images.resource_directory", lambda name: tmp_path
    )
    assert [image.shape for image in sample_images()] == [(480, 640, 3)] * 3
