# SPDX-License-Identifier: Apache-2.0
"""Words of sentences that depend on values."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``1 thread``, ``2,000 threads``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
