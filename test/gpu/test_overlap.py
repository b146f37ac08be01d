# SPDX-License-Identifier: Apache-2.0
"""What saves time between the layers: CUDA graphs, memory that is not copied, runs that overlap.

Each is compared with the same engine without it, in turns; the answers must be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from threading import Event
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gpu_builds import Builds
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.backends.tensorrt import run as run_module
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images

if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)

MODEL = "yolo_ret_m075"
BATCH = 8
ROUNDS = 10
RUNS = 60
"""Runs of a round in which two ways are timed in turns; a double, which computes, does one."""
Open = Callable[..., Backend]


def show(backend: Backend, pixels: np.ndarray) -> None:
    """Put sample pictures into all places of an input."""
    pictures = sample_images()
    for number, place in enumerate(pixels):
        Letterbox(place, backend.card.resize)(pictures[number % len(pictures)], "bgr")


def assert_same(backend: Backend, other: Backend, images: int) -> None:
    for one in (backend, other):
        show(one, one.input)
    for found, expected in zip(backend.run(images), other.run(images), strict=True):
        np.testing.assert_array_equal(found, expected)


def in_turns(on_gpu: SimpleNamespace, *ways: Callable[[], object]) -> list[float]:
    """Median seconds of a call of each."""
    rounds, runs = (2, 1) if is_double(on_gpu.device) else (ROUNDS, RUNS)
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, taken in zip(ways, seconds, strict=True):
            for _ in range(runs):
                began = perf_counter()
                way()
                taken.append(perf_counter() - began)
    return [float(np.median(taken)) for taken in seconds]


@pytest.mark.parametrize(("batch", "images"), [(1, 1), (BATCH, 4), (BATCH, BATCH)])
def test_a_graph_answers_like_queued_layers(
    batch: int,
    images: int,
    open_engine: Open,
    on_gpu: SimpleNamespace,
    report: GpuReport,
    builds: Builds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = open_engine(batch=batch)

    def fail(driver: Any) -> None:
        raise driver.Error("left out for comparison")

    with monkeypatch.context() as without:
        without.setattr(run_module, "DriverLibrary", fail)
        queued = open_engine(batch=batch)
    assert graph.details["cuda_graph"] == "yes", graph.details
    assert queued.details["cuda_graph"] == "no: left out for comparison"
    assert_same(graph, queued, images)
    with builds.paused():
        with_graph, without_graph = in_turns(
            on_gpu, lambda: graph.run(images), lambda: queued.run(images)
        )
    report.add(
        "CUDA graph",
        model=MODEL,
        images=images,
        **{"call us": 1e6 * with_graph, "without us": 1e6 * without_graph},
        ratio=with_graph / without_graph,
        **{f"{part} us": 1e6 * value for part, value in graph.device_times.items()},
    )


def test_a_graph_is_captured_while_another_thread_uses_the_gpu(open_engine: Open) -> None:
    """As when the node changes to another size between two images."""
    busy, ended = open_engine(), Event()

    def run() -> int:
        runs = 0
        while not ended.is_set():
            busy.run()
            runs += 1
        return runs

    with ThreadPoolExecutor(1) as other:
        running = other.submit(run)
        try:
            opened = [open_engine() for _ in range(3)]
        finally:
            ended.set()
        assert running.result() > 0
    for backend in opened:
        assert backend.details["cuda_graph"] == "yes", backend.details
        assert_same(backend, busy, 1)


def test_memory_that_is_shared_answers_like_copies(
    open_engine: Open,
    on_gpu: SimpleNamespace,
    report: GpuReport,
    builds: Builds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not on_gpu.device.maps_memory:
        pytest.skip("this GPU has memory of its own")
    shared = open_engine(batch=BATCH)
    with monkeypatch.context() as apart:
        apart.setattr(on_gpu.device, "maps_memory", False)
        copied = open_engine(batch=BATCH)
    assert (shared.details["gpu_memory"], copied.details["gpu_memory"]) == (
        "shared with the CPU",
        "of its own",
    )
    for images in (1, BATCH):
        assert_same(shared, copied, images)
        with builds.paused():
            mapped, with_copies = in_turns(
                on_gpu, lambda n=images: shared.run(n), lambda n=images: copied.run(n)
            )
        report.add(
            "Shared memory",
            images=images,
            **{"call us": 1e6 * mapped, "with copies us": 1e6 * with_copies},
            ratio=mapped / with_copies,
        )


@pytest.mark.parametrize("images", [1, BATCH])
def test_runs_overlap_and_answer_alike(
    images: int, open_engine: Open, on_gpu: SimpleNamespace, report: GpuReport, builds: Builds
) -> None:
    alone, overlapping = open_engine(batch=BATCH), open_engine(batch=BATCH, in_flight=2)
    show(alone, alone.input)
    pixels = alone.input.copy()
    expected = [part.copy() for part in alone.run(images)]
    runs = 2 if is_double(on_gpu.device) else RUNS

    def one_after_the_other() -> None:
        for _ in range(runs):
            alone.input[:images] = pixels[:images]
            alone.run(images)

    def at_once() -> list[Any]:
        answers: Any = None
        for number in range(runs + 1):
            if number < runs:
                overlapping.input[:images] = pixels[:images]
                overlapping.start(images)
            if number:
                answers = overlapping.finish()
        return list(answers)

    for found, right in zip(at_once(), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    with builds.paused():
        waiting, overlapped = in_turns(on_gpu, one_after_the_other, at_once)
    report.add(
        "Two runs under way",
        images=images,
        **{
            "images/s": images * runs / overlapped,
            "one after the other images/s": images * runs / waiting,
        },
        ratio=waiting / overlapped,
    )
