# SPDX-License-Identifier: Apache-2.0
"""Numbers and flags as labelling tools write them: as such, as a text, or not at all."""

from __future__ import annotations

import re
from typing import Any

from compact_yolo_ros.labels.ground_truth import LabelError

_WHOLE = re.compile(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}


def whole_number(value: Any) -> int | None:
    """The whole number that a value is, also as a text ("7", "7.0"); None if it is none."""
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def flag(value: Any, what: str) -> bool:
    """Whether a value says yes, also as a text ("0", "True"); None says no.

    Raises:
        LabelError: it says neither; the sentence begins with ``what``.
    """
    number = whole_number(value)
    text = str(number if number is not None else "" if value is None else value).strip().casefold()
    if text not in _FLAGS:
        raise LabelError(f"{what} is '{value}': give 0 or 1")
    return _FLAGS[text]
