# SPDX-License-Identifier: Apache-2.0
"""A PyTorch network for inference from the sections of a darknet cfg file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compact_yolo_ros.model.sizes import MAX_SIDE, STRIDE, Size
from training.darknet.cfg import DarknetError, Section
from training.darknet.layers import (
    ACTIVATIONS,
    Convolution,
    Head,
    MaxPool,
    Product,
    Route,
    Shortcut,
)
from training.darknet.weights import ConvolutionWeights
from training.detectors.anchor_grid import AnchorGrid
from training.detectors.blocks import Reorg

# Options that would change the result, and the value at which they do not (None: no value). All
# others that are not read below only affect training.
NEUTRAL: dict[str, dict[str, str | None]] = {
    "net": {"channels": "3"},
    "convolutional": {
        "dilation": "1",
        "antialiasing": "0",
        "stride_x": None,
        "stride_y": None,
        "binary": "0",
        "xnor": "0",
        "flipped": "0",
        "dontload": "0",
        "dontloadscales": "0",
    },
    "maxpool": {"antialiasing": "0", "maxpool_depth": "0", "stride_x": None, "stride_y": None},
    "shortcut": {"weights_type": "none"},
    "upsample": {"scale": "1"},
    "reorg": {"reverse": "0", "flatten": "0", "extra": "0"},
    "region": {"softmax": "1", "coords": "4", "background": "0", "tree": None},
}


# Layers that read a fixed choice of those before them, as a [route]: Tinier-YOLO's darknet
# (github.com/jnfrancis/Tinier-YOLO) has a kind for each. Negative numbers count backwards.
FIXED_ROUTES = {
    "get_squeeze": (-2,),
    "merge_expand": (-1, -3),
    "dense": (-1, -6),
    "pass_through0": (8,),
    "pass_through1": (-1, -4),
    "pass_through2": (-4,),
    "pass_through3": (-1, 8),
}


# The option in which a kind of layer names others that it reads.
NAMING = {"route": "layers", "shortcut": "from", "scale_channels": "from", "sam": "from"}


class Shape(NamedTuple):
    """Size of a map: channels, and pixels at the cfg's own input size."""

    channels: int
    height: int
    width: int


