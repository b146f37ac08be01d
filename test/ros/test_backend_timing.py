# SPDX-License-Identifier: Apache-2.0
"""The fastest runtime of the CPU takes over from the one that starts soonest, without ROS.

The runtimes are real, on the toy detector; the process that times them is a double.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from list_logger import ListLogger
from timing_double import usual
from toy_model import CARD, write_toy_model

from compact_yolo_ros.backends import BackendLost, RunOptions, choice, open_at_start
from compact_yolo_ros.backends.fastest import Timing
from compact_yolo_ros.backends.remembered import remember, subject_of
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.ros.detector import backend_timing
from compact_yolo_ros.ros.detector.backend_manager import BackendManager

pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
ROOT = Path(__file__).parents[2]
IMAGE = np.zeros((320, 320, 3), np.uint8)
SIZE, SMALLER = Size.square(320), Size.square(288)
BEGUN = "Timing the runtimes"
PATIENCE = 60.0


class Node:
    """A manager as a node has it, and its log."""

    def __init__(self, options: RunOptions) -> None:
        self.log = ListLogger()
        self.manager = BackendManager(options, open_at_start(options), self.log)
        self._is_open = True

    def close(self) -> bool:
        """Release it, once; return whether that goes on."""
        was_open, self._is_open = self._is_open, False
        return was_open and self.manager.close().is_alive()

    @property
    def runs_on(self) -> tuple[str, int]:
        backend = self.manager.detector.backend
        return backend.name, backend.threads

    def answer(self) -> None:
        self.manager.detector.detect(IMAGE)
        self.manager.succeeded()

    def answer_until(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < end, (self.log.lines, self.manager.facts())
            self.answer()
            time.sleep(0.01)

    def timing(self) -> str:
        return str(self.manager.facts().get("backend_timing"))


@pytest.fixture
def start(
    toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Node]]:
    """Start a node on a machine without a GPU, on which nothing was timed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "test" / "helpers"))))
    monkeypatch.setenv("TIMING_DOUBLE", "5")
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path / "none",))
    monkeypatch.setattr(backend_timing, "TIMING", "timing_double")
    nodes: list[Node] = []

    def begin(**changes: object) -> Node:
        nodes.append(Node(RunOptions(toy, input_sizes=(SIZE,)).change(**changes).pinned()))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.close()


