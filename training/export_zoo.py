# SPDX-License-Identifier: Apache-2.0
"""Export every detector with random weights, to measure its speed before it is trained.

python -m training.export_zoo zoo
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
from training.detectors.registry import DETECTORS, build, find_detector

SEED = 0


def export_untrained(name: str, path: Path) -> None:
    """Write the detector ``name`` with random weights, for the input size of its publication."""
    torch.manual_seed(SEED)
    detector = build(name).eval()
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            # Signals that die out would reach denormal numbers, which are slow.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    published = find_detector(name).published
    size = published.side if published else DEFAULT_SIZE
    with torch.device("meta"):
        counted = build(name)
        gmac = macs(counted, size, size) / 1e9
    card = ModelCard(
        name,
        name,
        tuple(f"class {number}" for number in range(detector.num_classes)),
        size,
        parameters=parameters(counted),
        gmacs={str(size): gmac},
        notes="Random weights: it measures speed and detects nothing.",
    )
    export(detector, path, card)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="existing files in it are kept")
    parser.add_argument(
        "--only", nargs="+", choices=DETECTORS, default=sorted(DETECTORS), help="these detectors"
    )
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in track(arguments.only, "Exporting"):
        path = folder / f"{name}.onnx"
        if not path.exists():
            export_untrained(name, path)


if __name__ == "__main__":
    main()
