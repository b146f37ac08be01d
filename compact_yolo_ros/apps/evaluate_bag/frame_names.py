# SPDX-License-Identifier: Apache-2.0
"""Which frame of a recording the name of an image means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from compact_yolo_ros.labels.ground_truth import LabelError

TIME, SECOND, NUMBER = "time", "whole second", "number"
"""Kinds of a ``FrameKey``."""
EPOCH = range(946_684_800, 4_102_444_800)
"""Stamps of the years 2000 to 2099; in s, ms, us and ns their numbers of digits differ."""
_PER_SECOND = (1, 10**3, 10**6, 10**9)

_EXTENSION = re.compile(r"\.[A-Za-z]\w*$")
# Roboflow's names: frame_000001_jpg.rf.0a1b2c.jpg, where other full stops have become dashes.
_ROBOFLOW = re.compile(r"_(?:jpe?g|png|bmp|webp)\.rf\.\w+(?:\.\w+)?$", re.IGNORECASE)
_DASHED = re.compile(r"(?<![A-Za-z0-9])(\d{10})-(\d{1,9})$")
_NANOSECONDS = re.compile(r"(?<![\d.])(\d{1,10})[._](\d{9})$")
_DECIMAL = re.compile(r"(?<![A-Za-z0-9.])(\d{1,10})\.(\d{1,9})$")
_WHOLE = re.compile(r"(?<!\d)(?<!\d\.)(\d{1,19})$")


class FrameKey(NamedTuple):
    """Which frame a label is of: its stamp in ns, or its number as it stands in the name.

    A whole second is also in ns, without what tells several frames of a second apart.
    """

    kind: str
    value: int


def frames_of_names(names: Iterable[str]) -> list[FrameKey]:
    """Which frames the names of images or of label files mean; see ``frame_of_name``.

    Raises:
        LabelError: a name means no frame, or the names together show that it is not clear which.
    """
    names = list(names)
    digits = {len(found[2]) for name in names if (found := _DECIMAL.search(_stem(name)))}
    if 9 in digits and len(digits) > 1:
        # As decimals, nanoseconds that lack their zeros would be up to a second late.
        raise LabelError(
            "some names have nine digits after the full stop and some fewer, so that it is not "
            "clear whether these are nanoseconds: write <sec>.<nanosec> with nine digits"
        )
    return [frame_of_name(name) for name in names]


def frame_of_name(name: str) -> FrameKey:
    """Which frame the name of an image or of a label file means, from the name's end.

    ``1700000000.123456789.jpg``, ``1700000000.123456.png`` (seconds) and
    ``cam_1700000000123456789.png`` (whole s, ms, us or ns) hold a stamp, ``frame_000042.jpg`` the
    number of the frame.

    Raises:
        LabelError: the name holds neither.
    """
    stem = _stem(name)
    if found := _NANOSECONDS.search(stem) or _DECIMAL.search(stem):
        return FrameKey(TIME, int(found[1]) * 10**9 + int(found[2].ljust(9, "0")))
    if found := _WHOLE.search(stem):
        return _whole(found[1])
    raise LabelError(
        f"the name '{name}' does not say which frame it is: name images <sec>.<nanosec>.jpg, by "
        "nanoseconds, or by the number of the frame"
    )


def _stem(name: str) -> str:
    """A name without folder and extension, and as it was before Roboflow changed it."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    if _ROBOFLOW.search(name):
        return _DASHED.sub(r"\1.\2", _ROBOFLOW.sub("", name))
    return _EXTENSION.sub("", name)


def _whole(digits: str) -> FrameKey:
    value = int(digits)
    if len(digits) < 10 or (digits.startswith("0") and value < 10**9):
        return FrameKey(NUMBER, value)
    for units in _PER_SECOND:
        if value // units in EPOCH:
            return FrameKey(SECOND if units == 1 else TIME, value * (10**9 // units))
    return FrameKey(TIME, value)  # ns of a simulated clock


def first_number(numbers: Iterable[int], frames: int) -> int:
    """The number that the first frame has: 0, or 1 as ffmpeg counts.

    Args:
        numbers: of the labelled frames, in any order.
        frames: number of frames in the recording; 0 if it is not known.
    """
    known = set(numbers)
    return int(0 not in known and (1 in known or frames in known))
