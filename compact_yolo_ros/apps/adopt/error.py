# SPDX-License-Identifier: Apache-2.0
"""Why a network cannot be adopted."""

from __future__ import annotations


class AdoptError(ValueError):
    """The file cannot be adopted; one sentence says why, and what to do."""
