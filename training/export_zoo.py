# SPDX-License-Identifier: Apache-2.0
"""Export every detector with random weights, to measure its speed before it is trained.

python -m training.export_zoo zoo
python -m training.export_zoo zoo --only yolo_fastest '{name: yolo_ret_m075, neck: fpn}'
benchmark --zoo zoo --reference yolo_fastest --out docs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import track
from torch import nn

from compact_yolo_ros.model.card import ModelCard
from training.deployment.model_card import DEFAULT_SIZE
from training.deployment.onnx_export import export
from training.detectors.complexity import macs, parameters
from training.detectors.registry import DETECTORS
from training.detectors.variant import Variant

SEED = 0


def export_untrained(text: str, path: Path) -> None:
    """Write a detector with random weights, for the input size of its publication.

    Args:
        text: a name, or one with options, as ``Variant.parse`` takes it.
        path: the ONNX file.
    """
    variant = Variant.parse(text)
    torch.manual_seed(SEED)
    detector = variant.build().eval()
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            # Signals that die out would reach denormal numbers, which are slow.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    published = variant.spec.published
    size = published.side if published else DEFAULT_SIZE
    with torch.device("meta"):
        counted = variant.build()
        gmac = macs(counted, size, size) / 1e9
    card = ModelCard(
        path.stem,
        variant.name,
        tuple(f"class {number}" for number in range(detector.num_classes)),
        size,
        parameters=parameters(counted),
        gmacs={str(size): gmac},
        notes="Random weights: it measures speed and detects nothing.",
        detector_options=variant.options,
    )
    export(detector, path, card)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="existing files in it are kept")
    parser.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="DETECTOR",
        help="these: names, or '{name: ..., options}' [all]",
    )
    arguments = parser.parse_args()
    folder = arguments.folder
    try:
        variants = [Variant.parse(text) for text in arguments.only or sorted(DETECTORS)]
    except ValueError as error:
        parser.error(str(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for variant in track(variants, "Exporting"):
            path = folder / f"{variant.file_name}.onnx"
            if not path.exists():
                export_untrained(str(variant), path)
    except OSError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
