# SPDX-License-Identifier: Apache-2.0
"""From the file of another project to a checked model file with its card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compact_yolo_ros.apps.adopt.class_names import COCO, parse_names, read_names
from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.layouts.layout import Anchors, Facts, Head, Pixels
from compact_yolo_ros.apps.adopt.layouts.table import AUTO, recognise
from compact_yolo_ros.apps.adopt.probe import outputs_of
from compact_yolo_ros.apps.adopt.source import (
    Source,
    known_size,
    of_any_size,
    problem,
    read_source,
)
from compact_yolo_ros.apps.adopt.surgery import adopted_graph, parameters_of, precision_of
from compact_yolo_ros.backends import BackendError, RunOptions
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import EVERYTHING
from compact_yolo_ros.model.card import METADATA_KEY, ModelCard, ModelCardError, check_own_size
from compact_yolo_ros.model.sizes import MAX_SIDE, STRIDE, Size
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.pixels.sample_images import sample_images
from compact_yolo_ros.support.error_text import shortened
from compact_yolo_ros.support.files import replacing

if TYPE_CHECKING:
    import onnx

DEFAULT_SIZE = Size(640, 640)
"""Of a network that does not say for which size it was made: that of most of them."""
TRIED_SIZES = (Size(256, 160), Size(192, 320))
"""At which a network is run that was exported for one size, to see whether it needs that one."""
TRIED_FREE = (Size(256, 192), Size(192, 320))
"""The same of a network with dynamic axes. Those with a stride of 64 take multiples of it only."""
NOT_STATED = "Not stated by the person who adopted the file."
NEWEST_FOR_TENSORRT_8 = 17


@dataclass(frozen=True)
class Wishes:
    """What the user says of a network.

    Attributes:
        layout: a key of ``LAYOUTS``, or ``auto``.
        classes: see ``read_names``; empty: the file's metadata.
        size: of the input; None: the network's own.
        anchors: of maps that are not decoded.
        resize, colour, values: as in ``Pixels``; empty: those of the layout.
    """

    layout: str = AUTO
    classes: str = ""
    size: Size | None = None
    anchors: Anchors = ()
    resize: str = ""
    colour: str = ""
    values: str = ""


@dataclass(frozen=True)
class Adopted:
    """What was written.

    Attributes:
        card: of the file.
        layout: its name.
        head: what was recognised.
        pixels: what the network sees.
        any_size: whether it runs at other sizes too.
        assumed: what nothing in the file says.
        limits: what the file cannot do because of its export.
        found: number of objects in the test picture, whatever their scores.
    """

    card: ModelCard
    layout: str
    head: Head
    pixels: Pixels
    any_size: bool
    assumed: tuple[str, ...]
    limits: tuple[str, ...] = ()
    found: int = 0


def adopt(path: Path, out: Path, wishes: Wishes) -> Adopted:
    """Write ``out``, a model file of this package, from an ONNX file.

    Raises:
        AdoptError: that is not possible; ``out`` is as it was.
    """
    source = read_source(path)
    names = _names(source, wishes)
    size, assumed = _size(source, wishes)
    facts = Facts(outputs_of(source, size), size, source.size is None, len(names), wishes.anchors)
    layout, head = recognise(wishes.layout, facts)
    _check_names(names, head.classes, wishes, path)
    if source.size is None:
        source, head = _tied(source, layout, head, facts)
    elif head.follows_size:
        source, head = _freed(source, layout, head, facts)
    size = _wished_size(source, size, wishes)
    pixels = _pixels(head.pixels, wishes)
    assumed = (*head.assumed, *assumed, *_assumed_pixels(layout, wishes))
    model = adopted_graph(source, head, pixels)
    card = _card(source, out.stem, layout, names, size, pixels, assumed)
    result = Adopted(card, layout, head, pixels, source.size is None, assumed, _limits(source))
    try:
        return replace(result, found=_write(model, card, out))
    except OSError as error:
        raise AdoptError(f"{shortened(out)} cannot be written: {error.strerror}") from None


def _freed(source: Source, layout: str, head: Head, facts: Facts) -> tuple[Source, Head]:
    """Return a network that was exported for one size for all sizes, if its operators follow."""
    free = of_any_size(source)
    if not _follows(free, layout, head, facts, TRIED_SIZES):
        return source, head
    return free, recognise(layout, replace(facts, any_size=True))[1]


def _tied(source: Source, layout: str, head: Head, facts: Facts) -> tuple[Source, Head]:
    """Return a network with dynamic axes for one size, if its operators do not follow others.

    Tracing leaves constants of the size that it was done with, unless the network was prepared.
    """
    if _follows(source, layout, head, facts, TRIED_FREE):
        return source, head
    tied = replace(source, size=facts.size)
    return tied, recognise(layout, replace(facts, any_size=False))[1]


def _follows(free: Source, layout: str, head: Head, facts: Facts, sizes: tuple[Size, ...]) -> bool:
    """Whether the operators of a network follow other sizes.

    A network whose maps do not fit each other at another size fails, or has other outputs.
    """
    try:
        for size in sizes:
            tried = replace(facts, outputs=outputs_of(free, size), size=size, any_size=True)
            if recognise(layout, tried)[1].classes != head.classes:
                return False
    except AdoptError:
        return False
    return True


def _write(model: onnx.ModelProto, card: ModelCard, out: Path) -> int:
    """Write the file if it works; return the number of objects in the test picture."""
    from onnx import helper

    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    with replacing(out) as temporary:
        temporary.write_bytes(model.SerializeToString())
        return _try(temporary)


def _try(path: Path) -> int:
    """Open a file as the node does, and detect in a picture."""
    options = RunOptions(str(path), backend=OnnxRuntimeBackend.name)
    try:
        detector = Detector.open(options, selection=EVERYTHING)
        found = len(detector.detect(sample_images()[0]))
        detector.close()
    except (BackendError, ModelError) as error:
        raise AdoptError(f"what was made of it does not work: {problem(error)}") from None
    return found


def _size(source: Source, wishes: Wishes) -> tuple[Size, tuple[str, ...]]:
    """A size that the network runs at, and what was assumed for it.

    Raises:
        AdoptError: the size is none that a network can have.
    """
    if source.size and max(source.size) > MAX_SIDE:  # one image of it may take all memory
        raise AdoptError(
            f"it was exported for {source.size}: export it for sides from 1 to {MAX_SIDE}"
        )
    if wishes.size and wishes.size != source.size:
        try:
            check_own_size(wishes.size, _irregular(wishes.size))
        except ValueError as error:
            raise AdoptError(f"--size: {error}") from None
    size = source.size or wishes.size or known_size(source.metadata)
    if size:
        return size, ()
    return DEFAULT_SIZE, (f"it was made for {DEFAULT_SIZE} (else give --size)",)


def _irregular(size: Size) -> bool:
    """Whether a size is none that all networks run at, so that one must be made for it."""
    return any(side % STRIDE for side in size)


def _wished_size(source: Source, size: Size, wishes: Wishes) -> Size:
    """The usual size of the input."""
    if source.size and wishes.size and source.size != wishes.size:
        raise AdoptError(
            f"it was exported for {source.size}: export it for {wishes.size}, or with dynamic axes"
        )
    return wishes.size or size


def _names(source: Source, wishes: Wishes) -> tuple[str, ...]:
    """Names of the classes; none if nothing states them."""
    if wishes.classes:
        return read_names(wishes.classes)
    return parse_names(source.metadata["names"]) if "names" in source.metadata else ()


def _check_names(names: tuple[str, ...], classes: int, wishes: Wishes, path: Path) -> None:
    if not names:
        raise AdoptError(
            f"{shortened(path)} does not name its {f'{classes} ' if classes else ''}classes: give "
            f"--classes with a text file (a name on each line), a data.yaml, or the word {COCO}"
        )
    if classes and len(names) != classes:
        where = wishes.classes or "its metadata"
        raise AdoptError(
            f"{shortened(path)} has {classes} classes, but {shortened(where)} names {len(names)}"
        )


def _pixels(pixels: Pixels, wishes: Wishes) -> Pixels:
    given = {name: getattr(wishes, name) for name in ("resize", "colour", "values")}
    return replace(pixels, **{name: value for name, value in given.items() if value})


def _assumed_pixels(layout: str, wishes: Wishes) -> tuple[str, ...]:
    """What is said of the pixels: an ONNX file does not state it."""
    flags = {"--resize": wishes.resize, "--colour": wishes.colour, "--pixels": wishes.values}
    open_flags = [flag for flag, value in flags.items() if not value]
    if not open_flags:
        return ()
    return (f"it sees images as {layout} does in its own project (else {', '.join(open_flags)})",)


def _limits(source: Source) -> tuple[str, ...]:
    """What the file cannot do because of its export."""
    notes = []
    if source.size:
        notes.append(f"It runs at {source.size} only, for which it was exported.")
    if source.batch:
        notes.append("It takes one image a run, for which it was exported: max_batch stays at 1.")
    if source.opset > NEWEST_FOR_TENSORRT_8:
        notes.append(
            f"Its operators are of version {source.opset}: TensorRT 8 (JetPack 5) reads up to "
            f"{NEWEST_FOR_TENSORRT_8}, so export with opset {NEWEST_FOR_TENSORRT_8} for it."
        )
    return tuple(notes)


def _card(
    source: Source,
    name: str,
    layout: str,
    names: tuple[str, ...],
    size: Size,
    pixels: Pixels,
    assumed: tuple[str, ...],
) -> ModelCard:
    """Describe a network.

    Raises:
        AdoptError: a name or the size is one that no card can have.
    """
    metadata = source.metadata
    licence, data = (shortened(metadata.get(key, "")) for key in ("license", "description"))
    irregular = source.size is not None or _irregular(size)
    try:
        return ModelCard(
            name=name,
            detector=layout,
            classes=names,
            default_size=size.width,
            default_height=0 if size.width == size.height else size.height,
            any_size=irregular,
            fixed_size=source.size is not None,
            one_image=source.batch > 0,
            resize=pixels.resize,
            precision=precision_of(source.model),
            parameters=parameters_of(source.model),
            data=data or NOT_STATED,
            licence=f"{licence} (as its exporter wrote)" if licence else NOT_STATED,
            recipe=f"Adopted from {shortened(source.path.name)} (SHA-256 {source.sha256}) as "
            f"{layout}: {pixels.colour}, {pixels.values}, {pixels.resize}.",
            notes=f"Assumed: {'; '.join(assumed)}." if assumed else "",
        )
    except ModelCardError as error:
        raise AdoptError(str(error)) from None
