# SPDX-License-Identifier: Apache-2.0
"""Backends: which of them run a model here, and which one the node would choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from compact_yolo_ros.apps.doctor.devices import gpu_devices
from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.backends import BackendError, MissingEngine, RunOptions, open_if_built
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.remembered import recall
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.wording import counted

BUILD = "nothing: the node builds it while the CPU answers; or run build_engine ahead of time"


def usable(around: Surroundings, info: BackendInfo, model: str) -> Iterator[Finding]:
    """Open one backend and run the model once.

    Raises:
        ModelError: the model, a name or a path, cannot be used.
    """
    try:
        opened = open_if_built(RunOptions(model, backend=info.name))
        if isinstance(opened, MissingEngine):
            yield note(info.name, opened.reason, BUILD)
            return
        backend = opened.backend
        backend.run()
    except BackendError as error:
        if _is_needed(info, around):
            yield problem(info.name, error.reason, error.remedy or "see docs/runtimes.md")
        else:
            yield ok(info.name, f"not usable here, and not needed: {error.reason}")
    else:
        yield ok(
            info.name,
            f"runs {backend.card.name} in {backend.precision} on {backend.device}, "
            f"{counted(backend.threads, 'thread')}",
        )
        backend.close()


def _is_needed(info: BackendInfo, around: Surroundings) -> bool:
    """Whether ``auto`` would choose it on this hardware."""
    return info.automatic and (info.runs_on == "CPU" or bool(gpu_devices(around)))


def choice(around: Surroundings, model: str) -> Iterator[Finding]:
    """Report what ``backend: auto`` chooses here, and why.

    Raises:
        ModelError: the model, a name or a path, cannot be used.
    """
    try:
        opened = open_if_built(RunOptions(model))
    except BackendError as error:
        yield problem("auto", error.reason, error.remedy or "see the lines above")
        return
    if isinstance(opened, MissingEngine):
        yield ok("auto", f"the GPU, as soon as its engine is built: {opened.reason}")
        return
    backend = opened.backend
    found = f"{backend.name} on {backend.device}: {opened.choice}"
    if opened.warning:
        yield problem("auto", f"{found}; {opened.warning}", "see the lines above")
    else:
        yield ok("auto", found, backend=backend.name)
    backend.close()


def timings(around: Surroundings, model: str) -> Iterator[Finding]:
    """Report what a node has timed on this machine, at the size that the model is made for.

    Raises:
        ModelError: the model, a name or a path, cannot be used.
    """
    file = find_model(model)
    timed = recall(file, RunOptions(model).resolved(file.card))
    if timed.problem:
        yield note("timings", timed.problem, "nothing: a node times again, and replaces the file")
    elif not timed.timings:
        yield ok("timings", "none yet: the first start of a node with backend auto times, once")
    else:
        yield ok("timings", str(timed), timings=[asdict(timing) for timing in timed.timings])
