# SPDX-License-Identifier: Apache-2.0
"""The files next to a model file: its card as a page, a sheet of images, and the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import MANIFEST, ManifestEntry, read_manifest
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.folder_lock import waiting_for
from compact_yolo_ros.support.plain_values import to_plain
from training.deployment.model_card import to_markdown

LOCK = ".manifest.lock"
"""Stays beside the manifest; not the folder is locked, which may be that of a training."""
SHEET_ENDING = ".webp"
SHEET_SIDE = 16383
"""Most pixels along a side of a WebP file."""
SHEET_QUALITY = 80
"""Captions and curves stay sharp, and a sheet of six pictures takes 70 kB: a tenth of a PNG."""


def check_ending(out: Path, ending: str = ".onnx") -> None:
    """Check the name of a file to write.

    Raises:
        ValueError: it does not end in ``ending``.
    """
    if out.suffix != ending:
        raise ValueError(f"--out {out} must end in {ending}")


def write_sheet(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write a sheet, (h, w, 3) uint8 BGR, as WebP.

    Raises:
        ValueError: it is larger than a WebP file can be.
        OSError: the file cannot be written.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > SHEET_SIDE:
        raise ValueError(
            f"a sheet of {width} x {height} pixels is too large: WebP has at most {SHEET_SIDE} "
            "along a side, so show less in it"
        )
    done, encoded = cv2.imencode(SHEET_ENDING, pixels, [cv2.IMWRITE_WEBP_QUALITY, SHEET_QUALITY])
    if not done:
        raise ValueError(f"OpenCV cannot write {path} as WebP")
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def publish(card: ModelCard, path: Path) -> None:
    """Write the card of an ONNX file as a page (.md), and enter the file in the manifest."""
    text = to_markdown(card, path.stat().st_size)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    enter_in_manifest(path)


def enter_in_manifest(path: Path) -> None:
    """Enter an ONNX file with its SHA-256 in the manifest.yaml of its folder.

    Raises:
        ValueError: there is one that is damaged.
    """
    manifest = path.with_name(MANIFEST)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with waiting_for(path.with_name(LOCK)):
        try:
            entries = read_manifest(manifest) if manifest.exists() else {}
        except ValueError as error:
            raise ValueError(f"{manifest} cannot be used: {error}") from None
        entries[path.stem] = ManifestEntry(path.name, digest)
        with replacing(manifest) as temporary:
            temporary.write_text(yaml.safe_dump(to_plain(entries)))
