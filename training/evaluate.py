# SPDX-License-Identifier: Apache-2.0
"""Average precision of a detector on labelled images.

python -m training.evaluate --weights runs/street/last.pt --data street/data.yaml --size 320
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from torch import nn

from compact_yolo_ros.detections import Detections
from compact_yolo_ros.letterbox import Letterbox
from compact_yolo_ros.suppression import Selection, select
from training.data.dataset import open_split
from training.data.sample import Sample
from training.predictor import Predictor

# As for the paper's tables: nearly every candidate counts, suppression at IoU 0.5.
EVERYTHING = Selection(score_threshold=0.001, iou_threshold=0.5, max_detections=100)


@torch.no_grad()
def predict(
    model: nn.Module, samples: Sequence[Sample], size: int, batch_size: int = 8
) -> list[Detections]:
    """Return the detections of every sample, boxes in the sample's own pixels.

    Images are letterboxed to (size, size) exactly as at run time.
    """
    predictor = Predictor(model).eval()
    results = []
    for first in range(0, len(samples), batch_size):
        part = samples[first : first + batch_size]
        images = np.empty((len(part), size, size, 3), np.uint8)
        places = [Letterbox(out)(s.image, "rgb") for out, s in zip(images, part, strict=True)]
        for place, *rows in zip(places, *predictor(torch.from_numpy(images)), strict=True):
            found = select(*(r.numpy() for r in rows), EVERYTHING)
            results.append(Detections(place.to_source(found.boxes), found.scores, found.labels))
    return results


def average_precision(
    samples: Sequence[Sample], detections: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """Return COCO's AP and AP50, and AP50 of every class as "AP50 <class>" (nan: none there)."""
    truth = {
        "images": [{"id": i} for i in range(len(samples))],
        "categories": [{"id": c, "name": name} for c, name in enumerate(classes)],
        "annotations": [],
    }
    for i, sample in enumerate(samples):
        for box, label in zip(_xywh(sample.boxes), sample.labels.tolist(), strict=True):
            number = len(truth["annotations"]) + 1
            truth["annotations"].append(
                {
                    "id": number,
                    "image_id": i,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    found = [
        {"image_id": i, "category_id": int(label), "bbox": box, "score": float(score)}
        for i, d in enumerate(detections)
        for box, label, score in zip(_xywh(d.boxes), d.labels, d.scores, strict=True)
    ]
    if not found:
        return {"AP": 0.0, "AP50": 0.0} | {f"AP50 {name}": 0.0 for name in classes}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval_faster(
            coco, coco.loadRes(found), "bbox", print_function=lambda *_: None
        )
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU threshold, recall, class, area range, detections an image); -1 where a class is absent.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    per_class = np.where(precision < 0, np.nan, precision).mean(1)
    result = {"AP": float(np.nanmean(per_class)), "AP50": float(np.nanmean(per_class[0]))}
    return result | {f"AP50 {name}": float(per_class[0, c]) for c, name in enumerate(classes)}


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).astype(float).tolist()


def main() -> None:
    """Command line."""
    # Imported here because the checkpoint reader belongs to the loop, which imports this module.
    from training.checkpoint import load_detector

    parser = argparse.ArgumentParser(
        description="Print AP of a checkpoint as JSON, one line a size."
    )
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint of training.train")
    parser.add_argument("--data", type=Path, required=True, help="data.yaml")
    parser.add_argument("--split", default="val")
    parser.add_argument("--size", type=int, nargs="+", default=[320], help="sides in pixels")
    arguments = parser.parse_args()
    model, checkpoint = load_detector(arguments.weights)
    samples = open_split(arguments.data, arguments.split)
    for size in arguments.size:
        scores = average_precision(samples, predict(model, samples, size), checkpoint["classes"])
        print(json.dumps({"size": size} | {k: round(v, 4) for k, v in scores.items()}))


if __name__ == "__main__":
    main()
