# SPDX-License-Identifier: Apache-2.0
"""Build the TensorRT engines of a model ahead of time, so that the node starts on the GPU at once.

The engines go to the folder where the node looks for them. What is there already is not built.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of
from compact_yolo_ros.backends.backend import BackendError, MissingEngine
from compact_yolo_ros.backends.options import RunOptions
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, engine_key
from compact_yolo_ros.backends.tensorrt.cuda import gpu
from compact_yolo_ros.backends.tensorrt.library import library
from compact_yolo_ros.backends.tensorrt.plan import BuildProgress
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model
from compact_yolo_ros.support.termination import handling

PERIOD = 1.0
"""Seconds between two lines of progress."""

Report = Callable[[str], object]


def build_engines(options: RunOptions, report: Report) -> None:
    """Build the engine of every input size, unless it is in the cache.

    One that cannot be built does not keep the others from being built.

    Args:
        options: which model and sizes; ``backend`` and ``threads`` do not matter.
        report: is called with a line about once a second, from another thread.

    Raises:
        ModelError: the model cannot be found, read or trusted, or is overwritten meanwhile.
        BackendError: a library is missing, TensorRT refuses the model, or an engine is wrong or
            cannot be kept.
    """
    model = find_model(options.model)
    options = options.resolved(model.card).change(sha256=model.sha256)
    problems: dict[str, list[Size]] = {}
    for size in options.sizes:
        options.require_pinned(model)  # else the engines are of different networks
        try:
            _build(model, options.change(input_sizes=(size,)), report)
        except BackendError as error:
            problems.setdefault(str(error), []).append(size)
    if problems:
        raise BackendError("; ".join(_of_sizes(*each, options) for each in problems.items()))


def _of_sizes(problem: str, sizes: list[Size], options: RunOptions) -> str:
    """A problem, and the sizes that have it, unless all have."""
    if len(sizes) == len(options.sizes):
        return problem
    return f"{' and '.join(map(str, sizes))}: {problem}"


def _build(model: ModelFile, options: RunOptions, report: Report) -> None:
    key, cache = engine_key(model, options, library(), gpu()), EngineCache(options.engine_cache)
    if cache.load(key) is None:
        cache.require_writable()
    progress = BuildProgress()
    what = f"{model.card.name} {options.sizes[0]}"
    with _reporting(f"{what} {options.precision}", progress, report):
        opened = open_tensorrt(model, options, progress=progress)
    assert not isinstance(opened, MissingEngine)  # it builds
    backend = opened.backend
    backend.close()
    if cache.load(key) is None:
        raise BackendError(opened.warning or "the engine was not kept")
    report(f"{what} is ready in {backend.precision} on {backend.device}")
    if opened.warning:
        report(f"but {opened.warning}")


@contextmanager
def _reporting(
    what: str, progress: BuildProgress, report: Report, period: float | None = None
) -> Iterator[None]:
    """Report how far the build is until the block ends."""
    began = monotonic()
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(period or PERIOD):
            share = "" if progress.fraction is None else f" {progress.fraction:.0%},"
            report(f"building {what}:{share} {monotonic() - began:.0f} s")

    reporter = threading.Thread(target=repeat, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()


def main(arguments: list[str] | None = None) -> int:
    """Build; return 0 if every requested engine is there in the end."""
    parser = argparse.ArgumentParser("build_engine", description=(__doc__ or "").partition("\n")[0])
    add_run_arguments(parser, leave_out=("backend", "threads"))
    try:
        options = run_options_of(parser.parse_args(arguments))
        # Python would react to Ctrl-C only when TensorRT has built.
        with handling(signal.SIGINT, signal.SIG_DFL):
            build_engines(options, _print)
    except (ModelError, BackendError, ValueError) as error:
        print(f"build_engine: {error}", file=sys.stderr)
        return 1
    return 0


def _print(line: str) -> None:
    # If nobody listens any more, the engine is still worth having.
    with suppress(BrokenPipeError):
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
