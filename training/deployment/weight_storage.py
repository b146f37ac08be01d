# SPDX-License-Identifier: Apache-2.0
"""How a model file stores its weights: large kernels as float16, and nothing twice.

A kernel in float32 is stored as float16 with a Cast to float32 behind it. The file is half as
large and still computes in float32: ONNX Runtime and OpenVINO compute the Cast once, when they open
the file; for TensorRT ``compact_yolo_ros.model.stored_weights`` does. A weight is rounded by at
most 2^-11 of itself.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compact_yolo_ros.model.stored_weights import with_plain_weights

SMALLEST = 4096
"""Values of the smallest kernel that is stored as float16. ONNX Runtime takes 25 us to compute a
Cast when it opens a file; all smaller kernels of a detector together are a tenth of a megabyte."""
LARGEST_ERROR = 2.0**-10
"""By which share of a channel's largest weight a weight may change. Where magnitudes lie within the
range of float16, half of that is reached; a kernel with a channel outside stays float32."""


def read_graph(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with all its weights as constants of the type that it computes in.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an ONNX file.
    """
    return onnx.load_from_string(with_plain_weights(path.read_bytes()))


def stored(model: onnx.ModelProto, keep_float32: Collection[str] = ()) -> onnx.ModelProto:
    """Return ``model``, whose weights are plain constants, in the form that a file has.

    Args:
        model: a graph as ``read_graph`` and the exporter return it.
        keep_float32: convolutions whose kernels stay: names, or patterns as of file names (``*``).

    Raises:
        ValueError: a pattern matches no convolution.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    for pattern in keep_float32:
        if not any(fnmatchcase(name, pattern) for name in convolutions):
            raise ValueError(f"no convolution has a name like '{pattern}'")
    _share_vectors(model.graph)
    _store_kernels(model.graph, keep_float32)
    onnx.checker.check_model(model, full_check=True)
    return model


def fits_float16(kernel: NDArray[np.float32]) -> bool:
    """Return whether float16 changes each channel of a kernel (O, ...) by LARGEST_ERROR at most."""
    with np.errstate(over="ignore"):  # what becomes infinite is too far off
        rounded = kernel.astype(np.float16).astype(np.float32)
    channels = len(kernel)
    error = np.abs(rounded - kernel).reshape(channels, -1).max(1)
    return bool((error <= LARGEST_ERROR * np.abs(kernel).reshape(channels, -1).max(1)).all())


def _store_kernels(graph: onnx.GraphProto, keep: Collection[str]) -> None:
    """Store large kernels of convolutions as float16; the Casts' results have their names."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        kept = node.op_type != "Conv" or any(fnmatchcase(node.name, name) for name in keep)
        tensor = None if kept else tensors.get(node.input[1])
        if tensor is not None and _is_stored(tensor):
            half = f"{tensor.name}_float16"
            nodes.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, half))
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)


def _is_stored(tensor: TensorProto) -> bool:
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
        return False
    return fits_float16(numpy_helper.to_array(tensor))


def _share_vectors(graph: onnx.GraphProto) -> None:
    """Keep one of equal vectors, as the zero points of kernels are.

    Kernels are left alone: the tools of quantisation expect one for each convolution.
    """
    first: dict[tuple[int, int, bytes], str] = {}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        if len(tensor.dims) <= 1:
            key = (tensor.data_type, len(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            names[tensor.name] = first.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    copies = [
        TensorProto.FromString(tensor.SerializeToString())
        for tensor in graph.initializer
        if names.get(tensor.name, tensor.name) == tensor.name
    ]
    del graph.initializer[:]
    graph.initializer.extend(copies)
