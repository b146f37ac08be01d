# SPDX-License-Identifier: Apache-2.0
"""How a built engine behaves: threads, batches, memory, and failures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gpu_builds import Builds
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Backend, BackendError, MissingEngine, Opened, RunOptions
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.machine.memory import resident_bytes
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images

ROOT = Path(__file__).resolve().parents[2]
BATCH = 8
RUNS = 2000
"""Images in a test of memory."""
Open = Callable[..., Backend]


def count(images: int, on_gpu: SimpleNamespace) -> int:
    """How many images a test runs: a double, which computes on the CPU, needs few."""
    return images // 100 if is_double(on_gpu.device) else images


def test_it_is_opened_run_and_closed_in_three_threads(options: RunOptions) -> None:
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        opened = first.submit(open_tensorrt, find_model(options.model), options).result()
        assert isinstance(opened, Opened)
        _, scores, _ = second.submit(opened.backend.run).result()
        assert np.isfinite(scores).all()
    with ThreadPoolExecutor(1) as third:
        third.submit(opened.backend.close).result()


@pytest.mark.parametrize("images", [1, 2, 3, 4, 8])
def test_an_image_is_answered_alike_in_every_batch(images: int, open_engine: Open) -> None:
    backend = open_engine(batch=BATCH)
    picture = sample_images()[0]
    for place in backend.input:
        Letterbox(place, backend.card.resize)(picture, "bgr")
    boxes, scores, labels = (part.copy() for part in backend.run(images))
    for place in range(1, images):
        np.testing.assert_allclose(scores[place], scores[0], atol=0.01)
        sure = scores[0] > 0.3
        np.testing.assert_allclose(boxes[place][sure], boxes[0][sure], atol=0.5)
        np.testing.assert_array_equal(labels[place][sure], labels[0][sure])


def test_memory_does_not_grow(
    open_engine: Open, on_gpu: SimpleNamespace, report: GpuReport, builds: Builds
) -> None:
    backend = open_engine()
    runs = count(RUNS, on_gpu)
    with builds.paused():  # they have memory of the GPU too
        for _ in range(runs // 10):
            backend.run()
        device, host = on_gpu.device.memory_in_use(), resident_bytes()
        for _ in range(runs):
            backend.run()
        grown = on_gpu.device.memory_in_use() - device, resident_bytes() - host
    report.add("Memory", runs=runs, **{"GPU bytes": grown[0], "host bytes": grown[1]})
    assert grown[0] <= 16 * 2**20 and grown[1] <= 8 * 2**20


def test_opening_and_closing_gives_the_memory_back(
    open_engine: Open, options: RunOptions, on_gpu: SimpleNamespace, builds: Builds
) -> None:
    open_engine()  # whatever TensorRT keeps for the whole process
    with builds.paused():
        before = on_gpu.device.memory_in_use()
        for _ in range(10):
            opened = open_tensorrt(find_model(options.model), options, build=False)
            assert isinstance(opened, Opened)
            opened.backend.close()
        grown = on_gpu.device.memory_in_use() - before
    assert grown <= 16 * 2**20


@pytest.mark.parametrize("damage", ["a flipped byte", "a torn file", "of another model"])
def test_an_engine_that_cannot_be_trusted_is_built_again(
    damage: str, options: RunOptions, on_gpu: SimpleNamespace, tmp_path: Path
) -> None:
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o700)
    (kept,) = [
        path
        for path in Path(on_gpu.engines).glob("yolo_ret_m075-*.engine")
        if f"{options.sizes[0]}-b1-fp16" in path.name
    ][:1]
    content = bytearray(kept.read_bytes())
    if damage == "a flipped byte":
        content[len(content) // 2] ^= 1
    elif damage == "a torn file":
        del content[-100:]
    else:
        content = content.replace(b'"yolo_ret_m075"', b'"yolo_ret_m074"', 1)
    (folder / kept.name).write_bytes(bytes(content))
    changed = options.change(engine_cache=str(folder))
    missing = open_tensorrt(find_model(options.model), changed, build=False)
    assert isinstance(missing, MissingEngine)


def test_too_little_memory_is_one_sentence_and_passes(
    open_engine: Open,
    options: RunOptions,
    on_gpu: SimpleNamespace,
    report: GpuReport,
    builds: Builds,
) -> None:
    if is_double(on_gpu.device):
        pytest.skip("a double has no memory to fill")
    open_engine(batch=BATCH).close()
    with builds.paused(), memory_full(on_gpu.device):
        said = answer(options.change(batch=BATCH))
    report.add("Memory full", said=said)
    assert np.isfinite(open_engine(batch=BATCH).run()[1]).all()


@contextmanager
def memory_full(device: Gpu) -> Iterator[None]:
    """Take what is free of the GPU's memory, but for less than a megabyte."""
    driver, taken = device.driver, []
    with device.current():
        if driver.Device(0).get_attribute(driver.device_attribute.INTEGRATED):
            pytest.skip("this GPU shares the machine's memory")
        step = 2**30
        while step >= 2**20:
            try:
                taken.append(driver.mem_alloc(step))
            except driver.MemoryError:
                step //= 2
    try:
        yield
    finally:
        with device.current():
            taken.clear()


def answer(options: RunOptions) -> str:
    """Why an engine that is there cannot be opened."""
    try:
        found = open_tensorrt(find_model(options.model), options, build=False)
    except BackendError as error:
        return str(error)
    assert isinstance(found, MissingEngine), "it was opened without memory"
    return found.reason


LOST = '''
import sys
from compact_yolo_ros.backends import BackendLost, RunOptions, open_backend
from compact_yolo_ros.backends.tensorrt.cuda import gpu

model, engines = sys.argv[1:]
options = RunOptions(model, backend="tensorrt", precision="fp16", engine_cache=engines)
backend = open_backend(options).backend
backend.run()
target = min(75, int(gpu().compute_capability.replace(".", "")))  # the oldest of CUDA 13
kernel = f"""
.version 6.3
.target sm_{target}
.address_size 64
.visible .entry crash() {{ trap; ret; }}
""".encode()
with gpu().current():
    gpu().driver.module_from_buffer(kernel).get_function("crash")(block=(1, 1, 1))
try:
    backend.run()
except BackendLost as error:
    print("lost:", error)
backend.close()
on_cpu = options.change(backend="onnxruntime", precision="auto")
print("CPU:", open_backend(on_cpu).backend.run()[1].shape)
'''


def test_a_lost_context_is_told_and_the_cpu_can_take_over(
    options: RunOptions, open_engine: Open, on_gpu: SimpleNamespace
) -> None:
    """In a process of its own, because nothing on the GPU works in it afterwards."""
    if is_double(on_gpu.device):
        pytest.skip("a double runs no kernels")
    open_engine().close()
    command = [sys.executable, "-c", LOST, options.model, on_gpu.engines]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "lost: the GPU failed" in ended.stdout, ended.stderr
    assert "CPU: (1," in ended.stdout
