# SPDX-License-Identifier: Apache-2.0
"""The files next to a model file: its card as a page, and its entry in the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.support.files import replacing
from training.deployment.model_card import to_markdown


def check_ending(out: Path) -> None:
    """Check the name of an ONNX file to write.

    Raises:
        ValueError: it does not end in .onnx.
    """
    if out.suffix != ".onnx":
        raise ValueError(f"--out {out} must end in .onnx")


def publish(card: ModelCard, path: Path) -> None:
    """Write the card of an ONNX file as a page (.md), and enter the file in the manifest."""
    text = to_markdown(card, path.stat().st_size)
    with replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    enter_in_manifest(path)


def enter_in_manifest(path: Path) -> None:
    """Enter an ONNX file with its SHA-256 in the manifest.yaml of its folder."""
    manifest = path.with_name("manifest.yaml")
    entries = yaml.safe_load(manifest.read_text()) if manifest.exists() else {}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entries = (entries or {}) | {path.stem: {"file": path.name, "sha256": digest}}
    with replacing(manifest) as temporary:
        temporary.write_text(yaml.safe_dump(entries))
