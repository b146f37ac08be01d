# SPDX-License-Identifier: Apache-2.0
"""Whether a new engine computes what its model does.

TensorRT can build an engine without a complaint that computes something else: one of 8.5 in INT8
found nothing in any image (docs/gpu.md). Such an engine must not watch the way of a robot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compact_yolo_ros.backends.agreement import LOWEST_SCORE, TOLERANCES
from compact_yolo_ros.backends.backend import Backend
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.backends.tensorrt.on_cpu import options_on_cpu
from compact_yolo_ros.model.store import ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

SHARE = 0.7
"""Of the candidates that have to agree. Rounding costs a few percent of them at most, in INT8 ten;
an engine that computes something else has next to none left."""


def disagreement(backend: Backend, model: ModelFile, options: RunOptions) -> str:
    """Compare what an engine finds in sample images with what ONNX Runtime finds.

    Samples in which ONNX Runtime finds nothing, as with a detector of other objects, prove nothing.

    Args:
        backend: runs the engine.
        model: the file that it was built from.
        options: the engine's, of one input size.

    Returns:
        In which way the engine is wrong; empty if it is right.

    Raises:
        BackendError: one of them fails.
    """
    precision, batches = options.precision, sorted({1, options.batch})
    reference = OnnxRuntimeBackend(model, options_on_cpu(model, options.change(batch=1)))
    found = compare_on_samples(backend, reference, TOLERANCES[precision], batches)
    reference.close()
    if found.agreeing >= SHARE * found.compared:
        return ""
    return (
        f"the {precision} engine that TensorRT built of {model.path.name} is wrong: it has "
        f"{found.agreeing} of the {found.compared} candidates above {LOWEST_SCORE} that ONNX "
        "Runtime finds in sample images"
    )
