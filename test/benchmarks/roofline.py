# SPDX-License-Identifier: Apache-2.0
"""Where the time of a network goes, by kind of layer, against what this processor can do.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python test/benchmarks/roofline.py yolo_fastest

One thread, FP32, in OpenVINO, which reports the time of each layer after fusing. A layer is bound
by arithmetic if its GMAC/s are near those of a matrix product, and by memory if its GB/s (input,
kernel and output, once each) are near those of a copy.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import openvino  # noqa: E402
from onnx import shape_inference  # noqa: E402

from compact_yolo_ros.model.store import find_model  # noqa: E402
from training.deployment.weight_storage import read_graph  # noqa: E402

SIDE, RUNS, WARM_UP = 320, 25, 5


class Cost(NamedTuple):
    """What a convolution needs."""

    kind: str
    macs: float
    bytes: float


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="names or .onnx files")
    options = parser.parse_args()
    square = np.random.default_rng(0).random((768, 768), np.float32)
    large = np.ones(2**26, np.uint8)
    copy = np.empty_like(large)
    product = 1e-9 * 768**3 / _seconds(lambda: square @ square)
    memory = 1e-9 * 2 * large.nbytes / _seconds(lambda: np.copyto(copy, large))
    print(f"matrix product {product:.1f} GMAC/s, copy {memory:.1f} GB/s")
    for name in options.models:
        _print(name, find_model(name).path)


def _print(name: str, path: Path) -> None:
    costs, seconds = _costs(read_graph(path)), _layer_seconds(path)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for (layer, kind), taken in seconds.items():
        cost = costs.get(layer.removesuffix("/WithoutBiases"), Cost(kind, 0, 0))
        kinds[cost.kind] = [
            a + b for a, b in zip(kinds[cost.kind], (taken, cost.macs, cost.bytes), strict=True)
        ]
    whole = sum(taken for taken, _, _ in kinds.values())
    macs = sum(count for _, count, _ in kinds.values())
    print(f"\n{name}: {1e3 * whole:.2f} ms, {1e-9 * macs / whole:.1f} GMAC/s")
    print(f"  {'':16}{'ms':>7}{'time':>7}{'MACs':>7}{'GMAC/s':>8}{'GB/s':>7}")
    for kind, (taken, count, moved) in sorted(kinds.items(), key=lambda item: -item[1][0]):
        if taken > 0.005 * whole:
            print(
                f"  {kind:16}{1e3 * taken:7.2f}{taken / whole:7.0%}{count / macs:7.0%}"
                f"{1e-9 * count / taken:8.1f}{1e-9 * moved / taken:7.1f}"
            )


def _costs(model: onnx.ModelProto) -> dict[str, Cost]:
    """What each convolution needs, by its name."""
    for extent, value in zip(
        model.graph.input[0].type.tensor_type.shape.dim, (1, SIDE, SIDE, 3), strict=True
    ):
        extent.dim_value = value
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [extent.dim_value for extent in value.type.tensor_type.shape.dim]
        for value in inferred.graph.value_info
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        source, kernel, target = (shapes[n] for n in (*node.input[:2], node.output[0]))
        groups = next(value.i for value in node.attribute if value.name == "group")
        kind = "depthwise" if groups > 1 else "1x1" if kernel[2] == 1 else "dense"
        values = sum(float(np.prod(shape)) for shape in (source, kernel, target))
        found[node.name] = Cost(kind, float(np.prod(target) * np.prod(kernel[1:])), 4 * values)
    return found


def _layer_seconds(path: Path) -> dict[tuple[str, str], float]:
    """Median seconds of each layer that is left after fusing, by its name and type."""
    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape({"images": [1, SIDE, SIDE, 3]})
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(network, "CPU", {**properties, "PERF_COUNT": True})
    request = compiled.create_infer_request()
    image = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    times = defaultdict(list)
    for _ in range(RUNS):
        request.infer({"images": image})
        for layer in request.profiling_info:
            times[layer.node_name, layer.node_type].append(layer.real_time.total_seconds())
    return {key: float(np.median(taken[WARM_UP:])) for key, taken in times.items()}


def _seconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(15):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
