# SPDX-License-Identifier: Apache-2.0
"""What papers and authors' repositories say of the detectors.

The figures stand with the detectors, in training/detectors/. For the computers that have no
training code, ``python -m training.describe --write`` copies them to published.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from compact_yolo_ros.support.json_files import read_json

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """Published figures of one detector.

    Attributes:
        source: the publication.
        data: the data set of its accuracy and its number of classes.
        side: of the square input in pixels that the cost is given for.
        ap50: accuracy in percent by side of the input.
        size: of the weights, in ``size_unit``.
        size_unit: what is counted, and in what unit.
        gmac: 10^9 multiply-accumulates (half of what is published as operations).
        remark: why ours differ.
        fps: images a second by device and side; the device's text names the conditions.
        also: accuracy as ``ap50``, by other data sets, or by another measure that is named.
    """

    source: str
    data: str
    side: int
    ap50: Mapping[int, float] = field(default_factory=dict)
    size: float | None = None
    size_unit: str = "MiB, float32"
    gmac: float | None = None
    remark: str = ""
    fps: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    also: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, whose keys are texts."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Published:
        """Read what ``to_dict`` returned, after JSON made texts of the sides."""
        tables = {
            name: {key: _by_side(figures) for key, figures in values[name].items()}
            for name in ("fps", "also")
        }
        return cls(**{**values, "ap50": _by_side(values["ap50"]), **tables})


@cache
def published_figures() -> Mapping[str, Published]:
    """Return the published figures by name of the detector."""
    entries = read_json(FILE)
    return {name: Published.from_dict(values) for name, values in entries.items()}


def _by_side(values: Mapping[str, float]) -> dict[int, float]:
    return {int(side): value for side, value in values.items()}
