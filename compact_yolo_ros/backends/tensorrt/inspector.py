# SPDX-License-Identifier: Apache-2.0
"""Which precision an engine really computes in, from the report of TensorRT's engine inspector."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from compact_yolo_ros.support.document import LARGE, DocumentError
from compact_yolo_ros.support.json_files import parse_json

TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType", "Format")
"""Fields of the engine inspector with a tensor's type. TensorRT 11 split the field of 8 and 10;
the parts' names are documented for the network's own inputs and outputs only (DataType, Format)."""


def precision_shares(information: str) -> dict[str, float]:
    """Share of the engine's floating and quantised values in each precision.

    Args:
        information: JSON of TensorRT's engine inspector, of an engine built with detail.

    Returns:
        For example ``{"fp16": 0.98, "fp32": 0.02}``, by number of values that layers put out;
        empty if the report does not say.
    """
    words = {
        "fp32": {"FP32", "Float"},
        "fp16": {"FP16", "Half"},
        "bf16": {"BF16", "BFloat16"},
        "int8": {"INT8", "Int8"},
        "fp8": {"FP8"},
    }
    values: Counter[str] = Counter()
    try:
        layers = parse_json(information, LARGE).get("Layers", [])
    except (AttributeError, TypeError, DocumentError):
        return {}  # the engine works even if its report cannot be read
    for layer in layers:
        for tensor in layer.get("Outputs", []) if isinstance(layer, dict) else []:
            kind = next((str(tensor[key]) for key in TYPE_KEYS if key in tensor), "")
            said = set(re.findall(r"\w+", kind))
            size = int(np.prod(np.abs(tensor.get("Dimensions") or [1])))
            for name, marks in words.items():
                if marks & said:
                    values[name] += size
    total = sum(values.values())
    return {name: size / total for name, size in values.items()}
