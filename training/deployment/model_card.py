# SPDX-License-Identifier: Apache-2.0
"""The model card of a trained detector: measured figures and written text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.markdown import markdown_table
from compact_yolo_ros.support.plain_values import from_plain
from compact_yolo_ros.support.yaml_files import read_yaml
from training.detectors.complexity import macs, parameters
from training.detectors.interface import Network
from training.detectors.variant import name_and_options
from training.quantisation.quantisation_aware import is_prepared, plain

SIZES = (224, 320, 416)
DEFAULT_SIZE = 320
WORDS = {"data", "licence", "recipe", "ap_data", "notes"}


def sizes(default_size: int) -> list[int]:
    """Return the sides in pixels that a card has figures for: SIZES and the model's own."""
    return sorted({*SIZES, default_size})


def card_of(
    name: str,
    detector: Network,
    checkpoint: Mapping[str, Any],
    words: Mapping[str, Any],
    ap: Mapping[str, Mapping[str, float]],
    default_size: int = DEFAULT_SIZE,
) -> ModelCard:
    """Build the card of a trained detector. Its precision is int8 if the detector rounds.

    Args:
        name: of the model.
        detector: as loaded from the checkpoint.
        checkpoint: its content.
        words: written fields, of WORDS.
        ap: measured figures by side of the input in pixels.
        default_size: side in pixels that the model runs at by default.

    Raises:
        ModelCardError: a field cannot be used, for example ``default_size``.
    """
    precision = "int8" if is_prepared(detector) else "fp32"
    name_of_detector, options = name_and_options(checkpoint["detector"])
    detector = plain(detector) if is_prepared(detector) else detector
    return ModelCard(
        name=name,
        precision=precision,
        detector=name_of_detector,
        detector_options=options,
        classes=tuple(checkpoint["classes"]),
        default_size=default_size,
        anchors=detector.grid.anchors,
        strides=detector.grid.strides,
        parameters=parameters(detector),
        gmacs={
            str(size): round(macs(detector, size, size) / 1e9, 3) for size in sizes(default_size)
        },
        commit=checkpoint.get("commit", ""),
        weights_sha256=weights_digest(checkpoint["average"]),
        ap=ap,
        **words,
    )


def stated(scores: Mapping[str, float]) -> dict[str, float]:
    """Return figures as cards state them: rounded, without classes that have no objects."""
    return {name: round(score, 3) for name, score in scores.items() if not math.isnan(score)}


def read_words(path: Path) -> dict[str, str]:
    """Read the written part of a card.

    Args:
        path: a YAML mapping.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not YAML, or has a field that is not one of WORDS.
    """
    try:
        words = from_plain(dict[str, str], read_yaml(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not set(words) <= WORDS:
        raise ValueError(f"{path} may hold {', '.join(sorted(WORDS))}, and nothing else")
    return {key: " ".join(text.split()) for key, text in words.items()}


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names and values of a state dict, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def to_markdown(card: ModelCard, file_size: int) -> str:
    """Return a card as a Markdown page.

    Args:
        card: of the model.
        file_size: in bytes.
    """
    size = f"{card.own_size.width} x {card.own_size.height}"
    sides = f"{size} only" if card.has_one_size else f"sides are multiples of 32, {size} by default"
    stored = " (kernels stored as float16)" if card.precision == "fp32" else ""
    weight = f"{card.parameters:,} parameters, {card.precision}{stored}, {file_size / 1e6:.2f} MB"
    lines = [
        f"# {card.name}",
        "",
        "*Written with the ONNX file; the same facts are in its metadata.*",
        "",
        f"- Classes: {', '.join(card.classes)}",
        f"- Detector: `{card.detector_text}`, {weight}",
        f"- Input: RGB, {card.resize}; {sides}",
        f"- Anchors (width x height in input pixels): {_anchors(card)}",
        f"- Commit that trained it: {card.commit}",
        f"- SHA-256 of the trained weights: {card.weights_sha256}",
        "",
        _accuracies(card),
    ]
    for title in ("ap_data", "data", "licence", "recipe", "notes"):
        if text := getattr(card, title):
            heading = {"ap_data": "Measured on"}.get(title, title.capitalize())
            lines += ["", f"## {heading}", "", text]
    return "\n".join(lines) + "\n"


def _accuracies(card: ModelCard) -> str:
    """The table of AP by input size, and by runtime where that makes a difference."""
    figures = card.ap_by_runtime or {"": card.ap}
    rows = [
        [
            size,
            *([runtime] if runtime else []),
            f"{card.gmacs[size]:.3f}" if size in card.gmacs else "-",
            *(_figure(ap, size, key) for key in _metrics(card)),
        ]
        for runtime, ap in figures.items()
        for size in sorted({*card.gmacs, *ap}, key=Size.parse)
    ]
    titles = ["input", *(["run by"] if card.ap_by_runtime else []), "GMAC", *_metrics(card)]
    return markdown_table(titles, rows)


def _metrics(card: ModelCard) -> list[str]:
    return ["AP", "AP50", *(f"AP50 {name}" for name in card.classes)] if card.ap else []


def _figure(ap: Mapping[str, Mapping[str, float]], size: str, key: str) -> str:
    return f"{ap[size][key]:.3f}" if key in ap.get(size, {}) else "-"


def _anchors(card: ModelCard) -> str:
    levels = zip(card.strides, card.anchors, strict=True)
    return "; ".join(
        f"stride {stride}: {', '.join(f'{w:g}x{h:g}' for w, h in anchors)}"
        for stride, anchors in levels
    )
