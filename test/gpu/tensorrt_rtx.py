# SPDX-License-Identifier: Apache-2.0
"""Try NVIDIA's TensorRT for RTX, as a plugin of ONNX Runtime, on this machine's GPU.

    pip install "onnxruntime>=1.24" onnx onnxruntime-ep-nv-tensorrt-rtx-cu13
    python test/gpu/tensorrt_rtx.py [model ...]

It is the one TensorRT that pip alone installs, made for RTX cards (compute capability 7.5, 8.6, 8.9
and 12). It is no backend of this package as long as nobody has seen it work. The script opens each
model in FP32 and FP16, compares its answers with the CPU's on the package's sample images, and
times it. The exit code is 0 if all agree, 1 if not, 10 if the plugin or a GPU for it is missing.
Please report what it prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compact_yolo_ros.backends import RunOptions, open_backend  # noqa: E402
from compact_yolo_ros.backends.agreement import TOLERANCES  # noqa: E402
from compact_yolo_ros.backends.backend import OUTPUTS  # noqa: E402
from compact_yolo_ros.backends.comparison import compare_on_samples  # noqa: E402
from compact_yolo_ros.backends.fp16_graph import to_half  # noqa: E402
from compact_yolo_ros.model.store import ModelFile, find_model  # noqa: E402
from compact_yolo_ros.support.error_text import one_line  # noqa: E402
from compact_yolo_ros.support.markdown import markdown_table  # noqa: E402

PROVIDER = "NvTensorRTRTXExecutionProvider"
INSTALL = "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13"
MODELS = ("yolo_ret_m075", "yolo_fastest", "micro_yolo")
RUNS = 300
NOTHING_TO_TRY = 10
HEAD = ("model", "precision", "opened s", "call ms", "candidates", "pixels", "score", "agrees")

Prepare = Callable[[Any], None]
"""Tells session options what to run on."""


class Plugin:
    """A model in ONNX Runtime with whatever ``prepare`` sets; like a ``Backend``."""

    def __init__(self, model: ModelFile, precision: str, prepare: Prepare) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        size = model.card.own_size
        for name, extent in (("batch", 1), ("height", size.height), ("width", size.width)):
            options.add_free_dimension_override_by_name(name, extent)
        prepare(options)
        data = model.path.read_bytes()
        graph = to_half(data) if precision == "fp16" else data
        self.card = model.card
        self.input = np.zeros((1, *size.shape, 3), np.uint8)
        self._session = onnxruntime.InferenceSession(graph, options)

    def run(self, images: int = 1) -> Any:
        return self._session.run(OUTPUTS, {"images": self.input[:images]})


def main(names: list[str]) -> int:
    """Return the exit code."""
    try:
        prepare = on_gpu()
    except LookupError as error:
        print(f"Nothing was tried: {error.args[0]}", file=sys.stderr)
        return NOTHING_TO_TRY
    rows = [row for name in names or MODELS for row in tried(find_model(name), prepare)]
    print(markdown_table(HEAD, rows))
    return 0 if all(row[-1] == "yes" for row in rows) else 1


def on_gpu() -> Prepare:
    """Load the plugin and choose its first device; raises LookupError with a sentence."""
    library = plugin_library()
    if library is None:
        raise LookupError(f"the plugin is missing: {INSTALL}")
    import onnxruntime

    try:
        onnxruntime.register_execution_provider_library(PROVIDER, library)
    except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
        raise LookupError(f"ONNX Runtime cannot load the plugin: {one_line(error)}") from None
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
    if not devices:
        raise LookupError("the plugin finds no GPU that it can use")

    def prepare(options: Any) -> None:
        options.add_provider_for_devices(devices[:1], {})

    return prepare


def plugin_library() -> str | None:
    """Path of the plugin; importing its package loads what it is linked with."""
    try:
        import onnxruntime_ep_nv_tensorrt_rtx as package
    except ImportError:
        return None
    return str(package.get_library_path())


def tried(model: ModelFile, prepare: Prepare) -> Iterator[tuple[str, ...]]:
    """A row of the table for each precision."""
    options = RunOptions(str(model.path), backend="onnxruntime", input_sizes=(model.card.own_size,))
    reference = open_backend(options).backend
    for precision in (
        ("fp32", "fp16") if model.card.precision == "fp32" else (model.card.precision,)
    ):
        began = perf_counter()
        try:
            backend = Plugin(model, precision, prepare)
            backend.run()
            opened = perf_counter() - began
            tolerance = TOLERANCES[precision]
            found = compare_on_samples(backend, reference, tolerance)  # type: ignore[arg-type]
        except Exception as error:  # as above
            yield (model.card.name, precision, *["-"] * 5, one_line(error))
            continue
        agreeing = f"{found.agreeing} of {found.compared}"
        figures = (f"{opened:.1f}", f"{1e3 * _typical(backend):.3f}", agreeing)
        largest = (f"{found.pixels:.3f}", f"{found.score:.4f}")
        verdict = "yes" if found.suffices(tolerance) else "no"
        yield (model.card.name, precision, *figures, *largest, verdict)


def _typical(backend: Plugin) -> float:
    """The median seconds of a run."""
    seconds = []
    for _ in range(RUNS):
        began = perf_counter()
        backend.run()
        seconds.append(perf_counter() - began)
    return float(np.median(seconds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
