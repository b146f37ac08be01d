# SPDX-License-Identifier: Apache-2.0
"""Average the weights of trainings that went on from the same weights.

    python -m training.average models/yolo_ret_m075.onnx runs/more/best.pt --out runs/mean.pt

The mean of their weights often generalises better than each of them ("model soups", Wortsman et
al., 2022, arXiv 2203.05482, section 2: the uniform soup). It costs no time when it runs. Trainings
that began from different weights have no mean that works.

The result is a checkpoint to evaluate, to export and to start from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from compact_yolo_ros.model.store import ModelError
from training.deployment.publishing import check_ending
from training.detectors.variant import Variant
from training.loop.checkpoint import save_checkpoint
from training.loop.provenance import source_commit
from training.weights.folded_norms import fold_norms
from training.weights.origin import read_weights


def averaged(weights: Sequence[str]) -> dict[str, Any]:
    """Return the checkpoint with the mean of weights, norms folded into the convolutions.

    Args:
        weights: checkpoints (.pt), or paths or names of FP32 models, of one detector and the same
            classes.

    Raises:
        ValueError: there are fewer than two, one cannot be read, or they differ in more than their
            values.
    """
    if len(weights) < 2:
        raise ValueError("an average needs two or more weights")
    detector, classes, total = read(weights[0])
    for other in weights[1:]:
        other_detector, other_classes, state = read(other)
        if (other_detector, other_classes) != (detector, classes):
            raise ValueError(
                f"{weights[0]} is a {detector} for {', '.join(classes)}; {other} is a "
                f"{other_detector} for {', '.join(other_classes)}"
            )
        total = {name: value + state[name] for name, value in total.items()}
    return {
        "detector": detector.to_settings(),
        "classes": classes,
        "average": {name: (value / len(weights)).float() for name, value in total.items()},
        "folded": True,
        "commit": source_commit(),
    }


def read(weights: str) -> tuple[Variant, list[str], Mapping[str, Tensor]]:
    """Return the detector, its classes, and its weights with folded norms, as float64."""
    origin = read_weights(weights)
    network = origin.build(weights)
    if not origin.folded:
        fold_norms(network)
    state = {name: value.double() for name, value in network.state_dict().items()}
    return origin.detector, list(origin.classes), state


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.average", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("weights", nargs="+", help="checkpoints (.pt), files or names of models")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write (.pt)")
    arguments = parser.parse_args()
    try:
        check_ending(arguments.out, ".pt")
        save_checkpoint(arguments.out, averaged(arguments.weights))
    except (ValueError, ModelError, OSError) as error:
        sys.exit(f"training.average: {error}")


if __name__ == "__main__":
    main()
