# SPDX-License-Identifier: Apache-2.0
"""Build the TensorRT engine of a model ahead of time, so that the node starts on the GPU at once.

The engine goes to the folder where the node looks for it. If it is there already, nothing is built.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from compact_yolo_ros.backends import PRECISIONS, BackendError
from compact_yolo_ros.backends.backend import Request
from compact_yolo_ros.backends.tensorrt.cache import EngineCache
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.support.termination import handling

PERIOD = 1.0
"""Seconds between two lines of progress."""


def main(arguments: list[str] | None = None) -> int:
    """Build; return 0 if every engine asked for is there in the end."""
    options = _parse(arguments)
    try:
        # Python would heed Ctrl-C only when TensorRT has built.
        with handling(signal.SIGINT, signal.SIG_DFL):
            for size in options.input_size or [None]:
                _build(options, size)
    except (ModelError, BackendError, ValueError) as error:
        print(f"build_engine: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("build_engine", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="yolo_ret_m075", help="name, or path of an .onnx file")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument(
        "--input-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="sides of the square input, an engine each; the model's own if not given",
    )
    parser.add_argument("--batch", type=int, default=1, help="most images a run")
    parser.add_argument("--dla-core", type=int, default=-1, help="-1 is the GPU")
    parser.add_argument("--engine-cache", type=Path, help="folder; the node's default if not given")
    return parser.parse_args(arguments)


def _build(options: argparse.Namespace, size: int | None) -> None:
    from compact_yolo_ros.backends.tensorrt.cuda import gpu
    from compact_yolo_ros.backends.tensorrt.run import (
        BuildProgress,
        engine_key,
        library,
        open_tensorrt,
    )

    model = find_model(options.model)
    side = size or model.card.default_size
    precision = model.card.precision if options.precision == "auto" else options.precision
    request = Request(
        model,
        (side, side),
        precision,
        batch=options.batch,
        dla_core=options.dla_core,
        engine_cache=options.engine_cache,
    )
    key, cache = engine_key(request, library(), gpu()), EngineCache(request.engine_cache)
    if cache.load(key) is None:
        cache.require_writable()
    progress = BuildProgress()
    with _telling(f"{model.card.name} {side}x{side} {precision}", progress):
        backend = open_tensorrt(request, progress=progress)
    backend.close()
    if cache.load(key) is None:
        raise BackendError(backend.warning or "the engine was not kept")
    print(f"{model.card.name} {side}x{side} is ready in {backend.precision} on {backend.device}")
    if backend.warning:
        print(f"but {backend.warning}")


@contextmanager
def _telling(what: str, progress: object, period: float | None = None) -> Iterator[None]:
    """Print how far the build is until the block ends."""
    began = monotonic()
    ended = threading.Event()

    def tell() -> None:
        # If nobody listens any more, the engine is still worth having.
        with suppress(BrokenPipeError):
            while not ended.wait(period or PERIOD):
                fraction = getattr(progress, "fraction", None)
                share = "" if fraction is None else f" {fraction:.0%},"
                print(f"building {what}:{share} {monotonic() - began:.0f} s", flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


if __name__ == "__main__":
    sys.exit(main())
