# SPDX-License-Identifier: Apache-2.0
"""Find where the values of a TensorRT engine depart from those of ONNX Runtime.

    python test/gpu/departure.py yolo_ret_m075_int8 --precision int8
    python test/gpu/departure.py yolo_ret_m075_int8 --precision int8 --batch 8

For an engine that answers wrongly (docs/gpu.md). The network is cut before one of its convolutions,
an engine is built of what comes before, and both compute it for a sample image: before the first
convolution, then ever further on, then between the last that agrees and the first that does not.
The exit code is 0 if all agree, 1 if not, 10 if there is no GPU. Please report what it prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compact_yolo_ros.backends import BackendError, RunOptions  # noqa: E402
from compact_yolo_ros.backends.options import DEFAULT_MODEL  # noqa: E402
from compact_yolo_ros.backends.tensorrt.cuda import Buffer, Gpu, gpu  # noqa: E402
from compact_yolo_ros.backends.tensorrt.library import library, logger  # noqa: E402
from compact_yolo_ros.backends.tensorrt.plan import (  # noqa: E402
    BuildProgress,
    graph_of,
    plan_of_graph,
)
from compact_yolo_ros.model.sizes import Size  # noqa: E402
from compact_yolo_ros.model.store import find_model  # noqa: E402
from compact_yolo_ros.pixels.letterbox import Letterbox  # noqa: E402
from compact_yolo_ros.pixels.sample_images import sample_images  # noqa: E402

NO_GPU = 10
Compute = Callable[[onnx.ModelProto], NDArray[np.float32]]
"""Values of the only output of a graph, for a sample image."""


def cuts(model: onnx.ModelProto) -> list[str]:
    """What its convolutions read, in their order, and its scores."""
    constants = {tensor.name for tensor in model.graph.initializer}
    read = (node.input[0] for node in model.graph.node if node.op_type == "Conv")
    return [*dict.fromkeys(name for name in read if name not in constants), "scores"]


def before(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The part of a graph that computes one tensor, which is its output in FP32."""
    needed, nodes = {name}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    last = f"{name}_as_fp32"
    cast = onnx.helper.make_node("Cast", [name], [last], to=onnx.TensorProto.FLOAT)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    output = onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(
        [*reversed(nodes), cast], "part", list(model.graph.input), [output], constants
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def with_output_shape(part: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The same; TensorRT wants to know how many dimensions its output has."""
    (output,) = part.graph.output
    extent: list[int | str] = ["images", *shape[1:]]  # their number may vary
    kind = onnx.helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, extent)
    output.CopyFrom(kind)
    return part


def first_departure(
    names: list[str], error: Callable[[str], float], tolerance: float
) -> tuple[str, str]:
    """The last cut that agrees and the first that does not, empty if there is none.

    Steps double until one departs, so that most graphs are short ones, which are built soon.
    """
    last, good = len(names) - 1, -1
    for place in sorted({*(2**n - 1 for n in range(last.bit_length())), last}):
        if error(names[place]) > tolerance:
            break
        good = place
    else:
        return names[last], ""
    bad = place
    while bad - good > 1:
        middle = (good + bad) // 2
        if error(names[middle]) > tolerance:
            bad = middle
        else:
            good = middle
    return names[good] if good >= 0 else "", names[bad]


def on_cpu(images: NDArray[np.uint8]) -> Compute:
    """Compute in ONNX Runtime."""

    def compute(part: onnx.ModelProto) -> NDArray[np.float32]:
        session = onnxruntime.InferenceSession(part.SerializeToString())
        (found,) = session.run(None, {"images": images})
        return np.asarray(found, np.float32)

    return compute


def on_gpu(images: NDArray[np.uint8], options: RunOptions, trt: Any, device: Gpu) -> Compute:
    """Build an engine, and compute with it."""
    timing = b""

    def compute(part: onnx.ModelProto) -> NDArray[np.float32]:
        nonlocal timing
        graph, progress = part.SerializeToString(), BuildProgress()
        plan, timing = plan_of_graph(graph, "the part", options, trt, device, timing, progress)
        with device.current():
            return run_once(plan, images, part.graph.output[0].name, trt, device)

    return compute


def run_once(
    plan: bytes, images: NDArray[np.uint8], output: str, trt: Any, device: Gpu
) -> NDArray[np.float32]:
    """Run an engine; the context is current."""
    runtime = trt.Runtime(logger(trt))
    engine = runtime.deserialize_cuda_engine(plan)
    execution, stream = engine.create_execution_context(), device.driver.Stream()
    assert execution.set_input_shape("images", images.shape)
    given = Buffer(device, images.shape, np.uint8)
    found = Buffer(device, tuple(execution.get_tensor_shape(output)), np.float32)
    assert execution.set_tensor_address("images", given.address)
    assert execution.set_tensor_address(output, found.address)
    given.host[...] = images
    given.upload(len(images), stream)
    assert execution.execute_async_v3(stream.handle)
    found.download(len(images), stream)
    stream.synchronize()
    return np.array(found.host)


def compared(
    model: onnx.ModelProto, expected: Compute, found: Compute, tell: Callable[[str], None]
) -> Callable[[str], float]:
    """Relative difference of a tensor, which is told."""

    def error(name: str) -> float:
        part = before(model, name)
        right, began = expected(part), perf_counter()
        values = found(with_output_shape(part, right.shape))
        difference = float(np.linalg.norm(values - right) / max(np.linalg.norm(right), 1e-9))
        tell(f"{difference:10.4f} {name} {right.shape} ({perf_counter() - began:.0f} s)")
        return difference

    return error


def pictures(size: Size, batch: int, resize: str) -> NDArray[np.uint8]:
    """A sample image as input, in all places (N, H, W, 3)."""
    images = np.empty((batch, *size.shape, 3), np.uint8)
    Letterbox(images[0], resize)(sample_images()[0], "bgr")
    images[1:] = images[0]
    return images


def arguments() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of the command line."""
    yield "model", {"nargs": "?", "default": f"{DEFAULT_MODEL}_int8"}
    yield "--precision", {"default": "auto"}
    yield "--batch", {"type": int, "default": 1, "help": "images a run [1]"}
    yield "--tolerance", {"type": float, "default": 0.2, "help": "relative difference [0.2]"}


def main(words: list[str]) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser("departure", description=(__doc__ or "").partition("\n")[0])
    for name, how in arguments():
        parser.add_argument(name, **how)
    given = parser.parse_args(words)
    try:
        trt, device = library(), gpu()
    except BackendError as error:
        print(f"Nothing was compared, there is no GPU: {error}", file=sys.stderr)
        return NO_GPU
    file = find_model(given.model)
    options = RunOptions(given.model, "tensorrt", given.precision, batch=given.batch)
    options = options.resolved(file.card)
    images = pictures(options.sizes[0], given.batch, file.card.resize)
    model = onnx.load_from_string(graph_of(file, options, trt))
    print(f"TensorRT {trt.__version__} on {device.name}, {given.model} in {options.precision}")
    print("relative difference, what, its shape")
    found = on_gpu(images, options, trt, device)
    error = compared(model, on_cpu(images), found, lambda line: print(line, flush=True))
    last, first = first_departure(cuts(model), error, given.tolerance)
    if not first:
        print("It agrees everywhere.")
        return 0
    print(f"It agrees up to {last or 'the input'}, and departs before {first}.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
