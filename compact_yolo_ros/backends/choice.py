# SPDX-License-Identifier: Apache-2.0
"""The choice of a runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compact_yolo_ros.backends.backend import Backend, BackendError, MissingEngine, Opened
from compact_yolo_ros.backends.cpu import require_file_precision
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.options import RunOptions
from compact_yolo_ros.backends.registry import ALWAYS, AUTO, BACKENDS
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.remembered import Remembered

GPU_DEVICES = tuple(
    map(Path, ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu", "/dev/dxg"))
)
"""Where a GPU shows itself, whether or not its libraries work: desktop, Jetson, WSL."""


def open_backend(options: RunOptions) -> Opened:
    """Open a model; a TensorRT engine that is missing is built now, which takes minutes.

    Raises:
        ModelError: the model cannot be found, read or trusted.
        BackendError: the runtime is not installed, or refuses the model.
    """
    opened = _open(options, build=True)
    if isinstance(opened, MissingEngine):
        raise BackendError(opened.reason, "build_engine builds it")
    return opened


def open_if_built(options: RunOptions) -> Opened | MissingEngine:
    """Open a model, or say which engine is missing, at once.

    Raises:
        ModelError: the model cannot be found, read or trusted.
        BackendError: the runtime is not installed, or refuses the model.
    """
    return _open(options, build=False)


def open_at_start(options: RunOptions) -> Opened | MissingEngine:
    """Open what a node begins with, the soonest of the CPU; like ``open_if_built``.

    That is what always works, with the threads that were timed to be the fastest for it if it is
    the fastest, at the size that fitted the camera at the last start.

    Raises:
        ModelError: the model cannot be found, read or trusted.
        BackendError: the runtime is not installed, or refuses the model.
    """
    return _open(options, build=False, at_start=True)


def _open(options: RunOptions, build: bool, at_start: bool = False) -> Opened | MissingEngine:
    model = options.find_model()
    asked, may_be_timed = options.precision, options.are_for_timing
    options = options.resolved(model.card)
    if options.backend == AUTO:
        opened = _open_best(model, options, build, may_be_timed, at_start)
    else:
        opened = _open_with(BACKENDS[options.backend], model, options, build)
    if isinstance(opened, MissingEngine):
        return opened
    try:
        options.require_pinned(model)  # it may have been overwritten before it was read
    except ModelError:
        opened.backend.close()
        raise
    warning = opened.warning or _other_precision(opened.backend, asked)
    return replace(
        opened,
        choice=opened.choice or "as requested",
        warning=warning,
        inputs=options.input_sizes,
    )


def _other_precision(backend: Backend, asked: str) -> str:
    """What to say of a file that is run in a wider precision than its own; empty for others."""
    if asked in (AUTO, backend.precision):
        return ""
    return f"{asked} was requested, but {backend.name} computes in {backend.precision} here"


def _open_best(
    model: ModelFile, options: RunOptions, build: bool, may_be_timed: bool, at_start: bool
) -> Opened | MissingEngine:
    """The first backend that does what was requested, else the CPU with the file as it is."""
    failed: dict[str, BackendError] = {}
    for info in _in_turn(model, options):
        try:
            opened = _open_with(info, model, options, build)
        except BackendError as error:
            failed[info.title] = error
            continue
        if isinstance(opened, MissingEngine):
            return opened
        return Opened(opened.backend, "the fastest that works here", opened.warning)
    if may_be_timed:
        from compact_yolo_ros.backends.remembered import recall  # what is set needs it not

        timed = recall(model, options)
        if at_start and timed.timings:
            options = options.change(image_sizes=(Size.parse(timed.size),))
        fastest = _open_timed(model, options, failed, timed, at_start)
        if fastest is not None:
            return fastest
    return _fall_back(model, options, failed)


def _in_turn(model: ModelFile, options: RunOptions) -> list[BackendInfo]:
    """Those on a GPU, then those on the CPU that convert the file if need be."""
    wanted, held = options.precision, model.card.precision
    needed = wanted != held
    return [
        info
        for info in BACKENDS.values()
        if info.runs_on == "GPU" or (needed and wanted in info.precisions_of(held))
    ]


def _open_timed(
    model: ModelFile,
    options: RunOptions,
    failed: dict[str, BackendError],
    timed: Remembered,
    at_start: bool,
) -> Opened | None:
    """What was timed to be the fastest; None if nothing was, or it does not work any more."""
    way = timed.fastest
    if way is None or (at_start and way.backend != ALWAYS):  # others take longer to open
        return None
    info = BACKENDS[way.backend]
    options = options.change(precision=way.precision, threads=way.threads)
    try:
        opened = _open_with(info, model, options, build=False)
    except BackendError as error:
        failed[info.title] = error
        return None
    assert isinstance(opened, Opened)  # nothing is built for a CPU
    return Opened(opened.backend, str(timed), _missed_gpu(failed))


def _fall_back(
    model: ModelFile, options: RunOptions, failed: dict[str, BackendError]
) -> Opened | MissingEngine:
    """Run the file as it is, and say what differs from the options because of that."""
    info, held = BACKENDS[ALWAYS], model.card.precision
    opened = _open_with(info, model, options.change(precision=held, dla_core=-1), build=False)
    if isinstance(opened, MissingEngine):
        return opened
    reasons = "; ".join(f"no {title}: {error.reason}" for title, error in failed.items())
    warning = _missed_gpu(failed)
    if not warning and (options.precision != held or options.dla_core >= 0):
        why = "; ".join(error.reason for error in failed.values())
        runs = opened.backend.precision
        warning = f"running {runs} on the CPU instead of what was requested: {why}"
    return Opened(opened.backend, reasons, warning or dict(info.slow).get(held, ""))


def _missed_gpu(failed: dict[str, BackendError]) -> str:
    """Why a GPU that is there is not used; empty if there is none."""
    if not any(device.exists() for device in GPU_DEVICES):
        return ""
    return f"the GPU is not used: {'; '.join(map(str, failed.values()))}"


def _open_with(
    info: BackendInfo, model: ModelFile, options: RunOptions, build: bool
) -> Opened | MissingEngine:
    if options.dla_core >= 0 and not info.has_dla:
        raise BackendError(f"{info.name} has no DLA", "set dla_core to -1, or backend to tensorrt")
    if options.precision not in info.precisions_of(model.card.precision):
        require_file_precision(model, options)
    return info.open(model, options, build)
