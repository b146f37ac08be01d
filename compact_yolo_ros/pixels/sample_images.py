# SPDX-License-Identifier: Apache-2.0
"""Images that every machine has: pieces of the models' sheets, and generated ones."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.support.resources import resource_directory

PIECE = 360
"""Width in pixels of a piece of a sheet; the last piece overlaps the one before."""


def sample_images() -> list[NDArray[np.uint8]]:
    """Images (H, W, 3) uint8 BGR, the same on every machine, with and without objects."""
    return [*_pieces_of_sheets(), *_generated()]


def _pieces_of_sheets() -> list[NDArray[np.uint8]]:
    """One piece of each sheet, of each the next one: most sheets show the same pictures."""
    found: list[NDArray[np.uint8]] = []
    for number, path in enumerate(sorted(resource_directory("models").glob("*.webp"))):
        content = np.fromfile(path, np.uint8)
        sheet = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
        if sheet is None:
            continue
        last = max(0, sheet.shape[1] - PIECE)
        lefts = sorted({*range(0, last, PIECE), last})
        left = lefts[number % len(lefts)]
        found.append(np.ascontiguousarray(sheet[:, left : left + PIECE]))
    return found


def _generated() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (480, 640, 3), np.uint8)
    ramp = np.broadcast_to(np.linspace(0, 255, 640, dtype=np.uint8)[None, :, None], (480, 640, 3))
    blocks = cv2.resize(
        random.integers(0, 256, (6, 8, 3), np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST
    )
    return [noise, ramp.copy(), np.asarray(blocks, np.uint8)]
