# SPDX-License-Identifier: Apache-2.0
"""Drawn pictures of two classes, and fresh detectors that answer as if they were trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml
from torch import nn

from training.data.sample import Sample

CLASSES = ("disc", "square")


def enliven(detector: nn.Module) -> None:
    """Give a fresh detector random norms, and outputs that differ from place to place.

    Kernels keep the size of a signal by themselves (He et al., 2015), so that no norm has to: those
    that subtract large means would amplify rounding errors.
    """
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            for scale in (module.weight, module.running_var):
                nn.init.uniform_(scale, 0.8, 1.2)
            for shift in (module.bias, module.running_mean):
                nn.init.normal_(shift, 0, 0.1)


def draw(rng: np.random.Generator, size: int = 96) -> Sample:
    """A grey picture with one or two large, bright shapes."""
    image = np.full((size, size, 3), 90, np.uint8)
    boxes, labels = [], []
    for left in rng.permutation([4, size // 2 + 2])[: rng.integers(1, 3)]:
        side = int(rng.integers(size // 4, size // 2 - 6))
        top = int(rng.integers(2, size - side - 2))
        label = int(rng.integers(2))
        if label == 0:
            centre = (int(left) + side // 2, top + side // 2)
            cv2.circle(image, centre, side // 2, (250, 240, 40), -1)
        else:
            corner = (int(left) + side - 1, top + side - 1)
            cv2.rectangle(image, (int(left), top), corner, (30, 60, 240), -1)
        boxes.append((left, top, left + side, top + side))
        labels.append(label)
    return Sample(image, np.array(boxes, np.float32), np.array(labels, np.int64), "drawn")


def write_set(folder: Path, shapes: Sequence[Sample], held_out: int = 4) -> Path:
    """Write pictures as a data set in YOLO's format; ``val`` has the first of them again."""
    for split, part in (("train", shapes), ("val", shapes[:held_out])):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number, sample in enumerate(part):
            cv2.imwrite(str(images / f"{number}.png"), sample.image[..., ::-1])
            rows = [
                f"{c} {(a + x) / 192} {(b + y) / 192} {(x - a) / 96} {(y - b) / 96}\n"
                for c, (a, b, x, y) in zip(sample.labels, sample.boxes, strict=True)
            ]
            (labels / f"{number}.txt").write_text("".join(rows))
    description = {"train": "images/train", "val": "images/val", "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(description))
    return folder / "data.yaml"
