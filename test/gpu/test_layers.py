# SPDX-License-Identifier: Apache-2.0
"""Where the time of an engine goes, layer by layer: for people who look at the export."""

from __future__ import annotations

from collections import defaultdict
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
from gpu_builds import Builds, Case, timed_cases
from gpu_layers import Layer, layers_of, slowest_for_their_work, summary
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Opened
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, engine_key
from compact_yolo_ros.backends.tensorrt.library import logger
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt

if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)

RUNS = 50
"""Runs whose layers are timed."""
CASES = [case for case in timed_cases() if case.precision != "fp32"]


def rank_of(case: Case) -> int:
    return 3 if case.file.card.name == DEFAULT_MODEL else 6


@pytest.mark.parametrize(
    ("case", "rank"), [pytest.param(case, rank_of(case), id=str(case)) for case in CASES]
)
def test_where_the_time_goes(
    case: Case, rank: int, on_gpu: SimpleNamespace, report: GpuReport, builds: Builds
) -> None:
    options = case.options(on_gpu.engines)
    builds.finish(case)
    opened = open_tensorrt(case.file, options, build=False)
    if not isinstance(opened, Opened):
        report.add("Not reached", test=f"layers of {case}")
        pytest.skip(f"not reached: {opened.reason}")
    opened.backend.close()
    plan = EngineCache(on_gpu.engines).load(
        engine_key(case.file, options, on_gpu.trt, on_gpu.device)
    )
    assert plan is not None
    runs = 2 if is_double(on_gpu.device) else RUNS
    with builds.paused(), on_gpu.device.current():
        layers = profiled(plan, (1, *case.size.shape, 3), on_gpu.trt, on_gpu.device.driver, runs)
    name = case.file.card.name
    about = {"model": name, "precision": case.precision}
    report.add("Layers", **about, **summary(layers))
    for layer in slowest_for_their_work(layers):
        figures = {"us": 1e6 * layer.seconds, "GMAC/s": 1e-9 * layer.macs / layer.seconds}
        report.add("Slow for their operations", **about, layer=layer.name[:60], **figures)
    assert layers


def profiled(plan: bytes, shape: tuple[int, ...], trt: Any, driver: Any, runs: int) -> list[Layer]:
    """Run an engine by itself and time its layers; the context is current."""

    class Times(trt.IProfiler):  # type: ignore[misc]
        """Adds up what TensorRT reports."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: defaultdict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.seconds[layer_name] += 1e-3 * ms / runs

    runtime = trt.Runtime(logger(trt))
    engine = runtime.deserialize_cuda_engine(plan)
    execution, stream = engine.create_execution_context(), driver.Stream()
    assert execution.set_input_shape("images", shape)
    memory = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        memory.append(driver.mem_alloc(4 * trt.volume(execution.get_tensor_shape(name))))
        assert execution.set_tensor_address(name, int(memory[-1]))
    for _ in range(max(1, runs // 5)):
        assert execution.execute_async_v3(stream.handle)
    stream.synchronize()
    times = Times()
    execution.profiler = times
    for _ in range(runs):
        assert execution.execute_async_v3(stream.handle)
        stream.synchronize()
    inspector = engine.create_engine_inspector()
    inspector.execution_context = execution
    report = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return layers_of(report, times.seconds)
