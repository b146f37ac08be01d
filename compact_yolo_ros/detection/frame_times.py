# SPDX-License-Identifier: Apache-2.0
"""How long the stages of one image took, from its arrival to its published detections."""

from __future__ import annotations

from typing import NamedTuple


class FrameTimes(NamedTuple):
    """The stages of one processed image, in seconds.

    Attributes:
        age: from the image's stamp to the published detections, on the node's clock.
        waiting: from the subscription callback to the worker thread.
        decode: message bytes to pixels.
        preprocess: pixels to network input.
        inference: the network.
        postprocess: suppression and mapping back.
        publish: message conversion and publishing.
        overhead: all of the above but ``age`` and ``inference``.
        total: from the subscription callback to the published detections.
    """

    age: float
    waiting: float
    decode: float
    preprocess: float
    inference: float
    postprocess: float
    publish: float
    overhead: float
    total: float


STAGES = FrameTimes._fields[1:]
"""All but ``age``, which counts from a stamp on another clock."""
