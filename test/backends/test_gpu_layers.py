# SPDX-License-Identifier: Apache-2.0
"""The report of an engine's layers: of one in the inspector's format, written by hand."""

from __future__ import annotations

import json
from typing import Any

from gpu_layers import layers_of, slowest_for_their_work, summary

HALF = "Channel major FP16 format where channel % 8 == 0"
SINGLE = "Row major linear FP32"


def layer(name: str, kind: str, said: str, shape: list[int], **more: Any) -> dict[str, Any]:
    output = {"Name": f"{name} out", "Dimensions": shape, "Format/Datatype": said}
    return {"Name": name, "LayerType": kind, "Inputs": [], "Outputs": [output], **more}


def convolution(name: str, weights: int, shape: list[int]) -> dict[str, Any]:
    more = {"ParameterType": "Convolution", "Weights": {"Type": "Half", "Count": weights}}
    return layer(name, "CaskConvolution", HALF, shape, **more)


REPORT = json.dumps(
    {
        "Layers": [
            layer("Reformatting CopyNode for images", "Reformat", HALF, [1, 8, 32, 32]),
            convolution("first + PWN(relu)", 27 * 16, [1, 16, 16, 16]),
            layer("PWN(mish)", "PointWiseV2", HALF, [1, 16, 16, 16]),
            layer("island", "NoOp", SINGLE, [1, 16, 16, 16]),
            convolution("last", 16 * 18, [1, 18, 16, 16]),
            layer("PWN(sigmoid)", "PointWiseV2", SINGLE, [1, 768, 6]),
            layer("best", "TopK", SINGLE, [1, 300]),
        ]
    }
)
SECONDS = {
    "Reformatting CopyNode for images": 10e-6,
    "first + PWN(relu)": 40e-6,
    "PWN(mish)": 5e-6,
    "island": 1e-6,
    "last": 4e-6,
    "PWN(sigmoid)": 20e-6,
    "best": 20e-6,
}


def test_kinds_times_and_islands() -> None:
    assert summary(layers_of(REPORT, SECONDS)) == {
        "layers": 7,
        "us": sum(1e6 * seconds for seconds in SECONDS.values()),
        "reformat": "1: 10%",
        "convolution": "2: 44%",
        "activation alone": "1: 5%",
        "top-k": "1: 20%",
        "decode": "1: 20%",
        "other": "1: 1%",
        "FP32 islands": "island",
    }


def test_a_convolution_that_is_slow_for_its_operations_comes_first() -> None:
    layers = layers_of(REPORT, SECONDS)
    macs = {layer.name: layer.macs for layer in layers if layer.macs}
    assert macs == {"first + PWN(relu)": 27 * 16 * 256, "last": 16 * 18 * 256}
    assert [layer.name for layer in slowest_for_their_work(layers)] == ["first + PWN(relu)", "last"]


def test_an_engine_that_was_not_timed_is_still_counted() -> None:
    found = summary(layers_of(REPORT, {}))
    assert (found["convolution"], found["us"]) == ("2", 0)
