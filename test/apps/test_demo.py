# SPDX-License-Identifier: Apache-2.0
"""The demo as a newcomer runs it: what it leaves behind, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from io import StringIO
from pathlib import Path
from resource import RLIMIT_NOFILE, setrlimit
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import ROOT
from rich.console import Console
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.apps.demo import command
from compact_yolo_ros.apps.demo.command import _why_nothing
from compact_yolo_ros.apps.demo.viewer import DemoViewer
from compact_yolo_ros.support.termination import handling


def demo(*arguments: str, files: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compact_yolo_ros.apps.demo.command", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        preexec_fn=partial(setrlimit, RLIMIT_NOFILE, (files, files)) if files else None,
    )


def folder_of_pictures(path: Path, colour: tuple[int, int, int]) -> str:
    """Pictures of a square of one BGR colour that moves over black."""
    path.mkdir()
    for n in range(4):
        picture = np.zeros((240, 320, 3), np.uint8)
        picture[64:96, 64 + 32 * n : 96 + 32 * n] = colour
        cv2.imwrite(str(path / f"{n}.png"), picture)
    return str(path)


def test_it_leaves_detections_diagnostics_and_pictures(tmp_path: Path, toy: str) -> None:
    video, out = folder_of_pictures(tmp_path / "video", (0, 0, 255)), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("the user's own")
    options = ("--model", toy, "--video", video, "--rate", "20", "--seconds", "5")
    result = demo(*options, "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "notes.txt" not in result.stdout
    assert "red" in result.stdout
    results = json.loads((out / "detections.json").read_text())
    assert {d["class"] for result in results for d in result["detections"]} == {"red"}
    assert results[0]["stamp"] > 0
    boxes = {tuple(d["box"]) for result in results for d in result["detections"]}
    assert all(x2 - x1 == 16 for x1, _, x2, _ in boxes)
    states = json.loads((out / "diagnostics.json").read_text())
    assert any(float(state.get("fps_out", 0)) > 0 for state in states)
    sheet = cv2.imread(str(out / "annotated.jpg"))
    assert sheet.shape == (2 * 240, 3 * 320, 3)
    video = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert video.read()[0]
    assert sorted(path.name for path in out.iterdir()) == [
        "annotated.jpg",
        "annotated.mp4",
        "detections.json",
        "diagnostics.json",
        "notes.txt",
    ]


def test_it_fails_if_nothing_was_detected(tmp_path: Path, toy: str) -> None:
    video = folder_of_pictures(tmp_path / "video", (0, 0, 0))
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotated.mp4").write_text("of an earlier run")
    options = ("--model", toy, "--video", video, "--rate", "20", "--seconds", "1")
    result = demo(*options, "--out", str(out))
    assert result.returncode == 1
    assert b"earlier" not in b"".join(path.read_bytes() for path in out.glob("annotated.mp4"))
    assert "nothing was detected" in result.stderr
    assert json.loads((out / "detections.json").read_text())[0]["detections"] == []


@pytest.mark.parametrize(
    ("answered", "state", "sentence"),
    [
        (True, "OK", "nothing was detected"),
        (False, "the model cannot be opened", "the detector says: the model cannot be opened"),
        (False, None, "DDS needs a network interface"),
    ],
)
def test_why_nothing_was_detected(answered: bool, state: str | None, sentence: str) -> None:
    viewer: Any = SimpleNamespace(detections=0, answered=answered, state=state)
    assert sentence in (_why_nothing(viewer) or "")


def test_what_is_wrong_with_the_video_is_shown_beside_the_state_of_the_detector(
    tmp_path: Path,
) -> None:
    node: Any = SimpleNamespace(
        create_subscription=lambda *_: None, get_namespace=lambda: "/demo_7"
    )
    viewer = DemoViewer(node, node, tmp_path, "toy")

    def tell(name: str, level: bytes, message: str) -> None:
        status = DiagnosticStatus(name=name, level=level, message=message)
        viewer._on_diagnostics(DiagnosticArray(status=[status]))

    tell("/demo_7/detector: detections", DiagnosticStatus.OK, "8 images per second")
    tell("/demo_7/video_publisher: playback", DiagnosticStatus.OK, "publishing")
    tell("/demo_8/video_publisher: playback", DiagnosticStatus.WARN, "of another demo")
    console = Console(width=100, record=True, file=StringIO())
    console.print(viewer._table())
    assert "publishing" not in (shown := console.export_text()) and "another" not in shown
    tell("/demo_7/video_publisher: playback", DiagnosticStatus.WARN, "only 9 of the 20 frames")
    console.print(viewer._table())
    assert "only 9 of the 20 frames" in (shown := console.export_text())
    assert viewer.state == "8 images per second" and "OK: 8 images" in shown


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--model", "yolo_what"), "there is no model 'yolo_what': give one of"),
        (("--seconds", "0"), "--seconds must be above 0"),
        (("--seconds", "nan"), "'nan' is not a number up to"),
        (("--rate", "inf"), "'inf' is not a number up to"),
        (("--video", "/nowhere.mp4", "--seconds", "20"), "video_publisher_node ended: "),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    tmp_path: Path, toy: str, options: tuple[str, ...], sentence: str
) -> None:
    result = demo("--model", toy, "--out", str(tmp_path / "out"), *options)
    assert result.returncode != 0
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_signal_counts_between_two_messages(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pybind11, which reads messages for rclpy, makes another error of a KeyboardInterrupt."""
    out, answered = tmp_path / "out", DemoViewer._on_detections

    def interrupted(viewer: DemoViewer, message: Detection2DArray) -> None:
        is_first = not viewer.answered
        answered(viewer, message)
        try:
            if is_first:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("unable to convert an argument") from None

    monkeypatch.setattr(DemoViewer, "_on_detections", interrupted)
    monkeypatch.setattr(command, "prepare_environment", lambda _: None)
    video = folder_of_pictures(tmp_path / "video", (0, 0, 255))
    # a shell that starts a command in the background lets it ignore SIGINT
    with handling(signal.SIGINT, signal.default_int_handler):
        assert command.main(["--model", toy, "--video", video, "--out", str(out)]) == 0
    assert len(json.loads((out / "detections.json").read_text())) >= 1


def test_a_signal_before_the_first_answer_leaves_earlier_results(
    tmp_path: Path, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / "detections.json"
    earlier.write_text("[1]")

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(DemoViewer, "update", interrupted)
    monkeypatch.setattr(command, "prepare_environment", lambda _: None)
    assert command.main(["--model", toy, "--out", str(tmp_path)]) == 130
    assert earlier.read_text() == "[1]"


@pytest.mark.parametrize(
    ("surroundings", "sentence"),
    [
        ({"files": 12}, "demo: ROS cannot start: too many open files: raise the limit"),
        ({"HOME": "/proc/nobody", "ROS_LOG_DIR": ""}, "set HOME or ROS_LOG_DIR to a folder"),
        ({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}, "DDS security is on"),
    ],
)
def test_where_ros_cannot_start_is_one_sentence(
    tmp_path: Path, toy: str, surroundings: dict[str, Any], sentence: str
) -> None:
    result = demo("--model", toy, "--out", str(tmp_path / "out"), **surroundings)
    assert result.returncode == 1
    assert result.stderr.count("demo: ") == 1 and sentence in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(toy: str) -> None:
    result = demo("--model", toy, "--out", "/proc/nobody/out")
    assert result.returncode == 1
    assert result.stderr.startswith("demo: the results cannot be written to /proc/nobody/out: ")
    assert "Traceback" not in result.stderr and result.stdout == ""
