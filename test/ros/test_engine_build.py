# SPDX-License-Identifier: Apache-2.0
"""The detector node where TensorRT works (a double of it, test/doubles), and its engines."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import Client, Start, image_message, values_of
from test_detector_node import set_parameter

MODULE = "gpu_detector_node"
pytestmark = pytest.mark.ros


@pytest.fixture
def start(start: Start, tmp_path: Path) -> Start:
    """Start a node that keeps its engines in a folder of the test."""
    return partial(
        start, module=MODULE, diagnostics_period=0.2, engine_cache=str(tmp_path / "engines")
    )


def facts(seen: SimpleNamespace) -> dict[str, str]:
    return values_of(seen.diagnostics[-1])


def publish_until(
    client: Client, seen: SimpleNamespace, happened: Callable[[], Any], period: float = 0.1
) -> None:
    """Send an image with one red square every ``period`` seconds until something is so."""
    pixels = np.zeros((320, 320, 3), np.uint8)
    pixels[32:48, 64:80, 0] = 255
    sent = 0.0

    def check() -> Any:
        nonlocal sent
        if time.monotonic() - sent > period:
            stamp = client.node.get_clock().now().to_msg()
            seen.camera.publish(image_message(pixels, stamp))
            sent = time.monotonic()
        return happened()

    client.wait_for(check)


def children(process: int) -> list[int]:
    """Processes that a process has started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    return [int(number) for path in lists for number in path.read_text().split()]


@pytest.mark.parametrize("version", ["8.6.1", "11.4.0"])
def test_the_cpu_works_until_the_engine_is_ready(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_VERSION", version)
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_SECONDS", "2")
    seen = start(precision="fp16")
    first = values_of(seen.diagnostics[0])
    assert first["backend"] == "onnxruntime"
    assert first["backend_choice"].startswith("until the engine is built")
    publish_until(client, seen, lambda: facts(seen)["backend"] == "tensorrt")
    meanwhile = [values_of(m) for m in seen.diagnostics if values_of(m)["backend"] != "tensorrt"]
    assert any(v["engine_build"].startswith("building toy 320x320 fp16") for v in meanwhile)
    assert int(meanwhile[-1]["images_processed"]) > 0
    assert facts(seen)["engine_build"] == "ready"
    assert facts(seen)["precision"] == "fp16"
    assert float(facts(seen)["compute_ms"]) > 0
    before = len(seen.results)
    publish_until(client, seen, lambda: len(seen.results) > before + 3)
    # No result was lost or wrong when one replaced the other.
    for result in seen.results:
        (detection,) = [d for d in result.detections if d.results[0].hypothesis.score > 0.9]
        assert detection.bbox.center.position.x == pytest.approx(72, abs=0.1)
    assert facts(seen)["errors"] == "0"
    assert "The engine is ready" in seen.process.output()


def test_a_second_start_is_on_the_gpu_at_once(client: Client, start: Start) -> None:
    first = start()
    publish_until(client, first, lambda: facts(first)["backend"] == "tensorrt")
    first.process.stop()
    second = start()
    client.wait_for(lambda: "backend" in facts(second))
    client.spin(0.5)
    assert facts(second)["backend"] == "tensorrt"
    assert facts(second)["backend_choice"] == "the fastest that works here"
    assert "building" not in second.process.output()


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        ("TENSORRT_DOUBLE_BUILD_FAILS", "TensorRT cannot"),
        ("TENSORRT_DOUBLE_WRONG", "the fp32 engine that TensorRT built of"),
    ],
)
def test_a_failed_build_leaves_the_cpu_with_a_warning(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch, switch: str, reason: str
) -> None:
    monkeypatch.setenv(switch, "1")
    seen = start()
    sentence = f"staying on the CPU, the engine could not be built: build_engine: {reason}"
    publish_until(client, seen, lambda: seen.diagnostics[-1].status[0].message.startswith(sentence))
    assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.WARN
    assert sentence in seen.process.output()
    before = len(seen.results)
    publish_until(client, seen, lambda: len(seen.results) > before)
    assert builds(seen) == 1
    assert set_parameter(client, "backend", "auto").successful  # what it is: asked for again
    client.wait_for(lambda: builds(seen) == 2)


def builds(seen: SimpleNamespace) -> int:
    """How many builds have begun."""
    return int(seen.process.output().count("building it in the background"))


