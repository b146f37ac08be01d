# SPDX-License-Identifier: Apache-2.0
"""The model card: facts about a detector file, kept in the ONNX file's metadata."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from compact_yolo_ros.model.sizes import MAX_SIDE, InputSize, OwnSize, Size
from compact_yolo_ros.support.error_text import LONGEST_NAME, is_utf8, shortened
from compact_yolo_ros.support.json_files import parse_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain

METADATA_KEY = "compact_yolo_ros.card"
FILE_PRECISIONS = ("fp32", "fp16", "int8")
"""What the weights of a file may be in."""
MOST_CLASSES = 2**16
"""LabelInfo numbers classes with 16 bits."""
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class ModelCardError(ValueError):
    """The file has no card, or the card is not one this version can use."""


@dataclass(frozen=True)
class ModelCard:
    """Facts about one detector file.

    The first group is what a program needs to run it; the rest is for people.

    Attributes:
        name: model name, for example ``yolo_ret_m075``.
        detector: name in the detector registry that built the network.
        classes: class names; the position is the label number the network returns.
        default_size: width of the network input in pixels, unless the user asks otherwise.
        default_height: its height in pixels; 0 is the same, a square.
        any_size: the network was made for this size, which need not be one that all networks can be
            run at (``Size.check``).
        fixed_size: the network runs at this size only.
        one_image: the network takes one image a run.
        resize: how an image is brought to the input size: ``letterbox`` and ``corner`` keep its
            aspect ratio (padding 114, the image centred or at the top left), ``stretch`` does not
            (darknet weights are trained so).
        anchors: (width, height) pairs in input pixels, one list per output scale.
        strides: stride in pixels of each output scale, in the order of ``anchors``.
        precision: number format of the weights in the file, one of ``FILE_PRECISIONS``.
        parameters: trainable parameters.
        gmacs: 10^9 multiply-accumulate operations of the convolutions, by input size.
        data: the pictures it was trained on, with origin.
        licence: licence of the weights and known limits of that claim.
        recipe: how it was trained, in words a second person can repeat.
        commit: source commit that trained it.
        weights_sha256: SHA-256 of the trained weights before export.
        ap: average precision by input size, for example ``{"320": {"AP": .2, "AP50": .4}}``.
        ap_by_runtime: the same by what ran the network, where that makes a difference; ``ap`` is
            then that of the runtime which is the fastest on a CPU.
        ap_data: which pictures ``ap`` was measured on.
        notes: anything a user should know before relying on it.
        detector_options: what of ``detector`` is not as its name says, for the training code.
    """

    name: str
    detector: str
    classes: tuple[str, ...]
    default_size: int
    default_height: int = 0
    any_size: bool = False
    fixed_size: bool = False
    one_image: bool = False
    resize: Literal["letterbox", "corner", "stretch"] = "letterbox"
    anchors: tuple[tuple[tuple[float, float], ...], ...] = ()
    strides: tuple[int, ...] = ()
    precision: str = "fp32"
    parameters: int = 0
    gmacs: Mapping[str, float] = field(default_factory=dict)
    data: str = ""
    licence: str = ""
    recipe: str = ""
    commit: str = ""
    weights_sha256: str = ""
    ap: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ap_by_runtime: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    ap_data: str = ""
    notes: str = ""
    detector_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.classes) <= MOST_CLASSES:
            raise ModelCardError(
                f"the model card names {len(self.classes)} classes, not 1 to {MOST_CLASSES}"
            )
        for name in (self.name, *self.classes):
            _check_name(name)
        if not is_utf8(self.to_json()):
            raise ModelCardError("the model card has a text with half a character")
        if self.precision not in FILE_PRECISIONS:
            known = " or ".join(FILE_PRECISIONS)
            raise ModelCardError(
                f"the model card has the precision {shortened(repr(self.precision))}, not {known}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ModelCardError("the model card names a class twice")
        try:
            check_own_size(self.own_size, self.any_size)
        except ValueError as error:
            raise ModelCardError(f"the model card's default_size is wrong: {error}") from None
        try:
            for sizes in (self.gmacs, self.ap, *self.ap_by_runtime.values()):
                for size in sizes:
                    Size.parse(size)
        except ValueError as error:
            raise ModelCardError(f"the model card has figures for no input size: {error}") from None

    @property
    def own_size(self) -> OwnSize:
        """The size of the network input, unless the user asks otherwise."""
        return OwnSize(self.default_size, self.default_height or self.default_size)

    @property
    def detector_text(self) -> str:
        """The detector with its options."""
        return detector_text(self.detector, self.detector_options)

    @property
    def has_one_size(self) -> bool:
        """Whether the network runs at, or was made for, its own size only."""
        return self.any_size or self.fixed_size

    @property
    def fits_cameras(self) -> bool:
        """Whether the input may have the shape of the camera's images.

        It may not if the network has one size, or stretches images.
        """
        return not self.has_one_size and self.resize != "stretch"

    @property
    def own_input(self) -> InputSize:
        """The input unless the user asks otherwise: a network made for a square fits the camera."""
        own = self.own_size
        return own.width if self.fits_cameras and own.width == own.height else own

    def labels_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Label numbers of classes.

        Raises:
            ValueError: the model has no class of a name.
        """
        names = tuple(names)
        for name in names:
            if name not in self.classes:
                raise ValueError(
                    f"model {self.name} has no class '{shortened(name)}': "
                    f"its classes are {', '.join(self.classes)}"
                )
        return tuple(map(self.classes.index, names))

    def to_json(self) -> str:
        """Return the card as the text that goes into the ONNX metadata."""
        return json.dumps(to_plain(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card; fields of later versions are ignored.

        Raises:
            ModelCardError: the text is not a card, or a required field is missing or wrong.
        """
        try:
            return from_plain(cls, parse_json(text))
        except ModelCardError:
            raise
        except ValueError as error:
            raise ModelCardError(f"the model card cannot be used: {error}") from None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], file: str) -> ModelCard:
        """Read the card from an ONNX file's metadata properties; ``file`` is named in errors."""
        if METADATA_KEY not in metadata:
            raise ModelCardError(
                f"{file} carries no model card; export it with `python -m training.export`"
            )
        try:
            return cls.from_json(metadata[METADATA_KEY])
        except ModelCardError as error:
            raise ModelCardError(f"{file}: {error}") from None


def detector_text(name: str, options: Mapping[str, Any]) -> str:
    """Return a detector with its options as recipes say it: a name, or a mapping in YAML."""
    if not options:
        return name
    values = {"name": name, **to_plain(options)}
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def check_own_size(size: Size, any_size: bool) -> None:
    """Raise ValueError if a network cannot be made for a size.

    Args:
        size: of the input.
        any_size: see ``ModelCard``.
    """
    if not any_size:
        Size(*size).check()
    elif not all(1 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"input size {size} is not usable: give sides from 1 to {MAX_SIDE}")


def _check_name(name: str) -> None:
    """Raise ModelCardError if a name cannot be a part of messages and tables."""
    if not 0 < len(name) <= LONGEST_NAME or CONTROL_CHARACTERS.search(name):
        raise ModelCardError(
            f"the model card has the name {shortened(repr(name))}: a name has 1 to {LONGEST_NAME} "
            "letters and no control characters"
        )
