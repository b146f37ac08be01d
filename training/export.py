# SPDX-License-Identifier: Apache-2.0
"""Write a trained detector as one ONNX file that holds all but letterbox and suppression.

    python -m training.export --weights runs/street/last.pt --out models/yolo_ret_m075.onnx \
        --words training/cards/yolo_ret_m075.yaml --data street/data.yaml

Beside it go the model card in readable form (.md) and the entry in manifest.yaml.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxslim
import torch
import yaml
from torch import Tensor, nn

from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.support.files import replacing
from training.data.dataset import open_split, read_classes
from training.deployment.card import DEFAULT_SIZE, card_of, read_words, sizes, stated, to_markdown
from training.deployment.channel_alignment import align_channels
from training.deployment.predictor import CANDIDATES, Predictor
from training.detectors.blocks import ConvNormAct
from training.detectors.heads import flatten
from training.evaluate import average_precision, predict
from training.loop.checkpoint import load_detector
from training.quantisation.fake import is_prepared, plain, to_int8

# The newest that TensorRT 8.6 reads.
OPSET = 17
SAMPLE = (1, 224, 320, 3)


class BareNetwork(nn.Module):
    """Images (N, 3, H, W) float32 in 0..1 to rows (N, R, 5 + C): the network and no more."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        return flatten(self.detector(images), self.detector.grid.per_cell)


def fused(model: nn.Module) -> nn.Module:
    """Return a copy whose batch norms are part of their convolutions."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, ConvNormAct):
            model.set_submodule(name, module.deployed())
    return model.requires_grad_(False)


def export(detector: nn.Module, path: Path, card: ModelCard) -> None:
    """Write ``detector`` (float input 0..1) as the deployed graph with its card.

    Input ``images`` uint8 (N, H, W, 3) RGB; outputs as of ``Predictor``. A detector that was
    prepared for INT8 gives a Q/DQ graph with the scales that it has learnt.
    """
    rounds = is_prepared(detector)
    axes = {"images": {0: "batch", 1: "height", 2: "width"}}
    axes |= {name: {0: "batch"} for name in ("boxes", "scores", "labels")}
    images = torch.zeros(SAMPLE, dtype=torch.uint8)
    model = _trace(Predictor(fused(plain(detector) if rounds else detector)), images, axes)
    if rounds:
        model = to_int8(detector, model)
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_value = CANDIDATES
    onnx.checker.check_model(model, full_check=True)
    save(model, card, path)


def save(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Write ``model`` with ``card`` in its metadata."""
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    _write(model, path)


def export_bare(detector: nn.Module, path: Path) -> None:
    """Write the network alone (``BareNetwork``), the yardstick for what the deployed graph adds."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "rows": {0: "batch", 1: "rows"}}
    images = torch.zeros(SAMPLE).permute(0, 3, 1, 2).contiguous()
    _write(_trace(BareNetwork(fused(detector)), images, axes), path)


def _trace(module: nn.Module, images: Tensor, axes: dict[str, dict[int, str]]) -> onnx.ModelProto:
    names = list(axes)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The tracing exporter is the one that needs no further package; it warns of its successor,
        # and of shapes read as numbers, which it nevertheless records as graph operations.
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


def _write(model: onnx.ModelProto, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def publish(card: ModelCard, path: Path) -> None:
    """Write a card as a page (.md) beside its ONNX file, and enter the file in the manifest."""
    text = to_markdown(card, path.stat().st_size)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    enter_in_manifest(path)


def enter_in_manifest(path: Path) -> None:
    """Enter an ONNX file under its stem in the manifest.yaml beside it, with its SHA-256."""
    manifest = path.with_name("manifest.yaml")
    entries = yaml.safe_load(manifest.read_text()) if manifest.exists() else {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entries = (entries or {}) | {path.stem: {"file": path.name, "sha256": digest}}
    with replacing(manifest) as temporary:
        temporary.write_text(yaml.safe_dump(entries))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to ONNX.")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of training.train")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--bare", action="store_true", help="the network alone: float input, raw rows"
    )
    parser.add_argument("--words", type=Path, help="YAML: data, licence, recipe, notes of the card")
    parser.add_argument(
        "--data", type=Path, help="data.yaml: measure AP on its val split for the card"
    )
    parser.add_argument(
        "--default-size", type=int, default=DEFAULT_SIZE, help="input the node takes unless asked"
    )
    arguments = parser.parse_args()
    try:
        _export(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"training.export: {error}")


def check_ending(out: Path) -> None:
    """Raise ValueError for a file that nothing would take for a model."""
    if out.suffix != ".onnx":
        raise ValueError(f"--out {out} must end in .onnx")


def _export(arguments: argparse.Namespace) -> None:
    check_ending(arguments.out)
    check_side(arguments.default_size)
    detector, checkpoint = load_detector(arguments.weights)
    if arguments.bare:
        export_bare(detector, arguments.out)
        return

    words = read_words(arguments.words) if arguments.words else {}
    ap = {}
    if arguments.data:
        if list(read_classes(arguments.data)) != checkpoint["classes"]:
            raise ValueError(f"{arguments.data} has not the classes of {arguments.weights}")
        samples = open_split(arguments.data, "val")
        for size in sizes(arguments.default_size):
            scores = average_precision(
                samples, predict(detector, samples, size), checkpoint["classes"]
            )
            ap[str(size)] = stated(scores)
    name, default_size = arguments.out.stem, arguments.default_size
    card = card_of(name, detector, checkpoint, words, ap, default_size)
    export(detector, arguments.out, card)
    publish(card, arguments.out)


if __name__ == "__main__":
    main()
