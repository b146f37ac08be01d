# SPDX-License-Identifier: Apache-2.0
"""Median, 95th and 99th percentile, the figures that go with every latency."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Percentiles(NamedTuple):
    """Median, 95th and 99th percentile."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        """Percentiles of at least one value, linearly interpolated."""
        return cls(*(float(value) for value in np.percentile(list(values), (50, 95, 99))))
