# SPDX-License-Identifier: Apache-2.0
"""Which precision an engine really computes in, from the report of TensorRT's engine inspector."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.json_files import parse_json

TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType", "Format")
"""Fields of the engine inspector with a tensor's type. TensorRT 11 split the field of 8 and 10;
the parts' names are documented for the network's own inputs and outputs only (DataType, Format)."""

WORDS = {
    "fp32": {"FP32", "Float"},
    "fp16": {"FP16", "Half"},
    "bf16": {"BF16", "BFloat16"},
    "int8": {"INT8", "Int8"},
    "fp8": {"FP8"},
}
"""What versions of TensorRT call a type."""


def precision_shares(information: str) -> dict[str, float]:
    """Share of the engine's floating and quantised values in each precision.

    Args:
        information: JSON of TensorRT's engine inspector, of an engine built with detail.

    Returns:
        For example ``{"fp16": 0.98, "fp32": 0.02}``, by number of values that layers put out, or
        of weights where the report has no types of most of these, as in 8.5 where the number of
        images may vary; empty if it does not say.
    """
    try:
        return _weighed(parse_json(information, LARGE))
    except (AttributeError, TypeError, ValueError):
        return {}  # the engine works even if its report cannot be read


def _weighed(report: Any) -> dict[str, float]:
    values: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for layer in filter(lambda layer: isinstance(layer, dict), report.get("Layers", [])):
        for tensor in layer.get("Outputs", []):
            kind = next((str(tensor[key]) for key in TYPE_KEYS if key in tensor), "")
            values[_precision(kind)] += int(np.prod(np.abs(tensor.get("Dimensions") or [1])))
        held = layer.get("Weights")
        if isinstance(held, dict):
            weights[_precision(str(held.get("Type")))] += int(held.get("Count", 0))
    is_told = values.total() > 2 * values[""]
    return (is_told and _shares(values)) or _shares(weights) or _shares(values)


def _precision(kind: str) -> str:
    """What a type's words mean; empty for integers and for what is not known."""
    said = set(re.findall(r"\w+", kind))
    return next((name for name, marks in WORDS.items() if marks & said), "")


def _shares(counted: Counter[str]) -> dict[str, float]:
    known = {name: count for name, count in counted.items() if name and count}
    return {name: count / sum(known.values()) for name, count in known.items()}
