# SPDX-License-Identifier: Apache-2.0
"""Make the FP16 or INT8 version of an exported model, and measure its accuracy.

    python -m training.quantise --model models/yolo_ret_m075.onnx --precision int8 \
        --data street/data.yaml --out models/yolo_ret_m075_int8.onnx

INT8 is written as explicit Q/DQ nodes, for TensorRT and OpenVINO. The card (.md) and the entry in
manifest.yaml are written next to the file. The card has the AP on the val split, found by the
node's detector. Runtimes differ in how they compute INT8, so the one that is fast on a CPU judges
it, and the card has the AP of each.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import onnx
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.support.terminal import open_console
from training.data.dataset import DataError, DataSet, open_split
from training.data.findings import require_objects
from training.data.input_sizes import SettingsSize
from training.data.joining import read_classes
from training.data.sample import Sample
from training.deployment.model_card import stated
from training.deployment.onnx_export import save
from training.deployment.publishing import check_ending, publish
from training.deployment.weight_storage import read_graph
from training.evaluate import average_precision, open_model
from training.quantisation.calibration import METHODS, letterboxed, observe
from training.quantisation.qdq_graph import find_places, quantise
from training.quantisation.sensitivity import sensitivities

# Numbers of the most sensitive convolutions that stay float, tried until AP50 falls little enough.
LEFT_FLOAT = (0, 1, 2, 4, 8, 16)
# Images that the sensitivity of convolutions is measured on.
FEW = 6

CPU_RUNTIMES = {"int8": ("openvino", "onnxruntime"), "fp16": ("onnxruntime",)}
"""What measures a precision, the fastest on a CPU first; those that are not installed are left out.
"""

INT8_ONLY = ("split", "pictures", "method", "skip")
"""Options of the calibration."""

Figures = dict[str, dict[str, float]]


def int8_candidates(
    model: onnx.ModelProto,
    samples: Sequence[Sample],
    card: ModelCard,
    sizes: Sequence[SettingsSize],
    method: str,
    skip: Sequence[str],
    progress: Progress,
) -> Iterator[tuple[onnx.ModelProto, str]]:
    """Yield Q/DQ versions of a model, each with more convolutions in float than the one before.

    Args:
        model: the FP32 graph.
        samples: images to calibrate with.
        card: of the model.
        sizes: of the input, used in turn.
        method: a key of METHODS.
        skip: patterns of names of convolutions that stay float.
        progress: shows the work.

    Yields:
        The version, and a description of how it was made.
    """
    images = list(letterboxed(samples, sizes, card.resize))
    places = find_places(model, skip)
    seen = progress.track(images, description="calibrating")
    histograms = observe(model, places.tensors, seen)
    ranges = {name: METHODS[method](histogram) for name, histogram in histograms.items()}
    words = f"ranges by {method} from {len(samples)} pictures at {', '.join(map(_text, sizes))}"
    sensitive: list[str] = []
    for count in LEFT_FLOAT:
        if count and not sensitive:
            one_by_one = progress.track(places.convolutions, description="finding sensitive layers")
            sensitive = list(sensitivities(model, one_by_one, ranges, images[:FEW]))
        left = [*skip, *sensitive[:count]]
        said = f"{words}; float: {', '.join(left)}" if left else words
        yield quantise(model, find_places(model, left), ranges), said


def measure(
    path: Path, samples: DataSet, sizes: Sequence[SettingsSize], runtime: str, progress: Progress
) -> Figures:
    """Return the figures of ``average_precision`` by size of the input.

    Args:
        path: the ONNX file.
        samples: the images.
        sizes: of the input.
        runtime: what runs the network.
        progress: shows the work.
    """
    model = open_model(str(path.resolve()), runtime)
    figures = {}
    for size in sizes:
        answers = model.detect(samples, size)
        shown = escape(f"{path.stem} at {_text(size)}, {runtime}")
        found = list(progress.track(answers, len(samples), description=shown))
        figures[_text(size)] = stated(average_precision(samples, found, model.classes))
    return figures


def largest_loss(before: Figures, after: Figures) -> tuple[float, str]:
    """Return the most points of AP50 that are lost at a size of the input, and that size."""
    return max((100 * (before[size]["AP50"] - after[size]["AP50"]), size) for size in before)


def described(card: ModelCard, name: str, precision: str, how: str, source: Figures) -> ModelCard:
    """Return the card of a version in another precision.

    Args:
        card: of the source.
        name: of the version.
        precision: of the version.
        how: it was made; may be empty.
        source: figures of the source by size of the input.
    """
    made = f"{precision} made of {card.name} ({card.precision}) by `python -m training.quantise`"
    compared = ", ".join(f"{figures['AP50']:.3f} at {size}" for size, figures in source.items())
    return replace(
        card,
        name=name,
        precision=precision,
        recipe=f"{card.recipe} Then {made}{how and ': '}{how}.".strip(),
        notes=f"{card.notes} AP50 of {card.name} ({card.precision}): {compared}.".strip(),
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the FP16 or INT8 version of a model.")
    parser.add_argument("--model", required=True, help="name or ONNX file of a model in FP32")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--precision", choices=("fp16", "int8"), default="int8")
    parser.add_argument(
        "--data", type=Path, required=True, help="data.yaml: calibrate on --split, measure on val"
    )
    parser.add_argument("--split", default="train", help="split of the calibration images")
    parser.add_argument("--pictures", type=int, default=96, help="how many, spread over the split")
    parser.add_argument("--method", choices=list(METHODS), default="least-squares")
    parser.add_argument(
        "--skip",
        nargs="*",
        action="extend",
        default=[],
        help="convolutions to leave in float (names, * allowed)",
    )
    parser.add_argument(
        "--largest-loss",
        type=float,
        default=1.0,
        help="AP50 points at any size of the card; else the most sensitive convolutions stay float",
    )
    arguments = parser.parse_args()
    given = [name for name in INT8_ONLY if getattr(arguments, name) != parser.get_default(name)]
    try:
        if given and arguments.precision != "int8":
            raise ValueError(f"--{given[0]} goes with --precision int8")
        _make(arguments)
    except (BackendError, DataError, ModelError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _make(arguments: argparse.Namespace) -> None:
    check_ending(arguments.out)
    found = find_model(arguments.model)
    card = found.card
    if card.precision != "fp32":
        raise ValueError(f"{arguments.model} is {card.precision} already: give the fp32 file")
    if arguments.pictures < 1:
        raise ValueError("--pictures must be at least 1")
    if math.isnan(arguments.largest_loss):
        raise ValueError("--largest-loss must be a number")
    if read_classes(arguments.data) != card.classes:
        raise ValueError(f"{arguments.data} and {arguments.model} have different classes")
    model = read_graph(found.path)
    sizes = sizes_of(card)
    if arguments.precision == "int8":
        find_places(model, arguments.skip)
        samples = _spread(open_split(arguments.data, arguments.split, "none"), arguments.pictures)
    held_out = open_split(arguments.data, "val")
    require_objects(arguments.data, "val", held_out)
    judge, *others = _runtimes(arguments.precision)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    console = open_console(stderr=True)
    with Progress(*columns, console=console) as progress, tempfile.TemporaryDirectory() as folder:
        before = measure(found.path, held_out, sizes, judge, progress)
        if arguments.precision == "fp16":
            half = onnx.load_from_string(to_half(model.SerializeToString()))
            candidates = iter([(half, "")])
        else:
            candidates = int8_candidates(
                model, samples, card, sizes, arguments.method, arguments.skip, progress
            )
        for candidate, how in candidates:
            new = described(card, arguments.out.stem, arguments.precision, how, before)
            path = Path(folder) / arguments.out.name
            save(candidate, new, path)
            after = measure(path, held_out, sizes, judge, progress)
            console.print(f"{how or arguments.precision}: AP50 {_compared(before, after)}")
            lost, size = largest_loss(before, after)
            if lost < arguments.largest_loss:
                break
        else:
            console.print(
                f"It still loses {lost:.1f} points at {size}, not less than "
                f"{arguments.largest_loss} points."
            )
        by_runtime = {judge: after}
        for runtime in others:
            by_runtime[runtime] = measure(path, held_out, sizes, runtime, progress)
    measured = replace(new, ap=after, ap_by_runtime=by_runtime if len(by_runtime) > 1 else {})
    save(candidate, measured, arguments.out)
    publish(measured, arguments.out)
    print(f"{arguments.out}: AP50 {_compared(before, after)}")


def sizes_of(card: ModelCard) -> list[SettingsSize]:
    """Return the inputs that a card has figures for and the model's own, the narrowest first.

    A network that runs at its own size only has that alone.
    """
    known = {card.own_size, *(() if card.has_one_size else map(Size.parse, card.gmacs))}
    return [SettingsSize(*size) for size in sorted(known)]


def _text(size: SettingsSize) -> str:
    return str(size.to_settings())


def _runtimes(precision: str) -> list[str]:
    return [name for name in CPU_RUNTIMES[precision] if find_spec(name)]


def _spread(samples: DataSet, count: int) -> list[Sample]:
    return [samples[place] for place in spread_places(len(samples), count)]


def spread_places(images: int, count: int) -> list[int]:
    """Return the places of ``count`` images, or of all if there are fewer, in even steps."""
    count = min(count, images)
    return [place * images // count for place in range(count)]


def _compared(before: Figures, after: Figures) -> str:
    return ", ".join(
        f"{before[size]['AP50']:.3f} -> {after[size]['AP50']:.3f} at {size}" for size in before
    )


if __name__ == "__main__":
    sys.exit(main())
