# SPDX-License-Identifier: Apache-2.0
"""Run darknet files with OpenCV 4, whose importer OpenCV 5 no longer has; for another Python.

    python opencv_darknet.py --cfg X --weights Y --pictures P.npz --size WIDTH HEIGHT --threshold T

``P.npz`` holds RGB pictures (h, w, 3) uint8. Printed as JSON: OpenCV's version, and for every
picture the candidates before suppression, [x1, y1, x2, y2 in picture pixels, score, label], best
first. OpenCV itself drops scores below 0.2. Needs numpy and OpenCV only.
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np


def candidates(
    net: cv2.dnn.Net, picture: np.ndarray, size: tuple[int, int], threshold: float
) -> list[list[float]]:
    net.setInput(cv2.dnn.blobFromImage(picture, 1 / 255, size))
    # centre, size relative to the picture, objectness, score of every class
    rows = np.concatenate(
        [
            np.reshape(out, (-1, out.shape[-1]))
            for out in net.forward(net.getUnconnectedOutLayersNames())
        ]
    )
    labels = rows[:, 5:].argmax(1)
    scores = rows[:, 5:].max(1)
    height, width = picture.shape[:2]
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = np.concatenate((centre - half, centre + half), 1) * [width, height, width, height]
    best = [i for i in np.argsort(-scores, kind="stable") if scores[i] >= threshold]
    return [
        [*(round(float(v), 3) for v in boxes[i]), round(float(scores[i]), 5), int(labels[i])]
        for i in best
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--size", type=int, nargs=2, required=True)
    parser.add_argument("--threshold", type=float, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    net = cv2.dnn.readNetFromDarknet(arguments.cfg, arguments.weights)
    pictures = np.load(arguments.pictures)
    size = tuple(arguments.size)
    found = {name: candidates(net, pictures[name], size, arguments.threshold) for name in pictures}
    print(json.dumps({"opencv": cv2.__version__, "pictures": found}))


if __name__ == "__main__":
    main()
