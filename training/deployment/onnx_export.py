# SPDX-License-Identifier: Apache-2.0
"""A detector as an ONNX graph: everything except letterbox and NMS, or the bare network."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import onnx
import onnxslim
import torch
from torch import Tensor, nn

from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from compact_yolo_ros.support.files import replacing
from training.deployment.channel_alignment import align_channels
from training.deployment.predictor import CANDIDATES, Predictor
from training.deployment.weight_storage import stored
from training.detectors.anchor_grid import flatten
from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Module, Network, as_module
from training.quantisation.quantisation_aware import is_prepared, plain, to_int8

M = TypeVar("M", bound=Module)

# The newest that TensorRT 8.6 reads.
OPSET = 17
# Height and width of the image that a network is traced with.
SAMPLE = (224, 320)


class BareNetwork(nn.Module):
    """Images (N, 3, H, W) float32, RGB in 0..1, to rows (N, R, 5 + C): only the network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.per_cell = network.grid.per_cell
        self.detector = as_module(network)

    def forward(self, images: Tensor) -> Tensor:
        return flatten(self.detector(images), self.per_cell)


def fused(model: M) -> M:
    """Return a copy in evaluation mode, its batch norms folded into the convolutions."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, ConvNormAct):
            model.set_submodule(name, module.deployed())
    return model.requires_grad_(False)


def export(detector: Network, path: Path, card: ModelCard) -> None:
    """Write the ``deployed_graph`` of a detector with its card."""
    shape = card.own_size.shape if card.any_size else SAMPLE
    save(deployed_graph(detector, shape), card, path)


def deployed_graph(detector: Network, shape: tuple[int, int] = SAMPLE) -> onnx.ModelProto:
    """Return a detector as the graph that is deployed (``Predictor``).

    The input ``images`` is (N, H, W, 3) uint8, RGB; the outputs are ``boxes``, ``scores`` and
    ``labels``. A detector that was prepared for INT8 gives a Q/DQ graph with its learnt scales.

    Args:
        detector: maps images (N, 3, H, W), RGB in 0..1, to raw maps.
        shape: (height, width) of the image in pixels that it is traced with.
    """
    axes = {"images": {0: "batch", 1: "height", 2: "width"}}
    axes |= {name: {0: "batch"} for name in ("boxes", "scores", "labels")}
    images = torch.zeros(1, *shape, 3, dtype=torch.uint8)
    model = _graph(Predictor, detector, images, axes)
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = CANDIDATES
    onnx.checker.check_model(model, full_check=True)
    return model


def save(
    model: onnx.ModelProto, card: ModelCard, path: Path, keep_float32: Collection[str] = ()
) -> None:
    """Write an ONNX graph with its card in the metadata, its weights as ``stored`` has them.

    Args:
        model: the graph; its weights are plain constants.
        card: for its metadata.
        path: the ONNX file.
        keep_float32: convolutions whose kernels stay float32; names with ``*``.
    """
    model = stored(model, keep_float32)
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    write(model, path)


def export_bare(detector: Network, path: Path) -> None:
    """Write only the network (``BareNetwork``), to measure what the deployed graph adds."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "rows": {0: "batch", 1: "rows"}}
    images = torch.zeros(1, 3, *SAMPLE)
    write(_graph(BareNetwork, detector, images, axes), path)


def _graph(
    form: Callable[[Network], nn.Module],
    detector: Network,
    images: Tensor,
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:
    """Return the graph of a detector in a form; of one that rounds, with its Q/DQ nodes."""
    if not is_prepared(detector):
        return _trace(form(fused(detector)), images, axes)
    return to_int8(detector, _trace(form(fused(plain(detector))), images, axes))


def _trace(module: nn.Module, images: Tensor, axes: dict[str, dict[int, str]]) -> onnx.ModelProto:
    names = list(axes)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracing exporter needs no further package. It warns about its successor, and about
        # shapes that are read as numbers, which it records as graph operations anyway.
        warnings.simplefilter("ignore")
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            module.eval(),
            (images,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=axes,
        )
        model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.name = node.input[1].removesuffix(".weight")  # the path of its module
    return align_channels(onnxslim.slim(model))


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model`` as it is."""
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
