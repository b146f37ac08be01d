# SPDX-License-Identifier: Apache-2.0
"""What TensorRT made of a network, layer by layer: kinds, precisions, times and costs.

The engine inspector lists the layers in their order, the profiler times them by name. Field names
are those of the inspector's JSON (TensorRT Developer Guide, Engine Inspector).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compact_yolo_ros.backends.tensorrt.inspector import precision_shares
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.json_files import parse_json

REFORMAT, CONVOLUTION, ALONE, TOP_K, DECODE, OTHER = KINDS = (
    "reformat", "convolution", "activation alone", "top-k", "decode", "other",
)  # fmt: skip
"""An activation that is alone was not fused into the convolution before it. Decode is all that
comes after the last convolution, but for top-k and reformats."""
POINTWISE = ("PointWise", "ElementWise", "Elementwise", "Activation", "Unary")


@dataclass(frozen=True)
class Layer:
    """A layer of an engine.

    Attributes:
        name: as TensorRT calls it, often those of the layers it was fused from.
        kind: one of ``KINDS``.
        precision: of most of its outputs; empty if the inspector does not say.
        macs: multiply-accumulates of a convolution for the batch of the report; else 0.
        seconds: mean time of a run; 0 if it was not timed.
    """

    name: str
    kind: str
    precision: str
    macs: int
    seconds: float


def layers_of(information: str, seconds: Mapping[str, float]) -> list[Layer]:
    """The layers in the inspector's report (JSON, detailed), with times by name."""
    found = [entry for entry in parse_json(information, LARGE)["Layers"] if isinstance(entry, dict)]
    last = max((n for n, entry in enumerate(found) if _is_convolution(entry)), default=-1)
    return [
        Layer(
            entry["Name"],
            _kind(entry, behind=number > last),
            _precision(entry),
            _macs(entry) if _is_convolution(entry) else 0,
            seconds.get(entry["Name"], 0.0),
        )
        for number, entry in enumerate(found)
    ]


def _is_convolution(entry: Mapping[str, Any]) -> bool:
    return "Convolution" in (str(entry.get("LayerType")) + str(entry.get("ParameterType")))


def _kind(entry: Mapping[str, Any], behind: bool) -> str:
    said = f"{entry.get('LayerType')} {entry.get('ParameterType')}"
    if "Reformat" in said or entry["Name"].startswith("Reformatting"):
        return REFORMAT
    if _is_convolution(entry):
        return CONVOLUTION
    if "TopK" in said:
        return TOP_K
    if behind:
        return DECODE
    return ALONE if any(word in said for word in POINTWISE) else OTHER


def _precision(entry: Mapping[str, Any]) -> str:
    shares = precision_shares(json.dumps({"Layers": [entry]}))
    return max(shares, key=lambda name: shares[name]) if shares else ""


def _macs(entry: Mapping[str, Any]) -> int:
    """Every weight is used once for every pixel of every map that is put out."""
    weights = entry.get("Weights", {}).get("Count", 0)
    images, _, *pixels = entry["Outputs"][0]["Dimensions"]
    return int(weights * abs(images) * np.prod(np.abs(pixels)))


def summary(layers: Iterable[Layer]) -> dict[str, Any]:
    """Number and share of the time of each kind, and the FP32 islands of a lower precision."""
    count: Counter[str] = Counter()
    time: defaultdict[str, float] = defaultdict(float)
    listed = list(layers)
    for layer in listed:
        count[layer.kind] += 1
        time[layer.kind] += layer.seconds
    total = sum(time.values())
    kinds = {
        kind: f"{count[kind]}: {time[kind] / total:.0%}" if total else str(count[kind])
        for kind in KINDS
    }
    return {"layers": len(listed), "us": 1e6 * total, **kinds, "FP32 islands": _islands(listed)}


def _islands(layers: list[Layer]) -> str:
    """Layers up to the last convolution that put out FP32, if most put out something else."""
    end = max((n for n, layer in enumerate(layers) if layer.kind == CONVOLUTION), default=-1)
    network = [layer for layer in layers[: end + 1] if layer.precision]
    islands = [layer for layer in network if layer.precision == "fp32"]
    if len(islands) * 2 > len(network):
        return "all in FP32"
    return ", ".join(layer.name[:40] for layer in islands[:3]) + (" ..." * (len(islands) > 3))


def slowest_for_their_work(layers: Iterable[Layer], count: int = 3) -> list[Layer]:
    """Convolutions that take much longer than the others do for as many operations.

    They are ranked by the time that they take beyond that of the whole network's rate.
    """
    timed = [layer for layer in layers if layer.macs and layer.seconds]
    rate = sum(layer.macs for layer in timed) / max(sum(layer.seconds for layer in timed), 1e-12)
    return sorted(timed, key=lambda layer: layer.macs / rate - layer.seconds)[:count]
