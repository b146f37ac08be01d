# SPDX-License-Identifier: Apache-2.0
"""Backbones from arrays: ``.npz`` of folded layers in network order, and Keras's ``.h5``.

An ``.npz`` has for layer NN, from 00: ``NN.weight`` (O, I / groups, k, k), ``NN.bias`` (O,), and
``NN.opts``: stride, dilation, activation (3 is ReLU6, 0 none) and 1 for a depthwise layer. What
follows the backbone (classifier, segmentation head) is not read.

An ``.h5`` has the layers that Keras's MobileNetV2 names (``block_3_depthwise_BN``), and may have
others: YOLO-ReT of its authors is built on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.detectors.blocks import ConvNormAct, inverted_residuals
from training.detectors.efficientnet import EfficientNet
from training.detectors.mobilenet_v2 import MobileNetV2

RELU6, NO_ACTIVATION = 3, 0
KERAS_EPS = 1e-3
# A layer and a weight of it, as ("Conv1", "kernel").
Arrays = Mapping[tuple[str, str], NDArray[np.float32]]


@torch.no_grad()
def fill_from_npz(network: MobileNetV2 | EfficientNet, path: Path) -> None:
    """Load the folded layers of an ``.npz`` into a complete backbone; its norms become identities.

    Raises:
        ValueError: the file cannot be read, or is of another network.
    """
    units = [unit for unit in network.modules() if isinstance(unit, ConvNormAct)]
    if sum(isinstance(m, nn.Conv2d) for m in network.modules()) != len(units):
        raise ValueError(f"{path}: an .npz cannot hold channel attention, which the backbone has")
    try:
        with np.load(path, allow_pickle=False) as archive:
            for number, unit in enumerate(units):
                weight, bias, options = (
                    archive[f"{number:02}.{part}"] for part in ("weight", "bias", "opts")
                )
                _check_options(unit, number, options.tolist())
                _assign(unit.conv.weight, weight, f"{number:02}.weight")
                unit.norm.load_state_dict(_identity(unit.norm))
                _assign(unit.norm.bias, bias, f"{number:02}.bias")
    except KeyError as error:
        raise ValueError(f"{path} is of another network: {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{path} is of another network: {error}") from None
    except Exception as error:  # of the file, the archive, its compression, ...
        raise ValueError(f"{path} is no .npz that can be read: {error}") from None


def _check_options(unit: ConvNormAct, number: int, options: object) -> None:
    conv = unit.conv
    act = RELU6 if isinstance(unit.act, nn.ReLU6) else NO_ACTIVATION
    wanted = [conv.stride[0], 1, act, int(conv.groups > 1)]
    if options != wanted:
        raise ValueError(
            f"{number:02}.opts (stride, dilation, activation, depthwise) is {options}, not {wanted}"
        )


def _identity(norm: nn.BatchNorm2d) -> dict[str, Tensor]:
    one = torch.ones(norm.num_features)
    return {
        "weight": one,
        "bias": one * 0,
        "running_mean": one * 0,
        "running_var": one - norm.eps,
        "num_batches_tracked": torch.zeros((), dtype=torch.long),
    }


def read_h5(path: Path) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Return the weights of a Keras file by layer and name.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        import h5py
    except ModuleNotFoundError:
        raise ValueError(f"{path}: reading .h5 files needs h5py (pip install h5py)") from None
    found: dict[tuple[str, str], NDArray[np.float32]] = {}

    def keep(name: str, item: object) -> None:
        parts = name.split("/")
        if isinstance(item, h5py.Dataset) and len(parts) > 1:
            found[parts[-2], parts[-1].partition(":")[0]] = np.asarray(item, np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except Exception as error:  # HDF5 raises a family of unrelated exception types
        raise ValueError(f"{path} is no .h5 that can be read: {error}") from None
    return found


@torch.no_grad()
def fill_from_keras(network: MobileNetV2, arrays: Arrays) -> None:
    """Load Keras's MobileNetV2 into a backbone of this package, complete or truncated.

    Raises:
        ValueError: a layer is missing or has another shape.
    """
    for unit, layer, norm in _keras_names(network):
        depthwise = unit.conv.groups > 1
        fill_convolution(unit.conv, arrays, layer, depthwise)
        fill_norm(unit.norm, arrays, norm)


def fill_convolution(conv: nn.Conv2d, arrays: Arrays, layer: str, depthwise: bool = False) -> None:
    """Load a convolution of Keras.

    Raises:
        ValueError: it is missing or has another shape.
    """
    # (h, w, in, out) to (out, in, h, w); a depthwise kernel is (h, w, in, 1).
    name, order = ("depthwise_kernel", (2, 3, 0, 1)) if depthwise else ("kernel", (3, 2, 0, 1))
    kernel = _array(arrays, layer, name)
    if kernel.ndim != 4:
        raise ValueError(f"{layer}/{name} has shape {kernel.shape}")
    _assign(conv.weight, kernel.transpose(order), f"{layer}/{name}")
    if conv.bias is not None:
        _assign(conv.bias, _array(arrays, layer, "bias"), f"{layer}/bias")


def fill_norm(norm: nn.BatchNorm2d, arrays: Arrays, layer: str, eps: float = KERAS_EPS) -> None:
    """Load a batch norm of Keras, whose epsilon may be another than ours.

    Raises:
        ValueError: it is missing or has another shape.
    """
    for theirs, ours in (
        ("gamma", norm.weight),
        ("beta", norm.bias),
        ("moving_mean", norm.running_mean),
        ("moving_variance", norm.running_var),
    ):
        assert ours is not None
        _assign(ours, _array(arrays, layer, theirs), f"{layer}/{theirs}")
    assert norm.running_var is not None
    norm.weight.mul_(((norm.running_var + norm.eps) / (norm.running_var + eps)).sqrt())


def _keras_names(network: MobileNetV2) -> Iterator[tuple[ConvNormAct, str, str]]:
    yield network.stem, "Conv1", "bn_Conv1"
    for number, block in enumerate(inverted_residuals(network.blocks)):
        prefix = f"block_{number}" if number else "expanded_conv"
        for part in ("expand", "depthwise", "project"):
            unit = getattr(block, part)
            if isinstance(unit, ConvNormAct):
                yield unit, f"{prefix}_{part}", f"{prefix}_{part}_BN"
    if isinstance(network.last, ConvNormAct):
        yield network.last, "Conv_1", "Conv_1_bn"


def _array(arrays: Arrays, layer: str, name: str) -> NDArray[np.float32]:
    if (layer, name) not in arrays:
        raise ValueError(f"there is no {layer}/{name}")
    return arrays[layer, name]


def _assign(target: Tensor, value: NDArray[np.float32], name: str) -> None:
    if tuple(target.shape) != value.shape:
        raise ValueError(f"{name} has shape {value.shape}, not {tuple(target.shape)}")
    target.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
