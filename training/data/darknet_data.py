# SPDX-License-Identifier: Apache-2.0
"""darknet's ``obj.data``: lines ``names = obj.names``, ``train = train.txt``, ``valid = ...``."""

from __future__ import annotations

from pathlib import Path

from compact_yolo_ros.labels.yolo import listed_names, read_lines
from training.data.image_files import find_path

SUFFIX = ".data"
_KEYS = {"train": "train", "valid": "val", "test": "test"}
"""Our names of its splits."""


def read_data_file(file: Path) -> dict[str, object]:
    """Return what a ``data.yaml`` of the same data set would hold.

    Raises:
        ValueError, OSError: it or its file of names cannot be read.
    """
    pairs = (line.partition("=") for line in read_lines(file))
    content = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    splits = {ours: content[theirs] for theirs, ours in _KEYS.items() if content.get(theirs)}
    if "names" not in content:
        raise ValueError("has no line 'names = FILE'")
    names = listed_names(find_path(content["names"], file.parent))
    return {"names": list(names), **splits}
