# SPDX-License-Identifier: Apache-2.0
"""Prove TensorRT on a machine: build engines, compare them with ONNX Runtime, and measure them.

Engines are built in a temporary folder, so that the build itself is proved, and move to the user's
cache only if their outputs are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, track
from rich.text import Text

from compact_yolo_ros.apps.doctor.probe import Finding, Level, Surroundings, note, ok, problem
from compact_yolo_ros.backends import (
    Backend,
    BackendError,
    MissingEngine,
    Opened,
    RunOptions,
    open_backend,
)
from compact_yolo_ros.backends.agreement import LOWEST_SCORE, TOLERANCES
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, engine_key
from compact_yolo_ros.backends.tensorrt.cuda import Gpu, gpu
from compact_yolo_ros.backends.tensorrt.library import dla_cores, library
from compact_yolo_ros.backends.tensorrt.plan import BuildProgress
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.machine.memory import resident_bytes
from compact_yolo_ros.machine.power import PowerMonitor, find_power_source
from compact_yolo_ros.model.store import ModelFile, find_model
from compact_yolo_ros.support.wording import counted

NEEDED = (
    "an NVIDIA GPU or Jetson with its driver, TensorRT 8.5 to 11 and pycuda in this Python, and "
    "the package onnx for FP16"
)
FRAMES, WARM_UP = 1000, 100
"""Images that are timed, and images that run before them."""
GPU_GROWTH, GROWTH = 64 * 2**20, 16 * 2**20
"""Bytes by which the memory in use may grow over ``FRAMES`` images: the GPU's, which other programs
use too, and the process's."""
REPORT = "attach this report to an issue"
CONSOLE = partial(Console, stderr=True)


@dataclass(frozen=True)
class Engine:
    """An engine to prove: a model in a precision, on the GPU (-1) or on a DLA core."""

    model: ModelFile
    precision: str
    dla_core: int = -1

    @property
    def name(self) -> str:
        """What the report calls it."""
        return self.precision if self.dla_core < 0 else f"{self.precision} on DLA {self.dla_core}"


def proof(around: Surroundings, model_name: str, folder: Path) -> Iterator[Finding]:
    """Prove every precision of a model, then give the verdict.

    Engines are built in ``folder``, which whoever starts this process removes.

    Raises:
        ModelError: the model cannot be used.
    """
    model = find_model(model_name)
    try:
        trt, device = library(), gpu()
        cores = dla_cores(trt, device)
    except BackendError as error:
        yield problem("not proved", error.reason, error.remedy or "see docs/runtimes.md")
        yield note("needed", NEEDED, "run this command on a machine that has them")
        return
    yield ok(
        "GPU",
        f"{device.name}, compute capability {device.compute_capability}, TensorRT "
        f"{trt.__version__}, pycuda of CUDA {device.cuda}, {cores} DLA cores",
    )
    levels = []
    for engine in engines(model, cores):
        for finding in _prove(engine, around, folder, trt, device):
            levels.append(finding.level)
            yield finding
    if Level.PROBLEM in levels:
        yield problem("not proved", "at least one check failed, see above", REPORT)
    else:
        yield ok("proved", f"TensorRT works on this machine: {REPORT}, it helps others")


def engines(model: ModelFile, cores: int) -> list[Engine]:
    """List the engines that a model, and its INT8 file in the same folder, can become."""
    held = model.card.precision
    found = [Engine(model, name) for name in (("fp32", "fp16") if held == "fp32" else (held,))]
    quantised = model.path.with_name(f"{model.path.stem}_int8.onnx")
    if quantised.is_file():
        found.append(Engine(find_model(str(quantised)), "int8"))
    if cores and held == "fp32":
        found.append(Engine(model, "fp16", dla_core=0))
    return found


def _prove(
    engine: Engine, around: Surroundings, place: Path, trt: Any, device: Gpu
) -> Iterator[Finding]:
    """Run all checks of one engine; an error is a problem and ends them."""
    name = engine.name
    with TemporaryDirectory(dir=place) as folder:
        options = RunOptions(
            str(engine.model.path),
            backend="tensorrt",
            precision=engine.precision,
            dla_core=engine.dla_core,
            engine_cache=folder,
        ).resolved(engine.model.card)
        try:
            began = perf_counter()
            opened = _build(engine.model, options, name)
            backend = opened.backend
            seconds = perf_counter() - began
            yield ok(f"{name} build", f"{seconds:.0f} s at {options.sizes[0]}")
            yield _precision(name, opened)
            yield _launch(name, backend)
            agrees = _compared(engine, backend)
            yield agrees
            yield from _measured(name, backend, device, around)
            backend.close()
            yield _found_again(name, engine.model, options)
            if agrees.level is Level.OK:
                yield _kept(name, engine.model, options, trt, device)
        except (BackendError, device.driver.Error) as error:
            remedy = getattr(error, "remedy", "") or REPORT
            yield problem(name, getattr(error, "reason", str(error)), remedy)


class _Share(ProgressColumn):
    """The progress of a build, in percent where TensorRT reports it."""

    def __init__(self, progress: BuildProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        fraction = self._progress.fraction
        share = "" if fraction is None else f"{fraction:.0%}, "
        return Text(f"{share}{task.elapsed or 0:.0f} s")


def _build(model: ModelFile, options: RunOptions, name: str) -> Opened:
    progress = BuildProgress()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), _Share(progress))
    with Progress(*columns, console=CONSOLE(), transient=True) as bar:
        bar.add_task(f"building the {name} engine")
        opened = open_tensorrt(model, options, progress=progress)
    assert isinstance(opened, Opened)  # open_tensorrt builds a missing engine
    return opened


