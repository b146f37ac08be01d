# SPDX-License-Identifier: Apache-2.0
"""Data sets in COCO JSON format (https://cocodataset.org/#format-data, object detection).

A split is ``{images: <folder>, annotations: <file.json>}``, or a list of such. Without ``names``
the classes are the file's categories in the order of their ids, which may have gaps. Crowds are
ignored; images without annotations show nothing.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from training.data.description import SPLITS, DataError, Description
from training.data.listing import Annotation, BadFile, Listing, Picture, check_size, clip

_IDS = ("id", "image_id", "category_id")


class _Box(NamedTuple):
    id: Any
    category: Any
    bbox: Any
    crowd: bool


def read(description: Description, split: str) -> Listing:
    """List a split in the order of its files."""
    pictures: list[Picture] = []
    bad_files: list[BadFile] = []
    names = description.names
    for folder, file in _parts(description, split):
        content = _read_json(file)
        categories = _categories(file, content)
        names = names or tuple(categories[number] for number in sorted(categories))
        if unknown := set(categories.values()) - set(names):
            raise DataError(
                f"{file} has the categories {sorted(unknown)}, which are not among 'names': leave"
                " 'names' out, and map classes in a data.yaml with 'sources'"
            )
        numbers = {number: names.index(name) for number, name in categories.items()}
        found, bad = _pictures(folder, file, content, numbers)
        pictures += found
        bad_files += bad
    return Listing(names or (), pictures, bad_files)


def read_names(description: Description) -> tuple[str, ...]:
    """Return the categories of the smallest annotation file, ordered by id."""
    files = [
        file
        for split in SPLITS
        if split in description.splits
        for _, file in _parts(description, split)
    ]
    if not files:
        raise DataError(f"{description.file} has neither 'names' nor a split")
    file = min(files, key=lambda path: path.stat().st_size if path.exists() else 0)
    categories = _categories(file, _read_json(file))
    return tuple(categories[number] for number in sorted(categories))


def _parts(description: Description, split: str) -> list[tuple[Path, Path]]:
    entry = description.split(split)
    parts = entry if isinstance(entry, list) else [entry]
    if not all(isinstance(part, dict) and {*part} == {"images", "annotations"} for part in parts):
        raise DataError(
            f"{description.file}: '{split}' must be {{images: <folder>, annotations: <file.json>}}"
        )
    root = description.root
    return [(root / str(part["images"]), root / str(part["annotations"])) for part in parts]


def _read_json(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    for key in ("images", "categories", "annotations"):
        table = content.get(key) if isinstance(content, dict) else None
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise DataError(f"{file} has no list '{key}', as COCO's object detection format asks")
        if any(isinstance(row.get(name), list | dict) for row in table for name in _IDS):
            raise DataError(f"{file}: an id in '{key}' is neither a number nor a text")
    return content


def _categories(file: Path, content: dict[str, list[dict[str, Any]]]) -> dict[int, str]:
    try:
        rows = [(int(row["id"]), str(row["name"])) for row in content["categories"]]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{file}: every category needs an 'id' and a 'name'") from None
    if not rows or len({i for i, _ in rows}) < len(rows) or len({n for _, n in rows}) < len(rows):
        raise DataError(f"{file}: categories are missing, or one is there twice")
    return dict(rows)


def _pictures(
    folder: Path, file: Path, content: dict[str, list[dict[str, Any]]], numbers: dict[int, int]
) -> tuple[list[Picture], list[BadFile]]:
    boxes: dict[Any, list[_Box]] = {}
    for row in content["annotations"]:
        box = _Box(row.get("id"), row.get("category_id"), row.get("bbox"), bool(row.get("iscrowd")))
        boxes.setdefault(row.get("image_id"), []).append(box)
    pictures, bad_files, seen = [], [], set()
    for row in content["images"]:
        number, name = row.get("id"), row.get("file_name")
        if number is None or not isinstance(name, str) or number in seen:
            bad_files.append(BadFile(file, f"image {number} has no id or file_name, or is double"))
            continue
        seen.add(number)
        size = (row["height"], row["width"]) if "height" in row and "width" in row else None
        annotate = partial(_annotate, boxes.get(number, []), numbers, size)
        pictures.append(Picture(folder / name, folder / name, annotate))
    for number in boxes.keys() - seen:
        bad_files.append(BadFile(file, f"annotations of image {number}, which is not listed"))
    return pictures, bad_files


def _annotate(
    rows: list[_Box],
    numbers: dict[int, int],
    size: tuple[int, int] | None,
    height: int,
    width: int,
) -> Annotation:
    if size:
        check_size(height, width, *size)
    for row in rows:
        if row.category not in numbers:
            raise ValueError(f"annotation {row.id} has the unknown category {row.category}")
    try:
        table = np.array([row.bbox for row in rows], np.float64).reshape(len(rows), 4)
    except (TypeError, ValueError):
        table = np.full((1, 4), np.nan)
    if not np.isfinite(table).all():
        raise ValueError("a 'bbox' is not four numbers: x, y, width, height")
    table[:, 2:] += table[:, :2]
    return Annotation(
        clip(table, height, width),
        np.array([numbers[row.category] for row in rows], np.int64),
        np.array([row.crowd for row in rows], bool),
    )