def test_a_failed_build_of_another_size_leaves_the_gpu_at_its_own(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_FAILS", "288")
    seen = start(governor_sizes=[288])
    publish_until(client, seen, lambda: facts(seen)["backend"] == "tensorrt")
    assert set_parameter(client, "max_latency", 10.0).successful
    sentence = "staying with the input size, the engine could not be built: "
    publish_until(client, seen, lambda: seen.diagnostics[-1].status[0].message.startswith(sentence))
    assert facts(seen)["backend"] == "tensorrt"


def test_a_refused_engine_leaves_its_size_on_the_cpu_and_the_others_on_the_gpu(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size to begin with is refused; then the node starts again."""
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", "320")
    sentence = "running on the CPU at 320x320: the fp32 engine that TensorRT built of toy.onnx is w"
    for is_built in (False, True):
        seen = start(max_latency=1.0, governor_sizes=[288])

        def settled(seen: SimpleNamespace = seen) -> bool:
            status = seen.diagnostics[-1].status[0]
            return facts(seen)["backend"] == "tensorrt" and status.message.startswith(sentence)

        publish_until(client, seen, settled)
        assert seen.diagnostics[-1].status[0].level == DiagnosticStatus.WARN
        assert facts(seen)["governor_sizes"] == "320 288"
        assert builds(seen) == (not is_built)
        assert sentence in seen.process.output()
        seen.results.clear()
        publish_until(client, seen, lambda seen=seen: len(seen.results) > 3)
        for result in seen.results:
            (detection,) = [d for d in result.detections if d.results[0].hypothesis.score > 0.9]
            assert detection.bbox.center.position.x == pytest.approx(72, abs=0.1)
        seen.process.stop()


def test_a_precision_that_was_not_reached_is_a_warning(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_ENGINE_PRECISION", "fp32")
    seen = start(precision="fp16")
    publish_until(
        client, seen, lambda: "fp16 was requested, but" in seen.diagnostics[-1].status[0].message
    )
    assert facts(seen)["precision"] == "fp32"


@pytest.fixture
def building(client: Client, start: Start, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A node whose engine takes a quarter of an hour to build."""
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_SECONDS", "900")
    seen = start(input_size="square")
    client.wait_for(lambda: facts(seen)["engine_build"].startswith("building"))
    return seen


def test_the_build_waits_for_the_image_that_the_engine_is_to_fit(
    client: Client, start: Start, tmp_path: Path
) -> None:
    seen = start(input_size=416)
    client.wait_for(lambda: "engine_build" in facts(seen))
    client.spin(0.5)
    assert facts(seen)["engine_build"].startswith("begins with the first image")
    assert facts(seen)["backend"] == "onnxruntime"

    def publish() -> None:
        stamp = client.node.get_clock().now().to_msg()
        seen.camera.publish(image_message(np.zeros((720, 1280, 3), np.uint8), stamp))

    def on_gpu() -> bool:
        publish()
        client.spin(0.1)
        return facts(seen)["backend"] == "tensorrt"

    client.wait_for(on_gpu)
    assert facts(seen)["input_size"] == "416x256"
    (engine,) = (tmp_path / "engines").glob("*.engine")
    assert engine.name.startswith("toy-416x256-")


def test_stopping_ends_the_build_with_the_node(
    building: SimpleNamespace,
) -> None:
    assert building.process.stop() == 0  # it does not wait for the build


def test_ctrl_c_in_a_terminal_is_no_failed_build(client: Client, building: SimpleNamespace) -> None:
    node = building.process.process.pid
    for child in children(node):  # a terminal sends it to its whole process group
        if os.getpgid(child) == os.getpgid(node):
            os.kill(child, signal.SIGINT)
    client.spin(0.5)
    assert building.process.stop() == 0
    assert "could not be built" not in building.process.output()


def test_a_killed_build_is_reported(client: Client, building: SimpleNamespace) -> None:
    (build,) = children(building.process.process.pid)
    os.kill(build, signal.SIGKILL)
    client.wait_for(lambda: facts(building)["engine_build"] == "failed")
    sentence = "could not be built: its process was ended by signal 9 (Killed), as Linux does when"
    assert sentence in building.process.output()


def test_the_cpu_takes_over_when_the_gpu_is_lost(
    client: Client, start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the backend says then, with each version of TensorRT, is in test_tensorrt."""
    lost = tmp_path / "lost"
    monkeypatch.setenv("CUDA_DOUBLE_LOST", str(lost))
    seen = start(max_latency=10, governor_sizes=[288])
    publish_until(client, seen, lambda: facts(seen)["backend"] == "tensorrt")
    assert facts(seen)["governor_sizes"] == "320 288"
    lost.touch()
    publish_until(client, seen, lambda: facts(seen)["backend"] == "onnxruntime")
    before = len(seen.results)
    publish_until(client, seen, lambda: len(seen.results) > before + 3)
    sentence = "the CPU took over from tensorrt on DOUBLE of a GPU: the GPU failed: "
    values = facts(seen)
    assert values["backend_choice"].startswith(sentence)
    assert values["backend_fallbacks"] == "1"
    assert values["governor_sizes"] == "320 288"
    assert int(values["errors (backend)"]) >= 1
    assert seen.process.output().count(sentence) == 1

    def warned() -> bool:
        status = seen.diagnostics[-1].status[0]
        return status.level == DiagnosticStatus.WARN and status.message.startswith(sentence)

    publish_until(client, seen, warned)  # once the failures have left the window
    for result in seen.results:
        (detection,) = [d for d in result.detections if d.results[0].hypothesis.score > 0.9]
        assert detection.bbox.center.position.x == pytest.approx(72, abs=0.1)