def _precision(name: str, opened: Opened) -> Finding:
    found = f"the engine computes in {opened.backend.precision}"
    if opened.warning:
        return problem(f"{name} precision", f"{found}: {opened.warning}", REPORT)
    return ok(f"{name} precision", found)


def _launch(name: str, backend: Backend) -> Finding:
    """How a run begins, and whether its tensors are copied."""
    graph, memory = backend.details["cuda_graph"], backend.details["gpu_memory"]
    if graph == "yes":
        return ok(f"{name} CUDA graph", f"captured; the GPU's memory is {memory}")
    return note(f"{name} CUDA graph", f"none, so a run takes longer: {graph}", REPORT)


def _compared(engine: Engine, backend: Backend) -> Finding:
    """Compare the engine's outputs with ONNX Runtime's on the CPU."""
    tolerance = TOLERANCES[engine.precision]
    reference = open_backend(RunOptions(str(engine.model.path), backend="onnxruntime")).backend
    total = compare_on_samples(backend, reference, tolerance)
    pixels = tolerance.at(engine.model.card.own_size).pixels
    found = (
        f"{total.agreeing} of {total.compared} candidates above {LOWEST_SCORE} within "
        f"{pixels:g} pixels and {tolerance.score} of score of ONNX Runtime "
        f"{reference.precision} (largest differences {total.pixels:.3f} and {total.score:.4f}), "
        f"which takes {1e3 * _seconds(reference):.1f} ms on {counted(reference.threads, 'thread')}"
    )
    reference.close()
    if total.suffices(tolerance):
        return ok(f"{engine.name} outputs", found)
    return problem(f"{engine.name} outputs", found, REPORT)


def _seconds(backend: Backend, runs: int = 9) -> float:
    """The median time of a run."""
    seconds = []
    for _ in range(runs):
        began = perf_counter()
        backend.run()
        seconds.append(perf_counter() - began)
    return float(np.median(seconds))


def _measured(name: str, backend: Backend, device: Gpu, around: Surroundings) -> Iterator[Finding]:
    """Measure time, memory and power of many images, one after the other."""
    for _ in range(WARM_UP):
        backend.run()
    monitor = PowerMonitor(partial(find_power_source, around.root, on_gpu=True))
    parts: dict[str, list[float]] = {"total": [], **{part: [] for part in backend.device_times}}
    gpu_before, own_before = device.memory_in_use(), resident_bytes()
    began = perf_counter()
    for _ in track(
        range(FRAMES), escape(f"{name}: {FRAMES} images"), console=CONSOLE(), transient=True
    ):
        started = perf_counter()
        backend.run()
        parts["total"].append(perf_counter() - started)
        for part, seconds in backend.device_times.items():
            parts[part].append(seconds)
    rate = FRAMES / (perf_counter() - began)
    grown, own = device.memory_in_use() - gpu_before, resident_bytes() - own_before
    power = monitor.summary()
    monitor.close()
    yield ok(
        f"{name} time",
        "ms p50 / p95 / p99: "
        + ", ".join(f"{part} {_percentiles(seconds)}" for part, seconds in parts.items()),
        images_per_second=rate,
    )
    memory = (
        f"over {FRAMES} images the memory in use grew by {grown / 2**20:.1f} MiB on the GPU and by "
        f"{own / 2**20:.1f} MiB in the process"
    )
    if grown > GPU_GROWTH or own > GROWTH:
        yield problem(
            f"{name} memory", memory, f"close other programs and try again; else {REPORT}"
        )
    else:
        yield ok(f"{name} memory", memory)
    if power.watts is None:
        yield note(f"{name} power", f"unknown: {power.problem}", "see the section on power")
    else:
        yield ok(
            f"{name} power",
            f"{power.watts:.2f} W by {power.source}, {power.watts / rate:.4f} J an image, mode "
            f"{power.mode or 'unknown'}, throttling: {power.throttling or 'none'}",
        )


def _found_again(name: str, model: ModelFile, options: RunOptions) -> Finding:
    """Open the engine a second time, which must not build it again."""
    began = perf_counter()
    opened = open_tensorrt(model, options, build=False)
    if isinstance(opened, MissingEngine):
        return problem(f"{name} cache", f"the engine is not found again: {opened.reason}", REPORT)
    opened.backend.close()
    return ok(f"{name} cache", f"found again, opened in {perf_counter() - began:.2f} s")


def _kept(name: str, model: ModelFile, options: RunOptions, trt: Any, device: Gpu) -> Finding:
    """Move the engine to the node's cache."""
    key = engine_key(model, options, trt, device)
    plan = EngineCache(options.engine_cache).load(key)
    try:
        if plan is None:
            raise OSError("it has vanished")
        return ok(f"{name} kept", f"for the node: {EngineCache().store(key, plan)}")
    except OSError as error:
        return note(f"{name} kept", f"the node cannot have it: {error}", "see permissions above")


def _percentiles(seconds: list[float]) -> str:
    values: NDArray[np.float64] = 1e3 * np.percentile(seconds, (50, 95, 99))
    return " / ".join(f"{ms:.2f}" for ms in values)
