# SPDX-License-Identifier: Apache-2.0
"""Read MobileNetV2 x1.0 from a frozen TensorFlow graph (object detection), without TensorFlow.

A GraphDef is a protocol-buffer message; only the fields named below are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compact_yolo_ros.support.protobuf import read_fields
from training.detectors.blocks import ConvNormAct, inverted_residuals, statistics
from training.detectors.mobilenet_v2 import MobileNetV2

# Field numbers of GraphDef.node, NodeDef.name/op/attr, the entries of a map, AttrValue.tensor,
# TensorProto.dtype/tensor_shape/tensor_content, TensorShapeProto.dim and Dim.size.
NODE, NAME, OP, ATTR, KEY, VALUE, TENSOR, DTYPE, SHAPE, CONTENT, DIM, SIZE = (
    1,
    1,
    2,
    5,
    1,
    2,
    8,
    1,
    2,
    4,
    2,
    1,
)
FLOAT = 1
NORM_EPS = 1e-3


def read_constants(path: Path) -> dict[str, np.ndarray]:
    """Return every float32 constant of a frozen graph by node name.

    Raises:
        ValueError: the file is not a GraphDef with float constants.
    """
    constants = {}
    try:
        for field, node in _fields(path.read_bytes()):
            if field != NODE:
                continue
            parts = list(_fields(node))
            if (OP, b"Const") not in parts:
                continue
            attributes = (dict(_fields(v)) for f, v in parts if f == ATTR)
            tensor = next(dict(_fields(a[VALUE])) for a in attributes if bytes(a[KEY]) == b"value")
            message = list(_fields(tensor[TENSOR]))
            if (DTYPE, FLOAT) in message and CONTENT in dict(message):
                dims = [dict(_fields(v)).get(SIZE, 0) for v in _values(dict(message)[SHAPE], DIM)]
                name = bytes(dict(parts)[NAME]).decode()
                constants[name] = np.frombuffer(dict(message)[CONTENT], "<f4").reshape(dims)
    except (IndexError, KeyError, StopIteration, TypeError, ValueError):
        raise ValueError(f"{path} is not a frozen TensorFlow graph") from None
    if not constants:
        raise ValueError(f"{path} holds no float constants")
    return constants


def load_mobilenet_v2(path: Path) -> MobileNetV2:
    """Return MobileNetV2 x1.0 with the weights of a frozen graph, for RGB images in 0..1.

    The graph takes -1..1: the difference is folded into the first kernel and its running mean. It
    pads as TensorFlow does, and so does the network.

    Raises:
        ValueError: the file is no such graph, or a parameter is missing or has another shape.
    """
    constants = read_constants(path)
    model = MobileNetV2(1.0, uneven=True)
    with torch.no_grad():
        _copy(model.stem, constants, "Conv", "weights")
        for index, block in enumerate(inverted_residuals(model.blocks)):
            scope = "expanded_conv" if index == 0 else f"expanded_conv_{index}"
            if isinstance(block.expand, ConvNormAct):
                _copy(block.expand, constants, f"{scope}/expand", "weights")
            _copy(block.depthwise, constants, f"{scope}/depthwise", "depthwise_weights")
            _copy(block.project, constants, f"{scope}/project", "weights")
        kernel = model.stem.conv.weight
        mean, _ = statistics(model.stem.norm)
        mean += kernel.sum((1, 2, 3))
        kernel *= 2.0
    return model


def _copy(unit: ConvNormAct, constants: dict[str, np.ndarray], scope: str, kernel: str) -> None:
    prefix = f"FeatureExtractor/MobilenetV2/{scope}/"
    weights = _constant(constants, prefix + kernel)
    # (h, w, in, out) to (out, in, h, w); a depthwise kernel is (h, w, in, 1).
    order = (2, 3, 0, 1) if kernel == "depthwise_weights" else (3, 2, 0, 1)
    _assign(unit.conv.weight, weights.transpose(order), prefix + kernel)
    unit.norm.eps = NORM_EPS
    names = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    for theirs, ours in names.items():
        name = f"{prefix}BatchNorm/{theirs}"
        _assign(getattr(unit.norm, ours), _constant(constants, name), name)


def _constant(constants: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in constants:
        raise ValueError(f"the graph has no {name}: it is no MobileNetV2 of a detector")
    return constants[name]


def _assign(target: torch.Tensor, value: np.ndarray, name: str) -> None:
    if tuple(target.shape) != value.shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {tuple(target.shape)}")
    target.copy_(torch.tensor(value))


def _values(message: memoryview, number: int) -> Iterator[Any]:
    return (value for field, value in _fields(message) if field == number)


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value) of a protocol-buffer message."""
    return ((field.number, field.value) for field in read_fields(message))
