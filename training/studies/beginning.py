# SPDX-License-Identifier: Apache-2.0
"""What a training began with, beside its recipe: only with the same it goes on, or is finished.

It is written into the training's folder before the first step: a checkpoint says nothing of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from compact_yolo_ros.model.onnx_metadata import MOST_BYTES
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.files import replacing, sha256_of
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain

BEGINNING = "beginning.json"
RANDOM = "random weights"
DIGITS = 12
"""Of the SHA-256 of a file: enough to tell it from another one of this name."""


@dataclass(frozen=True)
class Beginning:
    """First weights and data.

    Attributes:
        origin: of the weights, in words; empty: they are random.
        data: digest of images, labels and classes; empty: neither is known.
    """

    origin: str = ""
    data: str = ""

    def check(self, wanted: Beginning, path: Path) -> None:
        """Raise ValueError unless the training that ``path`` is of began as ``wanted``."""
        if not self.data:  # an earlier version did not write it
            raise ValueError(
                f"{path.parent} does not say which weights and images its training began with: "
                "give another --out"
            )
        if self.data != wanted.data:
            raise ValueError(
                f"{path} is of a training on other images, labels or classes: give another --out"
            )
        if self.origin != wanted.origin:
            raise ValueError(
                f"{path} is of a training that began with {self.origin or RANDOM}, not with "
                f"{wanted.origin or RANDOM}: give another --out"
            )

    def write(self, folder: Path) -> None:
        """Write it into the folder of a training, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / BEGINNING) as temporary:
            temporary.write_text(json.dumps(to_plain(self), indent=1) + "\n")


def read_beginning(folder: Path) -> Beginning:
    """Return what the training of a folder began with, as far as the folder says it.

    Raises:
        ValueError: its file is damaged.
    """
    path = folder / BEGINNING
    if not path.exists():
        return Beginning()
    try:
        return from_plain(Beginning, read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): give another --out") from None


def named(path: Path) -> str:
    """Return a file's name with the begin of its SHA-256: a file may be replaced by another one."""
    return f"{path.name} (SHA-256 {sha256_of(path, MOST_BYTES)[:DIGITS]})"


def named_weights(weights: str) -> str:
    """Return ``named`` of weights to start from: a checkpoint, or the path or name of a model.

    Empty weights have an empty name.
    """
    if not weights:
        return ""
    return named(Path(weights) if weights.endswith(".pt") else find_model(weights).path)
