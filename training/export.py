# SPDX-License-Identifier: Apache-2.0
"""Write a trained detector as one ONNX file that holds everything except letterbox and NMS.

    python -m training.export --weights runs/street/last.pt --out models/yolo_ret_m075.onnx \
        --words training/cards/yolo_ret_m075.yaml --data street/data.yaml

The model card as a page (.md) and the entry in manifest.yaml are written next to it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compact_yolo_ros.model.sizes import check_side
from training.data.dataset import open_split, read_classes
from training.data.findings import require_objects
from training.deployment.model_card import DEFAULT_SIZE, card_of, read_words, sizes, stated
from training.deployment.onnx_export import export, export_bare
from training.deployment.publishing import check_ending, publish
from training.evaluate import average_precision, predict
from training.loop.checkpoint import load_detector


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to ONNX.")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of training.train")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument(
        "--bare", action="store_true", help="only the network: float input, raw rows"
    )
    parser.add_argument("--words", type=Path, help="YAML: data, licence, recipe, notes of the card")
    parser.add_argument(
        "--data", type=Path, help="data.yaml: measure AP on its val split for the card"
    )
    parser.add_argument(
        "--default-size", type=int, default=DEFAULT_SIZE, help="side of the node's input by default"
    )
    arguments = parser.parse_args()
    try:
        _export(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"training.export: {error}")


def _check_bare(arguments: argparse.Namespace) -> None:
    """Raise ValueError if an option would have no effect."""
    for option, given in (
        ("words", arguments.words),
        ("data", arguments.data),
        ("default-size", arguments.default_size != DEFAULT_SIZE),
    ):
        if given:
            raise ValueError(f"--{option} is for the card, which --bare leaves out")


def _export(arguments: argparse.Namespace) -> None:
    check_ending(arguments.out)
    check_side(arguments.default_size)
    if arguments.bare:
        _check_bare(arguments)
    detector, checkpoint = load_detector(arguments.weights)
    if arguments.bare:
        export_bare(detector, arguments.out)
        return

    words = read_words(arguments.words) if arguments.words else {}
    ap = {}
    if arguments.data:
        if list(read_classes(arguments.data)) != checkpoint["classes"]:
            raise ValueError(f"{arguments.data} and {arguments.weights} have different classes")
        samples = open_split(arguments.data, "val")
        require_objects(arguments.data, "val", samples)
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
