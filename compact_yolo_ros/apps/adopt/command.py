# SPDX-License-Identifier: Apache-2.0
"""Make a model file of this package of an ONNX export of another project.

The network gets its pre-processing, decoding and a model card; nothing is trained or converted. The
node, the benchmark, recordings and TensorRT then take the file as they take the package's own.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from shlex import quote

from compact_yolo_ros.apps.adopt.adoption import Adopted, Wishes, adopt
from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.layouts.layout import Anchors
from compact_yolo_ros.apps.adopt.layouts.table import AUTO, LAYOUTS
from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.arguments import width_x_height
from compact_yolo_ros.support.error_text import shortened
from compact_yolo_ros.support.terminal import open_console, pairs_table, say
from compact_yolo_ros.support.termination import INTERRUPTED, terminable

ENDING = ".onnx"


def main(arguments: list[str] | None = None) -> int:
    """Adopt a network; return 0 if the file was written and works."""
    options = _parse(arguments)
    out = options.out or options.file.parent / f"{options.file.stem}_adopted{ENDING}"
    try:
        with terminable():
            _check_out(options.file, out, options.force)
            result = adopt(options.file, out, _wishes(options))
    except (AdoptError, BackendError) as error:
        print(f"adopt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    _report(result, out)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("adopt", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="the ONNX export")
    parser.add_argument("--layout", choices=(AUTO, *LAYOUTS), default=AUTO, help="of its outputs")
    parser.add_argument(
        "--classes",
        default="",
        metavar="names.txt|data.yaml|coco",
        help="names of the classes [those in the file]; coco: the 80 classes of COCO",
    )
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="of the input, where the file leaves it open"
    )
    parser.add_argument("--out", type=Path, help="file to write [FILE_adopted.onnx]")
    parser.add_argument("--force", action="store_true", help="overwrite the file that is there")
    ours = parser.add_argument_group("where the network differs from its layout's own project")
    ours.add_argument(
        "--resize", choices=("letterbox", "corner", "stretch"), default="", help="how images fit"
    )
    ours.add_argument("--colour", choices=("rgb", "bgr"), default="", help="order of the channels")
    ours.add_argument(
        "--pixels", choices=("0-1", "0-255", "imagenet"), default="", help="range of the values"
    )
    ours.add_argument(
        "--anchors",
        type=_anchors,
        default=(),
        metavar="W,H,W,H...;W,H...",
        help="of maps that are not decoded: in pixels, the scale of the smallest stride first",
    )
    return parser.parse_args(arguments)


def _wishes(options: argparse.Namespace) -> Wishes:
    return Wishes(
        layout=options.layout,
        classes=options.classes,
        size=options.size,
        anchors=options.anchors,
        resize=options.resize,
        colour=options.colour,
        values=options.pixels,
    )


def _size(text: str) -> Size:
    return Size(*width_x_height(text if "x" in text else f"{text}x{text}"))


def _anchors(text: str) -> Anchors:
    """Read ``10,13,16,30;30,61,62,45``.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    scales = []
    for scale in text.split(";"):
        words = re.split(r"[\s,]+", scale.strip(" \t\n,"))
        are_numbers = all(re.fullmatch(r"\d{1,5}(\.\d*)?", word, re.ASCII) for word in words)
        numbers = [float(word) for word in words] if are_numbers else []
        if not numbers or len(numbers) % 2 or min(numbers) <= 0:
            raise argparse.ArgumentTypeError(f"'{shortened(text)}' is not like 10,13,16,30;30,61")
        scales.append(tuple(zip(numbers[::2], numbers[1::2], strict=True)))
    if len({len(scale) for scale in scales}) > 1 or len(scales) > 8:
        raise argparse.ArgumentTypeError("every scale must have the same number of anchors")
    return tuple(scales)


def _check_out(file: Path, out: Path, force: bool) -> None:
    """Raise AdoptError unless ``out`` may be written."""
    try:
        _check_place(file, out, force)
    except OSError as error:  # a folder is closed, or a name is too long
        raise AdoptError(f"{shortened(out)} cannot be written: {error.strerror}") from None


def _check_place(file: Path, out: Path, force: bool) -> None:
    if out.suffix != ENDING or not out.parent.is_dir():
        raise AdoptError(
            f"{shortened(out)}: give --out a name that ends in {ENDING}, in a folder that exists"
        )
    if not out.exists():
        return
    if file.exists() and out.samefile(file):
        raise AdoptError(f"{shortened(out)} is the export itself: give --out another name")
    if not force:
        raise AdoptError(f"{shortened(out)} is there already: give --force or another --out")


def _report(result: Adopted, out: Path) -> None:
    card, pixels, console = result.card, result.pixels, open_console()
    pairs = [
        ("layout", f"{result.layout}: {result.head.found}"),
        ("classes", f"{len(card.classes)}: {card.classes[0]} to {card.classes[-1]}"),
        ("input", f"{card.own_size}{', or another size' if result.any_size else ''}"),
        ("image", f"{pixels.resize}, {pixels.colour}, {pixels.values}"),
        ("weights", f"{card.parameters:,} parameters, {card.precision}"),
        ("tried", f"{result.found} objects in a test picture, at scores from 0.001"),
        ("licence", card.licence),
    ]
    console.print(pairs_table(pairs, str(out)))
    for text in result.assumed:
        say(console, f"Assumed: {text}.")
    for sentence in result.limits:
        say(console, sentence)
    if not result.head.needs_nms:
        say(console, "It needs no suppression of boxes: set the parameter iou_threshold to 1.0.")
    say(console, "Check it on your own pictures, and compare its speed:")
    path = out.resolve()
    say(console, f"    ros2 launch compact_yolo_ros detector.launch.py {quote(f'model:={path}')}")
    say(console, f"    ros2 run compact_yolo_ros benchmark {quote(str(path))}")


if __name__ == "__main__":
    sys.exit(main())
