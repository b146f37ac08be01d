# SPDX-License-Identifier: Apache-2.0
"""Untrained detectors for measuring speed: they run as trained ones do, and say what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_detector import SMALLEST_YOLO_RET

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.store import find_model
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.export_zoo import export_untrained, main


def test_an_untrained_detector_runs_at_its_papers_size(tmp_path: Path) -> None:
    path = tmp_path / "yolo_fastest.onnx"
    export_untrained("yolo_fastest", path)
    detector = Detector.open(RunOptions(str(path), threads=1))
    side = DETECTORS["yolo_fastest"].published.side
    assert detector.backend.input.shape == (1, side, side, 3)
    assert detector.card.gmacs[str(side)] == pytest.approx(0.1256, abs=0.001)
    assert "detects nothing" in detector.card.notes
    detector.detect(np.zeros((480, 640, 3), np.uint8))


def test_a_folder_that_cannot_be_written_ends_in_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    command = ["export_zoo", str(tmp_path / "file"), "--only", "yolo_nano"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "File exists" in capsys.readouterr().err


def test_a_detector_without_a_publication_has_the_size_of_every_model(tmp_path, monkeypatch):
    config = Variant.from_settings(SMALLEST_YOLO_RET).config
    own = replace(DETECTORS["yolo_ret_m075"], config=config, published=None)
    monkeypatch.setitem(DETECTORS, "own", own)
    export_untrained("own", tmp_path / "own.onnx")
    assert find_model(str(tmp_path / "own.onnx")).card.default_size == 320
