# SPDX-License-Identifier: Apache-2.0
"""Time the runtimes on the CPU that are installed, on a model, and remember what they take.

A node starts this beside itself: it runs only while no other process wants the cores. One way to
run the network is open at a time.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, perf_counter, process_time, sleep

import numpy as np

from compact_yolo_ros.backends.agreement import TOLERANCES
from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of
from compact_yolo_ros.backends.backend import Backend, BackendError
from compact_yolo_ros.backends.choice import open_backend
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.backends.cpu import default_threads
from compact_yolo_ros.backends.fastest import Timing
from compact_yolo_ros.backends.options import RunOptions
from compact_yolo_ros.backends.registry import ALWAYS, BACKENDS
from compact_yolo_ros.backends.remembered import recall, remember, timings_folder
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import require_writable

RUNS, QUANTILE = 12, 0.25
"""Runs that are timed, and the part of them that is believed: the others had a neighbour."""
WAITING = 0.1
"""Share of a run that its other threads may have waited for cores."""
PAUSE = 0.01
"""Seconds between two runs, in which threads fall asleep as between two images."""
PATIENCE = 30.0
"""Seconds after which the cores are too busy for one way to run the network."""

Report = Callable[[str], object]


def time_backends(options: RunOptions, report: Report) -> None:
    """Time every way to run a model at its first size, unless that is known, and remember it.

    Args:
        options: which model and size; runtime, precision and threads are what is timed.
        report: is called with a line of progress.

    Raises:
        ModelError: the model cannot be found, read or trusted.
        BackendError: nothing can be remembered, or the cores are too busy.
    """
    model = find_model(options.model)
    sizes = options.resolved(model.card).sizes[:1]
    options = options.change(input_sizes=sizes, image_sizes=())
    with _alone():
        if not recall(model, options).is_exact:
            timings = [*filter(None, (_timed(way, report) for way in _ways(model, options)))]
            if not timings:
                raise BackendError("the cores are too busy to time anything on them")
            try:
                remember(model, options, timings)
            except OSError as error:
                raise _not_kept(error) from None
        report(str(recall(model, options)))


@contextmanager
def _alone() -> Iterator[None]:
    """Wait for other processes that time: they would be timed, too.

    Where a network file system has no locks, it does not wait.
    """
    try:
        folder = timings_folder()
        require_writable(folder, mode=0o700)
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, RuntimeError) as error:
        raise _not_kept(error) from None
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _not_kept(error: Exception) -> BackendError:
    return BackendError(f"timings cannot be kept ({reason(error)})")


def _ways(model: ModelFile, options: RunOptions) -> Iterator[RunOptions]:
    """Every runtime that is installed with each number of threads, and precisions that agree."""
    held = model.card.precision
    for info in BACKENDS.values():
        if info.runs_on != "CPU" or not all(find_spec(one.module) for one in info.libraries):
            continue
        for precision in info.precisions_of(held):
            if precision == "fp32" != held:  # what FP16 is computed in where there is nothing else
                continue
            way = options.change(backend=info.name, precision=precision)
            if info.name == ALWAYS or _is_usable(way, held):
                yield from (way.change(threads=n) for n in range(1, default_threads() + 1))


def _is_usable(way: RunOptions, held: str) -> bool:
    """Whether it can be opened here, and finds in another precision what the file's own finds."""
    try:
        backend = open_backend(way.change(threads=1)).backend
    except BackendError:
        return False
    try:
        return way.precision == held or _agrees(backend, way.change(backend=ALWAYS, precision=held))
    finally:
        backend.close()


def _agrees(backend: Backend, exact: RunOptions) -> bool:
    reference = open_backend(exact).backend
    tolerance = TOLERANCES[backend.precision]
    agreement = compare_on_samples(backend, reference, tolerance)
    reference.close()
    return agreement.suffices(tolerance)


def _timed(way: RunOptions, report: Report) -> Timing | None:
    """Time one way to run a model; None if there were never enough free cores for it."""
    report(f"timing {way.backend} {way.precision}, threads: {way.threads}")
    backend = open_backend(way).backend
    try:
        runs = _measure(backend)
    finally:
        backend.close()
    if len(runs) < RUNS:
        return None
    ms, cpu_ms = 1e3 * np.quantile(runs, QUANTILE, axis=0)
    return Timing(way.backend, backend.precision, way.threads, float(ms), float(cpu_ms))


def _measure(backend: Backend) -> list[tuple[float, float]]:
    """Seconds, and seconds of CPU time, of runs whose threads had a core when they wanted one.

    What the first thread waited for its core is taken off. What another one waited cannot be: the
    others may have done its share meanwhile, or have waited for it.
    """
    shape = backend.input.shape
    backend.input[...] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    backend.run()
    runs: list[tuple[float, float]] = []
    end = monotonic() + PATIENCE
    while len(runs) < RUNS and monotonic() < end:
        waited, used, began = _waited(), process_time(), perf_counter()
        backend.run()
        seconds, cpu = perf_counter() - began, process_time() - used
        lost = {task: after - waited.get(task, 0.0) for task, after in _waited().items()}
        used = process_time()
        sleep(PAUSE)  # threads that spin after a run cost CPU time, too
        seconds -= lost.pop(str(os.getpid()), 0.0)
        if sum(lost.values()) <= WAITING * seconds:
            runs.append((seconds, cpu + process_time() - used))
    return runs


def _waited() -> dict[str, float]:
    """Seconds that each thread has waited for a core so far; empty if Linux does not tell."""
    found = {}
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread has ended
            found[path.parent.name] = 1e-9 * int(path.read_text().split()[1])
    return found


def _give_way() -> None:
    """Run only while no other process wants the cores."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(arguments: list[str] | None = None) -> int:
    """Time; return 0 if the timings are remembered in the end."""
    parser = argparse.ArgumentParser("timing", description=(__doc__ or "").partition("\n")[0])
    add_run_arguments(parser, leave_out=("backend", "precision", "threads"))
    _give_way()
    try:
        time_backends(run_options_of(parser.parse_args(arguments)), _print)
    except (ModelError, BackendError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print(line: str) -> None:
    print(line, flush=True)  # ends this process if the node that wants to know has ended


if __name__ == "__main__":
    sys.exit(main())
