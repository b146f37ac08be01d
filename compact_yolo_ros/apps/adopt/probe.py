# SPDX-License-Identifier: Apache-2.0
"""Runs a network once as it was exported: its outputs tell more than what the file states."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.source import Source, problem
from compact_yolo_ros.backends.cpu import default_threads
from compact_yolo_ros.backends.libraries import imported
from compact_yolo_ros.backends.onnxruntime import ONNX_RUNTIME
from compact_yolo_ros.model.sizes import Size


def outputs_of(source: Source, size: Size) -> dict[str, NDArray[Any]]:
    """Run a network on an image of noise.

    Args:
        source: the network.
        size: of the image.

    Raises:
        AdoptError: ONNX Runtime does not run it.
    """
    ort = imported(ONNX_RUNTIME)
    options = ort.SessionOptions()
    options.intra_op_num_threads = default_threads()
    options.log_severity_level = 4
    shape = (1, *size.shape, 3) if source.channels_last else (1, 3, *size.shape)
    noise = np.random.default_rng(0).random(shape, np.float32)
    feed: dict[str, Any] = {source.image: noise.astype(np.float16 if source.half else np.float32)}
    if source.sides:
        feed[source.sides] = np.array([size], np.int64)
    try:
        session = ort.InferenceSession(
            source.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, feed)
        names = [output.name for output in session.get_outputs()]
    except Exception as error:  # ONNX Runtime raises a family of unrelated exception types
        raise AdoptError(f"ONNX Runtime does not run it at {size}: {problem(error)}") from None
    return {
        name: values.astype(np.float32) if values.dtype == np.float16 else values
        for name, values in zip(names, found, strict=True)
        if isinstance(values, np.ndarray)
    }
