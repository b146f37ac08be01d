# SPDX-License-Identifier: Apache-2.0
"""Read the weights of a model file of this package back into its detector, to train it further.

The exporter moves values (norms are folded, channels padded, constants split), but changes none
before they are rounded for the file. So the graph of the detector is made once more with a number
instead of every value: it shows where each value of the file belongs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from training.deployment.channel_alignment import BLOCK_BEFORE, align_channels
from training.deployment.onnx_export import deployed_graph
from training.deployment.weight_storage import read_graph
from training.detectors.blocks import ConvNormAct, statistics
from training.detectors.interface import Detector, Module
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant
from training.weights.folded_norms import neutral_norms

# Above all numbers that a graph holds besides its weights: anchors, strides, limits.
FIRST_NUMBER = 4096
# float32 counts whole numbers exactly up to here.
LAST_NUMBER = 2**24
# Largest weight of a kernel that a training begins with. Where the input of a channel is nearly
# always 0, its norm divides by the root of eps, and each training that began with the result of the
# one before could multiply the kernel by 300: FP16 ends at 65504.
LARGEST = 64.0

Constants = dict[tuple[str, int], NDArray[np.float32]]


def read_exported(path: Path) -> tuple[Detector, ModelCard]:
    """Return the detector of an exported ONNX file, in evaluation mode, and the file's card.

    The norms of the detector are identities, because the file has them folded into the
    convolutions. Call ``measure_norms`` before training with norms that follow their batches.

    Raises:
        ValueError: the file is not an FP32 or FP16 export of a detector of the registry.
    """
    try:
        model = read_graph(path)
        card = ModelCard.from_json(
            {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
        )
    except (OSError, DecodeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a model file of this package: {error}") from None
    if card.precision == "fp16":
        _widen(model.graph)
    elif card.precision != "fp32":
        raise ValueError(f"{path} is {card.precision}: start from the fp32 file it was made of")
    detector = variant_of(card, path).build(len(card.classes)).eval()
    if (detector.grid.anchors, detector.grid.strides) != (card.anchors, card.strides):
        raise ValueError(f"{path}: its anchors are not those of {card.detector_text}")
    neutral_norms(detector)
    real = _constants(model)
    numbered = _numbered(detector, card)
    if not (
        _fill(detector, _constants(numbered), real)
        or _fill(detector, _constants(align_channels(numbered, BLOCK_BEFORE)), real)
    ):
        raise ValueError(f"{path} was not written by this exporter: weights could not be found")
    return detector, card


def _widen(graph: onnx.GraphProto) -> None:
    """Make an FP16 graph one of FP32 that computes with the same, rounded, values."""
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            _widen_tensor(attribute.t)
    for tensor in graph.initializer:
        _widen_tensor(tensor)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def variant_of(card: ModelCard, path: Path) -> Variant:
    """Return the detector that a card names.

    Raises:
        ValueError: it is none of the registry; ``path`` is named in the sentence.
    """
    if card.detector not in DETECTORS:
        raise ValueError(f"{path}: its detector {card.detector!r} is not one that can be trained")
    try:
        return Variant.from_settings({"name": card.detector, **card.detector_options})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@torch.no_grad()
def measure_norms(
    network: Module, images: Tensor, units: Sequence[ConvNormAct] | None = None
) -> None:
    """Give every batch norm the statistics of images, without changing what it computes.

    Scale and shift compensate for the new statistics, and the scale for kernels that get smaller:
    see ``LARGEST``.

    Args:
        network: changed in place.
        images: (N, 3, H, W), RGB in 0..1.
        units: whose norms; None: all of the network.
    """

    def measure(unit: ConvNormAct, inputs: tuple[Tensor]) -> None:
        running_mean, running_variance = statistics(unit.norm)
        kernel_scale = unit.norm.weight * torch.rsqrt(running_variance + unit.norm.eps)
        shift = unit.norm.bias - running_mean * kernel_scale
        excess = (unit.conv.weight.abs().amax((1, 2, 3)) / LARGEST).clamp(min=1)
        unit.conv.weight.div_(excess[:, None, None, None])
        kernel_scale = kernel_scale * excess
        variance, mean = torch.var_mean(unit.conv(unit.pad(inputs[0])), (0, 2, 3), correction=0)
        running_mean.copy_(mean)
        running_variance.copy_(variance)
        unit.norm.weight.copy_(kernel_scale * torch.sqrt(variance + unit.norm.eps))
        unit.norm.bias.copy_(shift + mean * kernel_scale)

    if units is None:
        units = [m for m in network.modules() if isinstance(m, ConvNormAct)]
    hooks = [unit.register_forward_pre_hook(measure) for unit in units]
    training = network.training
    network.eval()(images)
    network.train(training)
    for hook in hooks:
        hook.remove()


def _free_parameters(detector: Detector) -> Iterator[nn.Parameter]:
    """Yield the parameters that a file holds: all except the scales of the neutral norms."""
    scales = {id(m.norm.weight) for m in detector.modules() if isinstance(m, ConvNormAct)}
    return (p for p in detector.parameters() if id(p) not in scales)


@torch.no_grad()
def _numbered(detector: Detector, card: ModelCard) -> onnx.ModelProto:
    """Number all values of ``detector``, and return the graph that is deployed."""
    count = FIRST_NUMBER
    for parameter in _free_parameters(detector):
        numbers = torch.arange(count, count + parameter.numel(), dtype=torch.float32)
        parameter.copy_(numbers.reshape(parameter.shape))
        count += parameter.numel()
    if count > LAST_NUMBER:
        raise ValueError(f"{card.detector} has too many parameters to be read back")
    return deployed_graph(detector)


def _constants(model: onnx.ModelProto) -> Constants:
    """Return the float32 constants by the output of their reader and the place of the input."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        (node.output[0], place): tensors[name].astype(np.float32)
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if name in tensors and tensors[name].dtype == np.float32
    }


@torch.no_grad()
def _fill(detector: Detector, numbered: Constants, real: Constants) -> bool:
    """Give the detector the file's values; return whether all of its own were found."""
    free = list(_free_parameters(detector))
    values = np.full(sum(p.numel() for p in free), np.nan, np.float32)
    for key, numbers in numbered.items():
        if key in real and real[key].shape == numbers.shape:
            known = numbers >= FIRST_NUMBER
            values[numbers[known].astype(np.int64) - FIRST_NUMBER] = real[key][known]
    if np.isnan(values).any():
        return False
    parts = torch.split(torch.from_numpy(values), [p.numel() for p in free])
    for parameter, part in zip(free, parts, strict=True):
        parameter.copy_(part.reshape(parameter.shape))
    return True
