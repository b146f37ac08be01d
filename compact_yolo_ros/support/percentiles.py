# SPDX-License-Identifier: Apache-2.0
"""Median, 95th and 99th percentile, the figures that go with every latency."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

SHARES = 0.5, 0.95, 0.99


class Percentiles(NamedTuple):
    """Median, 95th and 99th percentile."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        """Percentiles of at least one value, linearly interpolated."""
        # np.percentile imports masked arrays when it is first called: 0.15 s in which a node would
        # take no image.
        ordered = np.sort(list(values))
        last = len(ordered) - 1
        found = np.interp(np.multiply(SHARES, last), np.arange(last + 1), ordered)
        return cls(*(float(value) for value in found))
