# SPDX-License-Identifier: Apache-2.0
"""The sensitivity of convolutions to quantisation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from training.quantisation.calibration import open_session
from training.quantisation.qdq_graph import Places, quantise, raw_maps


def sensitivities(
    model: onnx.ModelProto,
    convolutions: Iterable[str],
    ranges: Mapping[str, float],
    images: Sequence[NDArray[np.uint8]],
) -> dict[str, float]:
    """Return the error that each convolution causes if only it is quantised.

    The error is the mean square of the change of the raw maps over their mean square.

    Args:
        model: the float graph.
        convolutions: their names.
        ranges: the largest magnitude of every map that they read.
        images: (1, H, W, 3) uint8, RGB.

    Returns:
        The errors by name, the largest first.
    """
    inputs = {node.name: node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    maps = raw_maps(model)
    expected = _run(model, maps, images)
    errors = {}
    for name in convolutions:
        alone = Places((inputs[name],), (name,))
        found = _run(quantise(model, alone, ranges), maps, images)
        errors[name] = sum(
            float(((a - b) ** 2).mean() / (b**2).mean())
            for a, b in zip(found, expected, strict=True)
        )
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _run(
    model: onnx.ModelProto, outputs: Sequence[str], images: Sequence[NDArray[np.uint8]]
) -> list[NDArray[np.float32]]:
    session = open_session(model, outputs)
    return [values for image in images for values in session.run(outputs, {"images": image})]
