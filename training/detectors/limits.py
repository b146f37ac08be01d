# SPDX-License-Identifier: Apache-2.0
"""Limits of the options of detectors."""

from __future__ import annotations

MOST_CHANNELS = 4096
"""Of one map: the detectors here have at most 1792."""
MOST_LAYERS = 64
"""Of one part of a network."""
KERNELS = (1, 3, 5, 7, 9, 11)


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Check a number.

    Raises:
        ValueError: it is outside.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}, not {value:g}")


def one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Check a choice.

    Raises:
        ValueError: it is none of ``choices``.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")
