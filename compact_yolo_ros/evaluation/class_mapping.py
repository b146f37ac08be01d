# SPDX-License-Identifier: Apache-2.0
"""Matching the classes of a model with those of labels that have others, or other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.labels.ground_truth import GroundTruth

_NONE = -1
_ALIKE = (
    {"person", "human", "pedestrian", "people"},
    {"motorbike", "motorcycle"},
    {"bicycle", "bike"},
    {"ball", "football", "sports ball"},
)
"""Names that data sets have for the same class, though they are spelled differently."""


_HELP = "--rename MODEL_CLASS=LABEL_CLASS matches two names"


def suggestion(model: Sequence[str], data: Sequence[str]) -> str:
    """The option that would match classes of similar names; empty if there are none."""
    left, pairs = {_plain(name): name for name in data}, []
    for name in model:
        same = next((words for words in _ALIKE if _plain(name) in words), {_plain(name)})
        close = [word for word in left if word in same] or get_close_matches(_plain(name), left, 1)
        if close:
            pairs.append(f"{name}={left.pop(close[0])}")
    words = " ".join(f"'{pair}'" if " " in pair else pair for pair in pairs)
    return f"perhaps --rename {words}" if pairs else ""


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True)
class ClassMapping:
    """The classes that model and data share; all others are left out of an evaluation.

    Attributes:
        classes: shared names, in the data's order; their positions are the new labels.
        unknown_to_model: the data's other names.
        unknown_to_data: the model's other names.
    """

    classes: tuple[str, ...]
    unknown_to_model: tuple[str, ...]
    unknown_to_data: tuple[str, ...]
    _of_model: NDArray[np.int64]
    _of_data: NDArray[np.int64]

    @classmethod
    def match(
        cls, model: Sequence[str], data: Sequence[str], rename: Mapping[str, str] | None = None
    ) -> ClassMapping:
        """Match classes by name, after ``rename`` (name in the model: name in the data).

        Raises:
            ValueError: no class is shared, or ``rename`` has a name that is not there.
        """
        rename = rename or {}
        for what, given, known in (
            ("model", rename.keys(), model),
            ("data", rename.values(), data),
        ):
            for name in given:
                if name not in known:
                    close = get_close_matches(name, known, 1)
                    hint = f", did you mean '{close[0]}'?" if close else f": {', '.join(known)}"
                    raise ValueError(f"the {what} has no class '{name}'{hint}")
        renamed = [rename.get(name, name) for name in model]
        shared = [name for name in data if name in renamed]
        if not shared:
            raise ValueError(
                f"model and data share no class: the model knows {', '.join(model)}; "
                f"the data {', '.join(data)}; {suggestion(model, data) or _HELP}"
            )
        place = {name: number for number, name in enumerate(shared)}
        return cls(
            tuple(shared),
            tuple(name for name in data if name not in renamed),
            tuple(old for old, name in zip(model, renamed, strict=True) if name not in place),
            np.array([place.get(name, _NONE) for name in renamed], np.int64),
            np.array([place.get(name, _NONE) for name in data], np.int64),
        )

    @property
    def left_out(self) -> str:
        """A sentence on the classes that are not evaluated; empty if all are."""
        parts = []
        if self.unknown_to_model:
            parts.append(f"{', '.join(self.unknown_to_model)} (not known to the model)")
        if self.unknown_to_data:
            parts.append(f"{', '.join(self.unknown_to_data)} (not labelled in the data)")
        if hint := suggestion(self.unknown_to_data, self.unknown_to_model):
            parts.append(hint)
        return f"Not evaluated: {'; '.join(parts)}." if parts else ""

    def detections(self, found: Detections) -> Detections:
        """Detections with the new labels, those of other classes left out."""
        labels = self._of_model[found.labels].astype(np.int32)
        kept = labels != _NONE
        ids = None if found.ids is None else found.ids[kept]
        return Detections(found.boxes[kept], found.scores[kept], labels[kept], ids)

    def truth(self, truth: GroundTruth) -> GroundTruth:
        """The same image with the new labels, objects of other classes left out."""
        return truth.renumbered(self._of_data)
