# SPDX-License-Identifier: Apache-2.0
"""Names of detectors and how to build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from training.detectors.yolo_ret import YoloRet, YoloRetConfig

# Name: constructor and its frozen default configuration.
DETECTORS: dict[str, tuple[Callable[[Any], nn.Module], Any]] = {
    "yolo_ret_m075": (YoloRet, YoloRetConfig(width=0.75)),
}


def build(name: str, **changes: Any) -> nn.Module:
    """Build the detector called ``name``, its default configuration changed by ``changes``.

    Raises ValueError for a name that is not registered.
    """
    if name not in DETECTORS:
        raise ValueError(f"unknown detector {name!r}: choose one of {', '.join(sorted(DETECTORS))}")
    constructor, config = DETECTORS[name]
    return constructor(replace(config, **changes))