def test_the_first_start_times_while_it_answers_and_the_second_knows(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start()
    assert first.runs_on == (usual(1).backend, usual(1).threads)
    assert first.timing() == "waiting for the first image" and first.log.lines == []
    first.answer_until(lambda: first.runs_on == ("openvino", 1))
    figures = (
        "openvino fp32 1 thread 5.0 ms (CPU 10.0 ms), timed here at 320x320 beside onnxruntime"
    )
    assert first.timing().startswith(figures)
    assert first.manager.detector.opened.choice == first.timing()
    begun, found = (line for line in first.log.lines if line.startswith((BEGUN, "Fastest")))
    assert begun.startswith(BEGUN) and found == f"Fastest on this CPU: {first.timing()}"
    first.answer()

    with monkeypatch.context() as unopened:
        unopened.setitem(sys.modules, "openvino", None)  # the first answer does not wait for it
        second = start()
        assert second.runs_on == (usual(1).backend, usual(1).threads)
    second.answer_until(lambda: second.runs_on == ("openvino", 1))
    assert second.timing() == first.timing() and second.manager._timing._process is None
    assert second.log.lines == [f"Fastest on this CPU: {first.timing()}"]


def test_a_start_is_at_the_size_that_fitted_the_camera_last(
    start: Callable[..., Node],
) -> None:
    image, fits = Size(640, 480), Size(320, 256)
    first = start(input_sizes=(320,))
    first.answer_until(lambda: first.runs_on == ("openvino", 1))
    first.manager.fit((image,))
    first.answer_until(lambda: "timed here at 320x256" in first.timing())

    second = start(input_sizes=(320,))
    assert set(second.manager.detector.backend.sizes) == {fits}
    second.manager.fit((image,))
    second.answer_until(lambda: second.runs_on == ("openvino", 1))
    assert set(second.manager.detector.backend.sizes) == {fits}


def test_what_is_fastest_already_stays_open(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMING_DOUBLE", "9.9")
    node = start()
    backend = node.manager.detector.backend
    node.answer_until(lambda: node.timing().startswith("onnxruntime fp32"))
    node.answer()
    assert node.manager.detector.backend is backend
    assert node.log.lines[-1] == f"Fastest on this CPU: {node.timing()}"


@pytest.mark.parametrize(
    "changes",
    [{"backend": "onnxruntime"}, {"threads": 1}, {"precision": "fp32"}, {"timing": False}],
)
def test_what_the_user_sets_is_not_timed(
    start: Callable[..., Node], changes: dict[str, object]
) -> None:
    node = start(**changes)
    for _ in range(3):
        node.answer()
    assert node.manager._opener._waiting.empty() and node.manager._timing._process is None
    assert node.manager.facts() == {"backend_fallbacks": 0}


def children() -> set[int]:
    lists = Path("/proc/self/task").glob("*/children")
    return {int(number) for path in lists for number in path.read_text().split()}


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def hanging(start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node whose timing has begun and never ends."""
    monkeypatch.setenv("TIMING_DOUBLE", "hang")
    node = start()
    node.answer_until(lambda: node.timing() == "timing onnxruntime fp32")
    return node


def test_the_timing_ends_with_the_activation_and_begins_again(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    node = hanging(start, monkeypatch)
    assert len(children() - before) == 1
    node.manager.rest()
    wait_until(lambda: children() <= before)
    assert not node.manager.warning
    monkeypatch.setenv("TIMING_DOUBLE", "5")
    node.answer_until(lambda: node.runs_on == ("openvino", 1))


def test_the_timing_ends_with_the_node(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    node = hanging(start, monkeypatch)
    assert not node.close()
    wait_until(lambda: children() <= before)


def test_a_node_that_rests_before_the_timing_has_begun_is_left_alone(
    start: Callable[..., Node],
) -> None:
    node = start()
    node.manager.rest()
    node.manager._timing._choose()  # that was on its way
    assert node.manager._timing._process is None
    node.answer_until(lambda: node.runs_on == ("openvino", 1))


def test_a_timing_that_fails_is_one_sentence(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMING_DOUBLE", "fail")
    node = start()
    node.answer_until(lambda: node.timing().startswith("failed"))
    assert node.timing() == "failed: the cores are too busy"
    assert node.log.lines[-1] == "staying with onnxruntime, not timed: the cores are too busy"
    assert node.runs_on[0] == "onnxruntime" and node.manager.warning == ""
    for _ in range(3):
        node.answer()
    assert sum(line.startswith(BEGUN) for line in node.log.lines) == 1  # it is not tried again


def test_another_size_is_timed_too(start: Callable[..., Node]) -> None:
    node = start()
    node.answer_until(lambda: node.runs_on == ("openvino", 1))
    node.manager.use_sizes(lambda *_: (SMALLER,))
    node.answer_until(lambda: "timed here at 288x288" in node.timing())
    assert node.runs_on == ("openvino", 1)
    assert sum(line.startswith(BEGUN) for line in node.log.lines) == 2
    node.manager.use_sizes(lambda *_: (SMALLER, Size.square(352)))  # a target: the first one stays
    node.answer_until(lambda: len(node.manager.detector.backend.sizes) == 2)
    assert node.runs_on == ("openvino", 1)


def test_a_timing_of_a_size_that_is_not_needed_any_more_ends(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()
    node = hanging(start, monkeypatch)
    first = children() - before
    node.manager.use_sizes(lambda *_: (SIZE, SMALLER))  # a target: it is still the size to time
    node.answer_until(lambda: len(node.manager.detector.backend.sizes) == 2)
    node.answer()
    monkeypatch.setenv("TIMING_DOUBLE", "5")
    node.manager.use_sizes(lambda *_: (Size.square(352),))
    node.answer_until(lambda: "timed here at 352x352" in node.timing())
    assert sum(line.startswith(BEGUN) for line in node.log.lines) == 2
    wait_until(lambda: not first & children())


def test_a_timing_ends_when_the_cpu_takes_over(
    start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, toy: str
) -> None:
    larger = RunOptions(toy, input_sizes=(Size.square(640),))
    remember(find_model(toy), larger, [usual(10), Timing("openvino", "fp32", 1, 1, 1)])
    monkeypatch.setenv("TIMING_DOUBLE", "hang")
    before = children()
    node = start()
    node.answer_until(lambda: node.runs_on == ("openvino", 1) and children() - before)
    node.manager.failed(BackendLost("gone"))
    node.answer_until(lambda: node.runs_on[0] == "onnxruntime")
    wait_until(lambda: children() <= before)
    node.answer()
    assert node.timing() == "None" and node.manager._opener._waiting.empty()


def test_a_file_that_is_ignored_is_told_once(start: Callable[..., Node], toy: str) -> None:
    model = find_model(toy)
    remember(model, RunOptions(toy, input_sizes=(SIZE,)), [usual(1)])
    path = subject_of(model).path
    path.write_text("{")
    node = start()
    node.answer_until(lambda: node.runs_on == ("openvino", 1))
    told = [line for line in node.log.lines if "ignored" in line]
    assert len(told) == 1 and told[0].startswith(f"the timings in {path} are ignored: ")


def test_a_file_that_was_overwritten_is_not_timed(
    start: Callable[..., Node], tmp_path: Path
) -> None:
    path = write_toy_model(tmp_path / "mine.onnx")
    node = start(model=str(path))
    write_toy_model(path, replace(CARD, name="other"))
    node.answer_until(lambda: node.log.lines)
    sentence = f"{path} has been overwritten since it was opened: "
    assert node.log.lines[0].startswith(sentence) and node.manager.warning == node.log.lines[0]
    assert node.manager._timing._process is None
    assert node.runs_on[0] == "onnxruntime"


def test_the_cpu_that_always_works_takes_over_for_good(
    start: Callable[..., Node], toy: str
) -> None:
    options = RunOptions(toy, input_sizes=(SIZE,))
    remember(find_model(toy), options, [usual(10), Timing("openvino", "fp32", 1, 1, 1)])
    node = start()
    node.answer_until(lambda: node.runs_on == ("openvino", 1))
    node.manager.failed(BackendLost("gone"))
    node.answer_until(lambda: node.runs_on[0] == "onnxruntime")
    assert node.timing() == "None"
    assert node.manager.warning.startswith("the CPU took over from openvino")


def test_deactivating_lets_the_timing_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    from compact_yolo_ros.ros.detector import activation

    rested: list[bool] = []
    stopped = SimpleNamespace(stop=lambda: True, thread=None)
    monkeypatch.setattr(activation, "FrameWorker", lambda *_: stopped)
    session = SimpleNamespace(
        backends=SimpleNamespace(needs_gpu=False, rest=lambda: rested.append(True)), cameras=[]
    )
    node = SimpleNamespace(get_clock=lambda: None)
    active = activation.Activation(node, session, {"power": "none"}, enabled=True)
    assert rested == []
    active.close()
    assert rested == [True]
