# SPDX-License-Identifier: Apache-2.0
"""Plot the accuracy of a model, on a sheet for its card: for data whose images may not be shown.

    python -m training.figure_sheet --weights models/yolo_ret_m075_robocup.onnx \
        --data robocup/data.yaml --size 416 --out models/yolo_ret_m075_robocup.webp

The plots are those of the HTML report of ``training.evaluate``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.evaluation import ClassMapping, Evaluation, evaluate
from compact_yolo_ros.evaluation.plots import (
    by_size,
    legend,
    literal,
    precision_recall,
    score_curve,
)
from compact_yolo_ros.model.sizes import check_side
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.support.arguments import add_rename
from training.data.dataset import open_split
from training.deployment.publishing import SHEET_ENDING, check_ending, write_sheet
from training.evaluate import open_model, truths_of

DOTS_PER_INCH = 110


def sheet(evaluation: Evaluation) -> NDArray[np.uint8]:
    """Return (h, w, 4) uint8 RGBA: precision over recall, F1 over score, recall, AP by size."""
    figures = [
        precision_recall(evaluation),
        score_curve(evaluation, "f1"),
        score_curve(evaluation, "recall"),
        by_size(evaluation),
    ]
    axes = figures[0].axes[0]
    for name, colour in legend(evaluation).items():
        axes.plot([], [], color=colour, label=literal(name))
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    top, bottom = (np.hstack([_pixels(f) for f in pair]) for pair in (figures[:2], figures[2:]))
    return np.vstack((top, bottom))


def _pixels(figure: Any) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(DOTS_PER_INCH)
    figure.set_facecolor("white")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Plot the accuracy of a model on labelled images.")
    parser.add_argument("--weights", required=True, help="checkpoint, ONNX file or name of a model")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml")
    parser.add_argument("--split", default="val")
    parser.add_argument("--size", type=int, default=320, help="side of the input in pixels")
    add_rename(parser)
    parser.add_argument("--out", type=Path, required=True, help="WebP file to write")
    options = parser.parse_args()
    try:
        check_ending(options.out, SHEET_ENDING)
        check_side(options.size)
        model = open_model(options.weights)
        samples = open_split(options.data, options.split, cache="none")
        mapping = ClassMapping.match(model.classes, samples.classes, dict(options.rename))
        truths = [mapping.truth(truth) for truth in truths_of(samples)]
        found = [mapping.detections(answer) for answer in model.detect(samples, options.size)]
        pixels = sheet(evaluate(truths, found, mapping.classes))
        write_sheet(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR), np.uint8), options.out)
    except (ModelError, BackendError, ValueError, OSError) as error:
        print(f"training.figure_sheet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
