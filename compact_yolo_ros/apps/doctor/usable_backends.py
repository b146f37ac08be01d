# SPDX-License-Identifier: Apache-2.0
"""Backends: which of them run a model here, and which one the node would choose."""

from __future__ import annotations

from collections.abc import Iterator

from compact_yolo_ros.apps.doctor.devices import gpu_devices
from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends import (
    BACKENDS,
    BackendError,
    MissingEngine,
    RunOptions,
    open_if_built,
)

BUILD = "nothing: the node builds it while the CPU answers; or run build_engine ahead of time"


def usable(around: Surroundings, name: str, model_name: str) -> Iterator[Finding]:
    """Open one backend and run the model once; raises ModelError."""
    try:
        opened = open_if_built(RunOptions(model_name, backend=name))
        if isinstance(opened, MissingEngine):
            yield note(name, opened.reason, BUILD)
            return
        backend = opened.backend
        backend.run()
    except BackendError as error:
        info = BACKENDS[name]
        if info.automatic and info.runs_on == "CPU":
            yield problem(name, error.reason, error.remedy or f"reinstall {info.title}")
        elif info.runs_on == "GPU" and gpu_devices(around):
            yield problem(name, error.reason, error.remedy or "see docs/runtimes.md")
        else:
            yield ok(name, f"not usable here, and not needed: {error.reason}")
    else:
        yield ok(
            name,
            f"runs {backend.card.name} in {backend.precision} on {backend.device}, "
            f"{backend.threads} threads",
        )
        backend.close()


def choice(around: Surroundings, model_name: str) -> Iterator[Finding]:
    """What ``backend: auto`` takes here, and why; raises ModelError."""
    try:
        opened = open_if_built(RunOptions(model_name))
    except BackendError as error:
        yield problem("auto", error.reason, error.remedy or "see the lines above")
        return
    if isinstance(opened, MissingEngine):
        yield ok("auto", f"tensorrt, as soon as its engine is built: {opened.reason}")
        return
    backend = opened.backend
    found = f"{backend.name} on {backend.device}: {opened.choice}"
    if opened.warning:
        yield problem("auto", f"{found}; {opened.warning}", "see the lines above")
    else:
        yield ok("auto", found, backend=backend.name)
    backend.close()
