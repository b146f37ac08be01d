# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import cv2
import numpy as np
import pytest
from toy_model import write_toy_model

from training.picture_sheet import WIDTH, main


def test_pictures_are_drawn_into_one_sheet(tmp_path, monkeypatch):
    model = write_toy_model(tmp_path / "toy.onnx")
    pictures = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path in pictures:
        cv2.imwrite(path, np.full((60, 80, 3), 90, np.uint8))
    command = ["sheet", "--model", str(model), "--out", str(tmp_path / "sheet.webp"), *pictures]
    monkeypatch.setattr("sys.argv", command)
    main()
    assert cv2.imread(str(tmp_path / "sheet.webp")).shape == (round(WIDTH / 2 * 60 / 80), WIDTH, 3)


def test_a_sheet_that_is_too_large_for_its_format_gives_one_sentence(tmp_path, monkeypatch):
    model, out = write_toy_model(tmp_path / "toy.onnx"), tmp_path / "sheet.webp"
    cv2.imwrite(str(tmp_path / "tall.png"), np.full((640, 40, 3), 90, np.uint8))
    command = ["sheet", "--model", str(model), "--out", str(out), str(tmp_path / "tall.png")]
    monkeypatch.setattr("sys.argv", command)
    told = "^training.picture_sheet: a sheet of 1280 x 20480 pixels .* at most 16383 along a side"
    with pytest.raises(SystemExit, match=told):
        main()
    assert not out.exists()


@pytest.mark.parametrize(
    ("model", "picture", "message"),
    [
        ("gone.onnx", "a.png", "no model file gone.onnx"),
        ("toy.onnx", "gone.png", "'gone.png' does"),
    ],
)
def test_an_unusable_model_or_image_gives_one_sentence(
    model, picture, message, tmp_path, monkeypatch
):
    write_toy_model(tmp_path / "toy.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sheet", "--model", model, "--out", "sheet.webp", picture])
    with pytest.raises(SystemExit, match=f"^training.picture_sheet: .*{message}"):
        main()
