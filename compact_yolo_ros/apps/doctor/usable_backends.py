# SPDX-License-Identifier: Apache-2.0
"""Backends: which of them run a model here, and which one the node would choose."""

from __future__ import annotations

from collections.abc import Iterator

from compact_yolo_ros.apps.doctor.devices import gpu_devices
from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends import BackendError, EngineMissing, open_backend
from compact_yolo_ros.model.store import find_model

BUILD = "nothing: the node builds it while the CPU answers; or run build_engine ahead of time"


def usable(around: Surroundings, name: str, model_name: str) -> Iterator[Finding]:
    """Open one backend and run the model once; raises ModelError."""
    model = find_model(model_name)
    try:
        backend = open_backend(model, backend=name, build=False)
        backend.run()
    except EngineMissing as missing:
        yield note(name, missing.reason, BUILD)
    except BackendError as error:
        if name == "onnxruntime":
            yield problem(name, error.reason, error.remedy or "reinstall ONNX Runtime")
        elif name == "tensorrt" and gpu_devices(around):
            yield problem(name, error.reason, error.remedy or "see docs/runtimes.md")
        else:
            yield ok(name, f"not usable here, and not needed: {error.reason}")
    else:
        yield ok(
            name,
            f"runs {model.card.name} in {backend.precision} on {backend.device}, "
            f"{backend.threads} threads",
        )
        backend.close()


def choice(around: Surroundings, model_name: str) -> Iterator[Finding]:
    """What ``backend: auto`` takes here, and why; raises ModelError."""
    try:
        backend = open_backend(find_model(model_name), build=False)
    except EngineMissing as missing:
        yield ok("auto", f"tensorrt, as soon as its engine is built: {missing.reason}")
        return
    except BackendError as error:
        yield problem("auto", error.reason, error.remedy or "see the lines above")
        return
    found = f"{backend.name} on {backend.device}: {backend.choice}"
    if backend.warning:
        yield problem("auto", f"{found}; {backend.warning}", "see the lines above")
    else:
        yield ok("auto", found, backend=backend.name)
    backend.close()
