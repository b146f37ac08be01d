# SPDX-License-Identifier: Apache-2.0
"""How many of its 16 bits a grey camera uses; without OpenCV, which parameters do not need."""

from __future__ import annotations

STRETCH = 0
"""Instead of a number of bits: use the levels that an image has."""
