# SPDX-License-Identifier: Apache-2.0
"""Reads the ONNX file of another project, and says why it cannot be adopted.

Only here and where graphs are written is the ``onnx`` package needed: nothing else on a robot is.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.model.card import METADATA_KEY
from compact_yolo_ros.model.onnx_metadata import MOST_BYTES
from compact_yolo_ros.model.sizes import MAX_SIDE, MIN_SIDE, Size
from compact_yolo_ros.support.error_text import first_line, one_line, reason, shortened
from compact_yolo_ros.support.files import read_file
from compact_yolo_ros.support.pip import pip_line

if TYPE_CHECKING:
    import onnx

NEEDED_OPSET = 13
"""The first that can state INT8 for each channel, and that has all operators used here."""
DETECTION = "detect"
"""What Ultralytics calls the task, in the metadata."""
_LONGEST = 300
"""Letters of a library's message."""
SIDES_INPUTS = ("orig_target_sizes",)
"""Second inputs that hold width and height of the image: RT-DETR, D-FINE."""


@dataclass(frozen=True)
class Source:
    """A network as it was exported.

    Attributes:
        path: of the file.
        sha256: of the file.
        model: its graph; it may be changed.
        metadata: what the exporter wrote.
        image: name of the input.
        channels_last: whether the input is (N, H, W, 3), not (N, 3, H, W).
        half: whether it is float16.
        batch: how many images it takes; 0: any number.
        size: of the input; None: any.
        sides: name of a second input for width and height; empty: there is none.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    metadata: dict[str, str]
    image: str
    channels_last: bool
    half: bool
    batch: int
    size: Size | None
    sides: str = ""

    @property
    def opset(self) -> int:
        """Version of the operators."""
        return _opset(self.model)


def read_source(path: Path) -> Source:
    """Read a file.

    Raises:
        AdoptError: it cannot be read, or is no network that takes images.
    """
    try:
        import onnx
    except ImportError as error:
        raise AdoptError(
            f"the onnx package is needed ({first_line(error)}): sudo apt install python3-onnx, "
            f"or {pip_line('onnx')}"
        ) from None
    try:
        data = read_file(path, MOST_BYTES)
    except OSError as error:
        raise AdoptError(f"{shortened(path)} cannot be read: {reason(error)}") from None
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's own types, which differ from version to version
        raise AdoptError(f"{shortened(path)} is not an ONNX file, or it is cut off") from None
    _check(model, path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    task = metadata.get("task", DETECTION)
    if task != DETECTION:
        raise AdoptError(
            f"{shortened(path)} is made for the task '{shortened(task)}': give a detector"
        )
    if METADATA_KEY in metadata:
        raise AdoptError(f"{shortened(path)} has a model card already: use it as it is")
    digest = hashlib.sha256(data).hexdigest()
    return _described(path, digest, _newer(model, path), metadata)


def of_any_size(source: Source) -> Source:
    """Return a network of one size with free sides: its operators may follow them, or not."""
    model = type(source.model).FromString(source.model.SerializeToString())
    for value in model.graph.input:
        if value.name == source.image:
            sides = value.type.tensor_type.shape.dim
            for axis, name in zip((1, 2) if source.channels_last else (2, 3), "hw", strict=True):
                sides[axis].dim_param = name
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return replace(source, model=model, size=None)


def known_size(metadata: dict[str, str]) -> Size | None:
    """The size that Ultralytics exported for, from ``imgsz``: [height, width], if it is usable."""
    found = re.fullmatch(r"\[(\d{1,5}), *(\d{1,5})\]", metadata.get("imgsz", "").strip())
    size = Size(int(found[2]), int(found[1])) if found else None
    return size if size and min(size) >= MIN_SIDE and max(size) <= MAX_SIDE else None


def _check(model: onnx.ModelProto, path: Path) -> None:
    from onnx import TensorProto

    name = shortened(path)
    if not model.graph.node or not model.graph.output:
        raise AdoptError(f"{name} is not an ONNX file, or has no network in it")
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise AdoptError(
                f"{name} keeps its weights in another file: write one file, with "
                "onnx.save(onnx.load('net.onnx'), 'one.onnx') or external_data=False at the export"
            )


def _opset(model: onnx.ModelProto) -> int:
    return max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=0,
    )


def _newer(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Return the network with operators of ``NEEDED_OPSET`` at least."""
    if _opset(model) >= NEEDED_OPSET:
        return model
    try:
        from onnx import checker, version_converter

        newer = version_converter.convert_version(model, NEEDED_OPSET)
        checker.check_model(newer)
    except Exception:  # the converter raises RuntimeError, and what its parts raise
        raise AdoptError(
            f"{shortened(path)} has operators of version {_opset(model)} (opset), which cannot be "
            f"made newer: export it with {NEEDED_OPSET} or later"
        ) from None
    return newer


def _described(path: Path, digest: str, model: onnx.ModelProto, metadata: dict[str, str]) -> Source:
    from onnx import TensorProto

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    images = [value for value in inputs if len(value.type.tensor_type.shape.dim) == 4]
    others = [value.name for value in inputs if value not in images]
    if len(images) != 1 or len(others) > 1 or not set(others) <= set(SIDES_INPUTS):
        names = ", ".join(shortened(value.name) for value in inputs[:8]) or "nothing"
        raise AdoptError(f"it takes {names}, not one image: give a detector")
    (image,) = images
    kind = image.type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        raise AdoptError(
            "its input is neither float32 nor float16: export it without pre-processing"
        )
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    channels_last = shape[3] == 3 and shape[1] != 3
    height, width, channels = shape[1:] if channels_last else (*shape[2:], shape[1])
    if channels not in (0, 3):
        raise AdoptError(
            f"it takes images of {channels} channels: give a network for colour images"
        )
    if shape[0] > 1:
        raise AdoptError(f"it takes {shape[0]} images at once: export it with a batch of 1")
    if (height > 0) != (width > 0):
        raise AdoptError("only one side of its input is fixed: fix both at the export, or none")
    return Source(
        path,
        digest,
        model,
        metadata,
        image.name,
        channels_last,
        kind == TensorProto.FLOAT16,
        max(shape[0], 0),
        Size(width, height) if width > 0 else None,
        *others,
    )


def problem(error: object) -> str:
    """A library's message as a part of a sentence, not too long."""
    text = one_line(error)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
