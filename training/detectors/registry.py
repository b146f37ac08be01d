# SPDX-License-Identifier: Apache-2.0
"""The detectors by name. A new one is a file in this folder and a line in ``FAMILIES``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from training.detectors.interface import Detector
from training.detectors.spec import DetectorSpec

FAMILIES = (
    "yolo_ret",
    "yolo_nano",
    "micro_yolo",
    "yolo_fastest",
    "tiny_yolo",
    "tinier_yolo",
    "yolov4_tiny",
)
"""Modules of this folder. The rows of a family are its ``DETECTORS``."""


def collect(families: Iterable[str]) -> dict[str, DetectorSpec[Any]]:
    """Return the rows of ``families`` by name, in their order.

    Raises:
        ValueError: two rows have one name.
    """
    table: dict[str, DetectorSpec[Any]] = {}
    for family in families:
        for spec in import_module(f"training.detectors.{family}").DETECTORS:
            if spec.name in table:
                raise ValueError(f"{family}: there is a detector {spec.name!r} already")
            table[spec.name] = spec
    return table


DETECTORS = collect(FAMILIES)


def find_detector(name: str) -> DetectorSpec[Any]:
    """Return the row of ``name``.

    Raises:
        ValueError: there is none; the sentence lists the names.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}: choose one of {', '.join(sorted(DETECTORS))}")
    return DETECTORS[name]


def build(name: str, **changes: Any) -> Detector:
    """Build the detector called ``name`` with fresh weights.

    Args:
        name: of a row.
        changes: fields of the row's configuration, as ``num_classes=5``.

    Raises:
        ValueError: there is no such detector.
    """
    return find_detector(name).make(**changes)
