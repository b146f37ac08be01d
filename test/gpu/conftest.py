# SPDX-License-Identifier: Apache-2.0
"""The GPU that the tests run on, their budget of time and their order, and what they report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gpu_builds import Builds, Case
from gpu_meter import Meter, targets
from gpu_report import GpuReport, describe, is_double

from compact_yolo_ros.backends import Backend, BackendError, Opened, RunOptions
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, engine_key
from compact_yolo_ros.backends.tensorrt.cuda import gpu
from compact_yolo_ros.backends.tensorrt.library import library
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.model.store import find_model


def usual_seconds() -> float:
    """Four minutes; TensorRT 8.5 needs as long for its first engine alone (docs/gpu.md)."""
    try:
        version: str = library().__version__
    except BackendError:
        version = ""
    return 1800.0 if version.startswith("8.5") else 240.0


SECONDS = float(os.environ.get("COMPACT_YOLO_GPU_SECONDS") or usual_seconds())
"""No test begins later than this after the first, and no engine is built for longer."""
RESERVE = 0.1
"""Share of them that is kept for what comes after the builds."""
BUILDS = 2
"""Engines that are built at a time: more wait for each other's kernels on the GPU. Thirteen at once
took more than five times as long as alone, on an H200."""
ENGINES = os.environ.get("COMPACT_YOLO_GPU_ENGINES", "")
"""Folder in which the engines stay for the next time; by default they are built anew."""
BEHAVIOUR = 2
"""Rank of the tests that do not say theirs."""
SPEED = "Speed"
FOLDER = os.environ.get("COMPACT_YOLO_GPU_REPORT", "")
REPORT = Path(FOLDER) if FOLDER else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """By the parameter ``rank``, the most important first, in case time runs out."""
    if config.pluginmanager.hasplugin("timeout"):  # a test waits for engines that take minutes
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout(0))

    def rank(item: pytest.Item) -> int:
        parameters = getattr(item, "callspec", SimpleNamespace(params={})).params
        return int(parameters.get("rank", BEHAVIOUR))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """TensorRT, the device, and a folder in which the tests share their engines."""
    try:
        trt, device = library(), gpu()
    except BackendError as error:
        pytest.skip(f"there is no GPU to test on: {error.reason}")
    engines = Path(ENGINES) if ENGINES else tmp_path_factory.mktemp("engines")
    engines.mkdir(parents=True, exist_ok=True)
    engines.chmod(0o700)
    return SimpleNamespace(trt=trt, device=device, engines=str(engines), began=time.monotonic())


USUAL = Case(DEFAULT_MODEL, "fp16", find_model(DEFAULT_MODEL).card.own_size)
"""The engine of most tests, for one image; those of several have one for ``BATCH``."""
BATCH = 8


def engines_of(item: pytest.Item) -> list[Case]:
    """What a test needs."""
    case = getattr(item, "callspec", SimpleNamespace(params={})).params.get("case")
    batches = getattr(item.module, "BATCHES", {})  # type: ignore[attr-defined]
    if case is None:
        return [USUAL, replace(USUAL, batch=BATCH)]
    return [replace(case, batch=largest) for largest in batches] or [case]


@pytest.fixture
def options(on_gpu: SimpleNamespace, builds: Builds) -> RunOptions:
    builds.finish(USUAL)
    return USUAL.options(on_gpu.engines)


@pytest.fixture
def open_engine(options: RunOptions, builds: Builds) -> Iterator[Callable[..., Backend]]:
    """Open the default model's engine."""
    opened: list[Backend] = []

    def begin(**changes: Any) -> Backend:
        builds.finish(replace(USUAL, batch=changes.get("batch", 1)))
        found = open_tensorrt(find_model(options.model), options.change(**changes), build=False)
        if not isinstance(found, Opened):
            pytest.skip(f"not reached: {found.reason}")
        opened.append(found.backend)
        return found.backend

    yield begin
    for backend in opened:
        backend.close()


@pytest.fixture(scope="session")
def report(on_gpu: SimpleNamespace, meter: Meter, builds: Builds) -> Iterator[GpuReport]:
    """What the tests find, for people who were not there."""
    facts = describe(on_gpu.trt, on_gpu.device) | meter.facts()
    facts["engines built at a time"] = str(builds.at_a_time)
    report = GpuReport(REPORT, facts)
    yield report
    for row in targets(report.tables.get(SPEED, [])):
        report.add("Targets", **row)


@pytest.fixture(autouse=True)
def within_budget(on_gpu: SimpleNamespace, report: GpuReport, request: object) -> None:
    if time.monotonic() - on_gpu.began > SECONDS:
        report.add("Not reached", test=request.node.name)  # type: ignore[attr-defined]
        pytest.skip(f"not reached: COMPACT_YOLO_GPU_SECONDS ({SECONDS:.0f} s) are over")


@pytest.fixture(scope="session")
def meter() -> Meter:
    return Meter()


@pytest.fixture(scope="session")
def builds(on_gpu: SimpleNamespace, request: pytest.FixtureRequest) -> Iterator[Builds]:
    """Builds of the engines of all tests, in the order of the tests, from now on."""
    ends = on_gpu.began + (1 - RESERVE) * SECONDS
    given = os.environ.get("COMPACT_YOLO_GPU_BUILDS")
    at_a_time = int(given) if given else _builds_at_a_time(on_gpu)
    cache = EngineCache(on_gpu.engines)

    def is_built(case: Case) -> bool:
        key = engine_key(case.file, case.options(on_gpu.engines), on_gpu.trt, on_gpu.device)
        return cache.load(key) is not None

    log = REPORT / "builds.log" if REPORT else None
    if REPORT:
        REPORT.mkdir(parents=True, exist_ok=True)
    building = Builds(on_gpu.engines, at_a_time, lambda: ends - time.monotonic(), is_built, log)
    for item in request.session.items:
        building.begin(engines_of(item))
    yield building
    building.close()


def _builds_at_a_time(on_gpu: SimpleNamespace) -> int:
    cores = len(os.sched_getaffinity(0))
    if is_double(on_gpu.device):
        return cores
    driver = on_gpu.device.driver
    shared = driver.Device(0).get_attribute(driver.device_attribute.INTEGRATED)
    return 1 if shared else max(1, min(BUILDS, cores // 2))
