# SPDX-License-Identifier: Apache-2.0
"""Small data sets of drawn pictures, written in each format."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import yaml


def describe(folder: Path, **content: object) -> Path:
    """Write ``data.yaml`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def draw_image(path: Path, seed: int, shape: tuple[int, int] = (40, 80)) -> None:
    """Write a picture (height, width) that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*shape, 3), 40 + seed, np.uint8)
    cv2.rectangle(image, (10 + seed, 5), (30 + seed, 25), (200, 30, 90), -1)
    cv2.imwrite(str(path), image)


def write_yolo(
    folder: Path, images: dict[str, str], names: list[str], split: str = "train", **more: object
) -> Path:
    """Write pictures with label texts."""
    for number, (name, text) in enumerate(images.items()):
        draw_image(folder / f"images/{split}/{name}.png", number)
        label = folder / f"labels/{split}/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)
    return describe(folder, names=names, **{split: f"images/{split}"}, **more)


def voc_object(name: str, box: tuple[float, ...], difficult: int = 0) -> str:
    """Return the XML of one object; ``box`` counts pixels from 1, the last one included."""
    tags = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{tags}</bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
        "</bndbox></part></object>"
    )


def write_voc(
    folder: Path, year: str, image_set: str, images: dict[str, list[str]], seed: int = 0
) -> None:
    """Write pictures with lists of ``voc_object``."""
    root = folder / year
    for part in ("Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / f"ImageSets/Main/{image_set}.txt").write_text("".join(f"{name}\n" for name in images))
    for number, (name, objects) in enumerate(images.items()):
        draw_image(root / f"JPEGImages/{name}.jpg", seed + number)
        size = "<size><width>80</width><height>40</height><depth>3</depth></size>"
        xml = f"<annotation>{size}{''.join(objects)}</annotation>"
        (root / f"Annotations/{name}.xml").write_text(xml)


def write_coco(
    folder: Path,
    categories: dict[int, str],
    annotations: list[dict],
    images: int,
    split: str = "train",
) -> Path:
    """Write pictures with the ids 10, 11, ... and their annotations; return the JSON file."""
    rows = []
    for number in range(images):
        draw_image(folder / split / f"{number}.jpg", number)
        rows.append({"id": 10 + number, "file_name": f"{number}.jpg", "height": 40, "width": 80})
    content = {
        "images": rows,
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
        "annotations": [
            {"id": 1 + n, "iscrowd": 0, "area": 1.0, **row} for n, row in enumerate(annotations)
        ],
    }
    path = folder / f"{split}.json"
    path.write_text(json.dumps(content))
    return path