class DarknetNetwork(nn.Module):
    """Images (N, 3, H, W), RGB in 0..1, to the raw maps (N, A*(5+C), H/s, W/s) of all heads.

    Attributes:
        grid: how the maps are decoded, levels in the order of the cfg.
        num_classes: classes of every head.
        input: input size of the cfg.
        any_size: its input or a map has a size that is not one of all networks, see
            ``AnchorGrid``.
        letterbox: whether the network was trained on letterboxed images, not stretched ones.
        kinds: kind of every layer.
        sources: numbers of the layers that every layer reads; -1 is the image.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        """Build the network of ``sections``; it has no weights before ``load``.

        Raises:
            DarknetError: the network cannot be built; the sentence names the section.
        """
        super().__init__()
        if not sections or sections[0].kind != "net":
            raise DarknetError("the first section is not [net]: this is no cfg of a network")
        net, *layers = sections
        self.input = _input_shape(net)
        self.letterbox = bool(net.whole("letter_box", 0))
        self.kinds = [section.kind for section in layers]
        self.sources: list[tuple[int, ...]] = []
        self.layers = nn.ModuleList()
        shapes = {-1: self.input}
        pooled: set[int] = set()
        for index, section in enumerate(layers):
            sources = _sources(section, index)
            for source in sources:
                if source >= 0 and isinstance(self.layers[source], Head):
                    raise DarknetError(f"{section} reads from layer {source}, which is an output")
            # No memory and no random values: ``load`` replaces them.
            with torch.device("meta"):
                module, shape = _build(section, [shapes[source] for source in sources])
            _check_size(section, shape, self.input)
            self.layers.append(module)
            self.sources.append(sources)
            shapes[index] = shape
            if section.kind == "avgpool" or pooled.issuperset(sources):
                pooled.add(index)
        self.any_size = not all(_is_regular(shapes[i], self.input) for i in shapes.keys() - pooled)
        self.grid, self.num_classes = self._decoding(shapes)
        self._take_logits(layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = {-1: images}
        for index, (module, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            outputs[index] = module(*(outputs[source] for source in sources))
        return [outputs[i] for i, layer in enumerate(self.layers) if isinstance(layer, Head)]

    @property
    def convolutions(self) -> list[Convolution]:
        """Layers with weights, in the order of the weights file."""
        return [layer for layer in self.layers if isinstance(layer, Convolution)]

    @property
    def trained_values(self) -> int:
        """Number of parameters, without the running statistics of batch norms."""
        stored = [convolution.stored for convolution in self.convolutions]
        return sum(s.count - 2 * s.kernel[0] * s.normalised for s in stored)

    def load(self, weights: Sequence[ConvolutionWeights]) -> None:
        """Load the values of a weights file, as ``parse_weights`` returns them."""
        for convolution, values in zip(self.convolutions, weights, strict=True):
            convolution.load(values)

    def _decoding(self, shapes: dict[int, Shape]) -> tuple[AnchorGrid, int]:
        heads = [(i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, Head)]
        if not heads:
            raise DarknetError("there is no [yolo] and no [region] layer: this is no detector")
        kinds = {(head.classes, len(head.anchors), head.softmax, head.squared) for _, head in heads}
        if len(kinds) > 1:
            raise DarknetError("the outputs differ in kind, classes or anchors in a cell")
        first = heads[0][1]
        grid = AnchorGrid(
            tuple(_anchors(head, shapes[i], self.input) for i, head in heads),
            tuple(max(1, round(self.input.width / shapes[i].width)) for i, _ in heads),
            tuple(head.xy_scale for _, head in heads),
            first.softmax,
            first.squared,
            self.any_size,
        )
        return grid, first.classes

    def _take_logits(self, sections: Sequence[Section]) -> None:
        """Leave out the sigmoids before the heads that have none themselves (new_coords)."""
        read = Counter(source for sources in self.sources for source in sources)
        for section, layer, (source, *_) in zip(sections, self.layers, self.sources, strict=True):
            if isinstance(layer, Head) and layer.squared:
                before = self.layers[source]
                if not (isinstance(before, Convolution) and before.logistic and read[source] == 1):
                    raise DarknetError(
                        f"{section} has new_coords=1, which is only supported behind a "
                        "[convolutional] of its own with activation=logistic"
                    )
                before[1] = nn.Identity()


def _anchors(head: Head, shape: Shape, image: Shape) -> tuple[tuple[float, float], ...]:
    """Return the anchors in input pixels; those of a [region] are given in cells."""
    if not head.softmax:
        return head.anchors
    across, down = image.width / shape.width, image.height / shape.height
    return tuple((w * across, h * down) for w, h in head.anchors)


def _input_shape(net: Section) -> Shape:
    _check_options(net)
    height, width = net.whole("height"), net.whole("width")
    for side in (height, width):
        if not 1 <= side <= MAX_SIDE:
            raise DarknetError(f"{net}: input size {side} is not usable: give 1 to {MAX_SIDE}")
    return Shape(3, height, width)


def _check_options(section: Section) -> None:
    for key, neutral in NEUTRAL.get(section.kind, {}).items():
        if section.option(key, neutral) != neutral:
            raise DarknetError(f"{section} has {key}={section.text(key)}, which is not supported")


def _check_size(section: Section, shape: Shape, image: Shape) -> None:
    if min(shape) < 1 or max(shape[1:]) > 2 * max(image[1:]):
        raise DarknetError(
            f"{section} makes a map of {shape.width} x {shape.height} from an input of "
            f"{image.width} x {image.height}: it must have a pixel, and at most twice its sides"
        )


def _is_regular(shape: Shape, image: Shape) -> bool:
    """Return whether a map is a 1st, 2nd, 4th ... 32nd of an input that all networks can have.

    Then it is the same part of every such input.
    """
    try:
        Size(image.width, image.height).check()
    except ValueError:
        return False
    down = image.width // shape.width
    fits = (shape.height * down, shape.width * down) == (image.height, image.width)
    return fits and STRIDE % down == 0


def _sources(section: Section, index: int) -> tuple[int, ...]:
    """Return the absolute numbers of the layers that layer ``index`` reads."""
    named = FIXED_ROUTES.get(section.kind, ())
    if section.kind in NAMING:
        named = section.wholes(NAMING[section.kind])
    absolute = tuple(index + n if n < 0 else n for n in named)
    for given, number in zip(named, absolute, strict=True):
        if not 0 <= number < index:
            raise DarknetError(f"{section} reads layer {given}, which does not come before it")
    routed = section.kind == "route" or section.kind in FIXED_ROUTES
    return absolute if routed else (index - 1, *absolute)


def _build(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    if section.kind not in BUILDERS:
        known = ", ".join(sorted(BUILDERS))
        raise DarknetError(f"{section} is not supported: the layers that are: {known}")
    _check_options(section)
    return BUILDERS[section.kind](section, inputs)


def _activation(section: Section, default: str) -> nn.Module:
    name = section.text("activation", default)
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise DarknetError(f"{section} has activation={name}: the ones supported are {known}")
    return ACTIVATIONS[name]()


def _convolutional(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    channels, height, width = inputs[0]
    filters = section.whole("filters", 1, least=1)
    size = section.whole("size", 1, least=1)
    stride = section.whole("stride", 1, least=1)
    groups = section.whole("groups", 1, least=1)
    padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)
    if channels % groups or filters % groups:
        raise DarknetError(f"{section} cannot divide {channels} to {filters} channels by {groups}")
    height, width = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    conv = nn.Conv2d(channels, filters, size, stride, padding, groups=groups)
    normalised = bool(section.whole("batch_normalize", 0))
    module = Convolution(conv, _activation(section, "logistic"), normalised, section.line)
    return module, Shape(filters, height, width)


def _maxpool(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    channels, height, width = inputs[0]
    stride = section.whole("stride", 1, least=1)
    size = section.whole("size", stride, least=1)
    padding = section.whole("padding", size - 1)
    if padding >= size:
        raise DarknetError(f"{section} has padding={padding}, which is not less than its size")
    height, width = ((side + padding - size) // stride + 1 for side in (height, width))
    return MaxPool(size, stride, padding), Shape(channels, height, width)


def _route(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    groups = section.whole("groups", 1, least=1)
    group = section.whole("group_id", 0)
    if group >= groups or any(shape.channels % groups for shape in inputs):
        raise DarknetError(f"{section} cannot take part {group} of {groups} of its inputs")
    if len({shape[1:] for shape in inputs}) > 1:
        raise DarknetError(f"{section} joins maps of different width or height")
    sizes = [shape.channels // groups for shape in inputs]
    parts = [(group * size, (group + 1) * size) for size in sizes]
    return Route(parts), inputs[0]._replace(channels=sum(sizes))


def _shortcut(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    if len({shape[1:] for shape in inputs}) > 1:
        raise DarknetError(f"{section} adds maps of different width or height")
    channels = [shape.channels for shape in inputs]
    return Shortcut(channels, _activation(section, "linear")), inputs[0]


def _avgpool(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    return nn.AdaptiveAvgPool2d(1), Shape(inputs[0].channels, 1, 1)


def _scale_channels(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    factor, scaled = _two(section, inputs)
    by_pixel = section.whole("scale_wh", 0)
    wanted = scaled._replace(channels=1) if by_pixel else Shape(scaled.channels, 1, 1)
    if factor != wanted:
        raise DarknetError(
            f"{section} needs a factor for every {'pixel' if by_pixel else 'channel'} of the map "
            f"it scales, {_text(wanted)}, but reads {_text(factor)}"
        )
    return Product(_activation(section, "linear")), scaled


def _sam(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    factor, scaled = _two(section, inputs)
    if factor != scaled:
        raise DarknetError(f"{section} multiplies {_text(factor)} with {_text(scaled)} values")
    return Product(_activation(section, "linear")), scaled


def _two(section: Section, inputs: list[Shape]) -> tuple[Shape, Shape]:
    if len(inputs) != 2:
        raise DarknetError(f"{section} must name one layer in 'from'")
    return inputs[0], inputs[1]


def _text(shape: Shape) -> str:
    return f"{shape.width} x {shape.height} x {shape.channels}"


def _upsample(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    channels, height, width = inputs[0]
    stride = section.whole("stride", 2, least=1)
    module = nn.Upsample(scale_factor=float(stride), mode="nearest")
    return module, Shape(channels, height * stride, width * stride)


def _reorg(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    channels, height, width = inputs[0]
    stride = section.whole("stride", 1, least=1)
    if channels % stride**2:
        raise DarknetError(f"{section} cannot divide {channels} channels by {stride**2}")
    if height % stride or width % stride:
        raise DarknetError(f"{section} cannot divide a map of {width} x {height} by {stride}")
    return Reorg(stride), Shape(channels * stride**2, height // stride, width // stride)


def _dropout(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    return nn.Identity(), inputs[0]


def _yolo(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    pairs = _anchor_pairs(section)
    mask = section.wholes("mask", tuple(range(len(pairs))))
    if not all(0 <= number < len(pairs) for number in mask):
        raise DarknetError(f"{section} has a mask that points outside its {len(pairs)} anchors")
    anchors = [pairs[number] for number in mask]
    head = Head(
        anchors,
        _classes(section),
        xy_scale=section.number("scale_x_y", 1.0),
        squared=bool(section.whole("new_coords", 0)),
    )
    return _fitting(section, head, inputs[0])


def _region(section: Section, inputs: list[Shape]) -> tuple[nn.Module, Shape]:
    # Without softmax, darknet's two lines of development disagree about what the classes mean.
    if not section.whole("softmax", 0):
        raise DarknetError(f"{section} is not supported without softmax=1")
    head = Head(_anchor_pairs(section), _classes(section), softmax=True)
    return _fitting(section, head, inputs[0])


def _anchor_pairs(section: Section) -> list[tuple[float, float]]:
    values = section.numbers("anchors")
    count = section.whole("num", 1, least=1)
    if len(values) != 2 * count or min(values) <= 0:
        raise DarknetError(f"{section} needs {count} pairs of positive anchors, as num says")
    return list(zip(values[::2], values[1::2], strict=True))


def _classes(section: Section) -> int:
    return section.whole("classes", 20, least=1)


def _fitting(section: Section, head: Head, shape: Shape) -> tuple[Head, Shape]:
    expected = len(head.anchors) * (5 + head.classes)
    if shape.channels != expected:
        raise DarknetError(
            f"{section} reads {shape.channels} channels, but {len(head.anchors)} anchors and "
            f"{head.classes} classes need {expected}"
        )
    return head, shape


Builder = Callable[[Section, list[Shape]], tuple[nn.Module, Shape]]
BUILDERS: dict[str, Builder] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "route": _route,
    "shortcut": _shortcut,
    "upsample": _upsample,
    "reorg": _reorg,
    "dropout": _dropout,
    "avgpool": _avgpool,
    "scale_channels": _scale_channels,
    "sam": _sam,
    "yolo": _yolo,
    "region": _region,
    **dict.fromkeys(FIXED_ROUTES, _route),
}
