# SPDX-License-Identifier: Apache-2.0
"""What a layout of outputs is, and what is known about a network before its layout is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from compact_yolo_ros.apps.adopt.graph_builder import GraphBuilder
from compact_yolo_ros.model.sizes import MIN_SIDE, Size

CANDIDATES = 300
"""The most candidates that a network puts out, as those of this package do."""


@dataclass(frozen=True)
class Pixels:
    """What the network wants to see.

    Attributes:
        resize: how an image is brought to the input size, as in ``ModelCard``.
        colour: order of the channels.
        values: 0-1, 0-255, or ``imagenet`` (0-1, less the mean, divided by the deviation).
    """

    resize: Literal["letterbox", "corner", "stretch"] = "letterbox"
    colour: Literal["rgb", "bgr"] = "rgb"
    values: Literal["0-1", "0-255", "imagenet"] = "0-1"


Anchors = tuple[tuple[tuple[float, float], ...], ...]
"""(width, height) in input pixels, a list for each scale."""


@dataclass(frozen=True)
class Facts:
    """What is known about a network.

    Attributes:
        outputs: what it puts out for one image, by name.
        size: of that image.
        any_size: whether the input may have other sizes too.
        classes: how many the user or the file names; 0: not known.
        anchors: that the user gave.
        forced: the layout that the user gave; empty: none.
    """

    outputs: Mapping[str, NDArray[Any]]
    size: Size
    any_size: bool = False
    classes: int = 0
    anchors: Anchors = ()
    forced: str = ""

    def of_rank(self, rank: int) -> dict[str, NDArray[Any]]:
        """Outputs with a number of axes."""
        return {name: values for name, values in self.outputs.items() if values.ndim == rank}

    def cells(self, strides: tuple[int, ...]) -> int:
        """How many cells the grids of these strides have."""
        width, height = self.size
        return sum(-(-width // stride) * -(-height // stride) for stride in strides)

    def candidates(self, rows: int) -> int:
        """How many of ``rows`` can be put out at every size that is possible."""
        if self.any_size:
            rows = rows * MIN_SIDE**2 // (self.size.width * self.size.height)
        return max(1, min(CANDIDATES, rows))


class Answers(NamedTuple):
    """Names of the tensors: boxes (N, K, 4) xyxy, scores (N, K) descending, labels (N, K) int64."""

    boxes: str
    scores: str
    labels: str


Decode = Callable[[GraphBuilder, Mapping[str, str]], Answers]
"""Adds the operators; the second argument has the tensor, in float32, of each output."""


@dataclass(frozen=True)
class Head:
    """How the outputs of one network are read.

    Attributes:
        classes: how many the outputs have; 0: any number.
        count: K, how many candidates are put out.
        decode: see ``Decode``.
        pixels: what networks of this layout want to see.
        found: what was found in the outputs, for people.
        assumed: what was not, for people.
        needs_nms: whether one object may have several boxes.
        follows_size: whether the decoding is ours, so that it follows the size of the input.
    """

    classes: int
    count: int
    decode: Decode
    pixels: Pixels
    found: str
    assumed: tuple[str, ...] = ()
    needs_nms: bool = True
    follows_size: bool = False


@dataclass(frozen=True)
class Layout:
    """A row of the table of layouts.

    Attributes:
        name: for ``--layout``.
        outputs: what it looks like, for people.
        read: returns how to read these outputs; None if they are no such outputs.
    """

    name: str
    outputs: str
    read: Callable[[Facts], Head | None]
