# SPDX-License-Identifier: Apache-2.0
"""Read the checkpoints that the authors of YOLO-ReT publish (Keras, .h5, MIT) into a detector.

    python -m training.weights.import_yolo_ret --source mobilenetv2x75_320_voc.h5 \
        --classes voc_classes.txt --out yolo_ret_m075_voc.pt

Layers without a name of their own are numbered by Keras in the order in which the authors' code
makes them. The networks are those with MobileNetV2; they take RGB in 0..1 and pad as TensorFlow
does. Images are letterboxed with black there, with grey here.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from compact_yolo_ros.labels.yolo import listed_names
from training.deployment.publishing import check_ending
from training.detectors.blocks import ConvNormAct, SqueezeExcite
from training.detectors.mobilenet_v2 import MobileNetV2
from training.detectors.necks import HeadUnit, PathAggregation
from training.detectors.rfcr import RawFeatureCollection
from training.detectors.variant import Variant
from training.detectors.yolo_ret import YoloRet
from training.loop.checkpoint import save_checkpoint
from training.weights.from_arrays import (
    Arrays,
    fill_convolution,
    fill_from_keras,
    fill_norm,
    read_h5,
)

NAMES = ("yolo_ret_m075", "yolo_ret_m14")
NUMBERED = re.compile(r"(conv2d|depthwise_conv2d|batch_normalization|weighted_sum)(?:_(\d+))?$")


class _Numbered:
    """The layers without a name of their own, in the order of their numbers."""

    def __init__(self, arrays: Arrays) -> None:
        found: dict[str, dict[int, str]] = {}
        for layer, _ in arrays:
            if match := NUMBERED.match(layer):
                found.setdefault(match[1], {})[int(match[2] or 0)] = layer
        self._left = {kind: [of[n] for n in sorted(of)] for kind, of in found.items()}

    def next(self, kind: str) -> str:
        """Return the next layer of a kind; raises ValueError if there is none."""
        if not self._left.get(kind):
            raise ValueError(f"it has too few layers {kind}_N")
        return self._left[kind].pop(0)

    def left(self) -> list[str]:
        """Return the layers that were not asked for."""
        return [layer for layers in self._left.values() for layer in layers]


@torch.no_grad()
def fill(detector: YoloRet, arrays: Arrays) -> None:
    """Load the authors' weights.

    Raises:
        ValueError: they are of another network.
    """
    assert isinstance(detector.backbone, MobileNetV2)
    fill_from_keras(detector.backbone, arrays)
    numbered = _Numbered(arrays)
    for module, own_name in _as_made(detector):
        if isinstance(module, ConvNormAct):
            depthwise = module.conv.groups > 1
            kind = "depthwise_conv2d" if depthwise else "conv2d"
            conv = f"{own_name}_conv" if own_name else numbered.next(kind)
            norm = f"{own_name}_BN" if own_name else numbered.next("batch_normalization")
            fill_convolution(module.conv, arrays, conv, depthwise)
            fill_norm(module.norm, arrays, norm)
        elif isinstance(module, nn.Conv2d):
            fill_convolution(module, arrays, numbered.next("conv2d"))
        else:
            _fill_weights(module, arrays, numbered.next("weighted_sum"))
    if left := numbered.left():
        raise ValueError(f"there is no place for {left[0]}")


def _fill_weights(target: Tensor, arrays: Arrays, layer: str) -> None:
    """Load the weights of raw maps, which the authors order from stride 32 to 4."""
    value = arrays.get((layer, "alpha"))
    if value is None or value.shape != tuple(target.shape):
        raise ValueError(f"{layer}/alpha is missing or has another shape")
    target.copy_(torch.from_numpy(value[::-1].copy()))


Part = ConvNormAct | nn.Conv2d | Tensor


def _as_made(detector: YoloRet) -> Iterator[tuple[Part, str]]:
    """Yield the parts after the backbone as the authors' code makes them, with names given."""
    rfcr, neck = detector.collection, detector.neck
    assert isinstance(rfcr, RawFeatureCollection) and isinstance(neck, PathAggregation)
    for conv in reversed(rfcr.collect):
        assert isinstance(conv, nn.Conv2d)
        yield conv, ""
    yield rfcr.weights, ""
    yield from _parts(rfcr.mix)
    yield from _parts(neck.p5)
    yield neck.p5_up, "block_20"
    yield from _parts(neck.p4)
    yield neck.p4_up, "block_24"
    yield from _parts(neck.p3)
    head3, head4, head5 = detector.heads
    for unit, head, down in (
        (neck.q3, head3, neck.q3_down),
        (neck.q4, head4, neck.q4_down),
        (neck.q5, head5, None),
    ):
        yield from _parts(unit)
        assert isinstance(head, nn.Conv2d)
        yield head, ""
        if down is not None:
            yield down, ""


def _parts(units: nn.Sequential | HeadUnit) -> Iterator[tuple[Part, str]]:
    for unit in units:
        if isinstance(unit, SqueezeExcite):
            yield unit.reduce, ""
            yield unit.expand, ""
        else:
            assert isinstance(unit, ConvNormAct)
            yield unit, ""


def read(name: str, source: Path, classes: int) -> tuple[Variant, YoloRet]:
    """Return the detector of a checkpoint of the authors.

    Raises:
        ValueError: the file cannot be read, or is of another network or number of classes.
    """
    variant = Variant.parse(f"{{name: {name}, uneven: true}}")
    detector = variant.build(classes)
    assert isinstance(detector, YoloRet)
    arrays = read_h5(source)
    try:
        fill(detector, arrays)
    except ValueError as error:
        raise ValueError(f"{source} is no {name} of {classes} classes: {error}") from None
    return variant, detector


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the process's exit code."""
    parser = argparse.ArgumentParser(
        prog="training.weights.import_yolo_ret", description="Read the authors' YOLO-ReT (.h5)."
    )
    parser.add_argument("--source", type=Path, required=True, help="the authors' .h5")
    parser.add_argument("--detector", default=NAMES[0], choices=NAMES)
    parser.add_argument("--classes", type=Path, required=True, help="file of names, one a line")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint (.pt)")
    options = parser.parse_args(arguments)
    try:
        check_ending(options.out, ".pt")
        classes = list(listed_names(options.classes))
        variant, detector = read(options.detector, options.source, len(classes))
        content = {"detector": variant.to_settings(), "classes": classes}
        save_checkpoint(options.out, content | {"average": detector.state_dict()})
    except (ValueError, OSError) as error:
        print(f"training.weights.import_yolo_ret: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {variant}, {len(classes)} classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
