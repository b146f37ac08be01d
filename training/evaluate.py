# SPDX-License-Identifier: Apache-2.0
"""Evaluate a detector on labelled images.

    python -m training.evaluate --weights runs/street/last.pt --data street/data.yaml --size 320
    python -m training.evaluate --weights yolo_ret_m075 --data street/data.yaml --report out/r.html

A checkpoint (.pt) runs in PyTorch, everything else as the node runs it. Classes of model and data
are matched by name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from compact_yolo_ros.backends import PRECISIONS, BackendError, RunOptions, backend_names
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import EVERYTHING, Selection
from compact_yolo_ros.detection.suppression import select
from compact_yolo_ros.evaluation import ClassMapping, Evaluation, ImageErrors, evaluate
from compact_yolo_ros.evaluation.example_images import ExampleImage
from compact_yolo_ros.evaluation.report import (
    ReportError,
    ShownEvaluation,
    check_libraries,
    write_report,
)
from compact_yolo_ros.labels.ground_truth import GroundTruth
from compact_yolo_ros.model.sizes import Size, check_input_size, fitted
from compact_yolo_ros.model.store import ModelError, ModelFile, find_model
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.support.arguments import add_rename
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.plain_values import to_plain
from compact_yolo_ros.support.terminal import open_console, print_table, say
from training.data.dataset import DataSet, open_split
from training.data.findings import lacks_objects
from training.data.input_sizes import as_size
from training.data.sample import Sample
from training.deployment.model_card import DEFAULT_SIZE
from training.deployment.predictor import Predictor
from training.detectors.interface import Network, device_of
from training.detectors.variant import Variant
from training.loop.checkpoint import load_detector
from training.loop.provenance import provenance
from training.loop.recipe import EvaluationSettings

WORST, BEST = 9, 6
"""Number of images in a report."""
MEANS = ("AP", "AP50", "AP75", "VOC07", "VOC")
"""Figures of all classes together that are printed, and by which training can choose an epoch."""


def predict(
    model: Network,
    samples: Sequence[Sample],
    size: int | Size,
    batch_size: int = 8,
    fit: bool = False,
) -> list[Detections]:
    """Return the detections of every sample.

    Args:
        model: a detector that was trained here.
        samples: images.
        size: of the input in pixels, a number is the side of a square; images are letterboxed into
            it as at run time.
        batch_size: images a run.
        fit: the longer side of the size is the long side of an input that fits each image.

    Returns:
        Detections of each sample, boxes in its own pixels.
    """
    return list(predictions(model, samples, size, batch_size, fit))


def predictions(
    model: Network,
    samples: Sequence[Sample],
    size: int | Size,
    batch_size: int = 8,
    fit: bool = False,
    selection: Selection = EVERYTHING,
) -> Iterator[Detections]:
    """Yield one by one what ``predict`` returns, or what another selection keeps."""
    wanted = as_size(size)
    predictor, device = Predictor(model).eval(), device_of(model)
    for first in range(0, len(samples), batch_size):
        images = [sample.image for sample in samples[first : first + batch_size]]
        inputs = [
            fitted(max(wanted), (image.shape[1], image.shape[0])) if fit else wanted
            for image in images
        ]
        found: dict[int, Detections] = {}
        for own in dict.fromkeys(inputs):
            places = [number for number, other in enumerate(inputs) if other == own]
            those = [images[number] for number in places]
            answers = _predict_batch(predictor, those, own, device, selection)
            found.update(zip(places, answers, strict=True))
        yield from (found[number] for number in range(len(images)))


def _predict_batch(
    predictor: Predictor,
    images: Sequence[NDArray[np.uint8]],
    size: Size,
    device: torch.device,
    selection: Selection,
) -> Iterator[Detections]:
    inputs = np.empty((len(images), *size.shape, 3), np.uint8)
    places = [Letterbox(out)(image, "rgb") for out, image in zip(inputs, images, strict=True)]
    with torch.no_grad():
        pixels = torch.from_numpy(inputs).to(device)
        answer = [rows.cpu().numpy() for rows in predictor(pixels)]
    for place, boxes, scores, labels in zip(places, *answer, strict=True):
        yield select(boxes, scores, labels, selection).to_source(place)


def truths_of(samples: DataSet) -> list[GroundTruth]:
    """Return the ground truth of a data set; its images are not loaded."""
    return [replace(entry.truth, name=entry.path.stem) for entry in samples.entries]


def average_precision(
    samples: DataSet, detections: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """Return COCO's AP, AP50 and AP75, VOC's AP, and AP50 of every class as "AP50 <class>".

    VOC07 is PASCAL VOC's 11-point AP of 2007, VOC the whole area of 2010 and later. A figure is
    nan where there are no objects.
    """
    return figures_of(evaluate(truths_of(samples), detections, classes))


def measured(
    model: Network, samples: DataSet, how: EvaluationSettings, classes: Sequence[str]
) -> dict[str, float]:
    """Return the figures of ``average_precision`` of a model, evaluated as a recipe says."""
    found = predict(model, samples, how.size, fit=how.fit)
    return average_precision(samples, found, classes)


def figures_of(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures of ``average_precision``."""
    summary = evaluation.summary().named()
    return {name: summary[name] for name in MEANS} | {
        f"AP50 {name}": evaluation.average_precision(label, 0.5)
        for label, name in enumerate(evaluation.classes)
    }


@dataclass(frozen=True)
class Model:
    """A detector to evaluate.

    Attributes:
        name: shown to users.
        classes: its class names.
        facts: about it, shown to users.
        size: its own input size; a number is the side of a square, in pixels.
        detect: yields the detections of samples at an input size.
    """

    name: str
    classes: tuple[str, ...]
    facts: Mapping[str, str]
    size: int | Size
    detect: Callable[..., Iterator[Detections]]


def open_model(weights: str, backend: str = AUTO, precision: str = AUTO) -> Model:
    """Open a checkpoint (.pt), an ONNX file or a model by its name.

    Args:
        weights: what to open.
        backend: what runs an ONNX file, as in the node.
        precision: what an ONNX file is run in, as in the node.

    Raises:
        ModelError, ValueError: it cannot be found or read, or is a checkpoint, which PyTorch runs
            in float32, and shall be run otherwise.
    """
    if weights.endswith(".pt"):
        if (backend, precision) != (AUTO, AUTO):
            raise ValueError(
                f"{weights} is run by PyTorch: export it to choose a backend or precision"
            )
        path = Path(weights)
        network, checkpoint = load_detector(path)
        variant = Variant.from_settings(checkpoint["detector"])
        facts = {"Detector": str(variant), "Run by": f"PyTorch {torch.__version__}"}
        detect = partial(predictions, network)
        return Model(path.stem, tuple(checkpoint["classes"]), facts, DEFAULT_SIZE, detect)
    found = find_model(weights)
    card = found.card
    facts = {
        "Detector": f"{card.detector_text}, {card.parameters:,} parameters, {card.precision}",
        "Run by": f"backend {backend}, precision {precision}, as in the node",
    }
    detect = partial(_run_as_node, found, backend, precision)
    return Model(card.name, card.classes, facts, card.own_size, detect)


def _run_as_node(
    found: ModelFile,
    backend: str,
    precision: str,
    samples: Sequence[Sample],
    size: int | Size,
    fit: bool = False,
    selection: Selection = EVERYTHING,
) -> Iterator[Detections]:
    size, own = as_size(size), found.card.own_size
    options = RunOptions(
        str(found.path),
        backend=backend,
        precision=precision,
        input_sizes=(own if size == own else size,),
    )
    if fit:
        options = options.change(input_sizes=(max(size),))
    opened = Detector.open(options, selection=selection)
    with closing(opened) as detector:
        for sample in samples:
            yield detector.detect(sample.image, "rgb")


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; return the process's exit code."""
    options = _parse(arguments)
    console = open_console(stderr=True)
    try:
        for size in options.size:
            check_input_size(size)
        if not 0 <= options.score <= 1:
            raise ValueError(f"--score {options.score}: give a value from 0 to 1")
        if options.report:
            check_libraries()
        model = open_model(options.weights, options.backend, options.precision)
        # Images are read when their turn comes: a large test set need not fit into memory.
        samples = open_split(options.data, options.split, cache="none")
        mapping = ClassMapping.match(model.classes, samples.classes, options.rename)
        if mapping.left_out:
            say(console, mapping.left_out)
        truths = [mapping.truth(truth) for truth in truths_of(samples)]
        if not any(map(len, truths)):  # may be meant: the report shows what is found there
            why = lacks_objects(options.split, samples) or "no object is of the classes evaluated"
            say(console, f"AP is not known: {why}")
        selection = EVERYTHING.change(box_voting=options.box_voting)
        results = []
        for size in options.size or [model.size]:
            answers = track(
                model.detect(samples, size, fit=options.fit, selection=selection),
                _shown(size, options.fit),
                len(samples),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
            found = [mapping.detections(item) for item in answers]
            evaluation = evaluate(truths, found, mapping.classes, score_threshold=options.score)
            results.append(_result(_shown(size, options.fit), evaluation, samples, truths, found))
        _print(results)
        facts = _facts(options, model, samples, mapping)
        if options.json:
            _write_json(options.json, facts, results)
        if options.report:
            title = f"{model.name} on {options.data.parent.resolve().name}, {options.split}"
            write_report(options.report, title, results, facts)
    except (ModelError, BackendError, ReportError, ValueError, OSError) as error:
        print(f"training.evaluate: {error}", file=sys.stderr)
        return 1
    return 0


def _size(text: str) -> int | Size:
    """Read ``320`` or ``320x224``, for ``type=`` of argparse; raises ValueError."""
    size = Size.parse(text)
    return size if "x" in text.lower() else size.width


def _shown(size: int | Size, fit: bool) -> str:
    width, height = as_size(size)
    return f"{max(width, height)}, fitted" if fit else f"{width} x {height}"


def _result(
    name: str,
    evaluation: Evaluation,
    samples: Sequence[Sample],
    truths: Sequence[GroundTruth],
    found: Sequence[Detections],
) -> ShownEvaluation:
    """An evaluation with the images of the report, whose pixels are kept."""

    def show(image: ImageErrors) -> ExampleImage:
        pixels = np.ascontiguousarray(samples[image.index].image[..., ::-1])
        return ExampleImage(pixels, truths[image.index], found[image.index], str(image))

    return ShownEvaluation(
        name,
        evaluation,
        [show(image) for image in evaluation.worst(WORST)],
        [show(image) for image in evaluation.best(BEST)],
    )


def _print(results: Sequence[ShownEvaluation]) -> None:
    columns = [
        figures_of(result.evaluation) | {"best threshold": result.evaluation.best_threshold}
        for result in results
    ]
    rows = [[name, *(_cell(column[name]) for column in columns)] for name in columns[0]]
    print_table(open_console(), ["", *(result.name for result in results)], rows)


def _cell(figure: float) -> str:
    return "-" if np.isnan(figure) else f"{figure:.3f}"


def _facts(
    options: argparse.Namespace, model: Model, samples: DataSet, mapping: ClassMapping
) -> dict[str, str]:
    here = provenance()
    packages = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    facts = {
        "Model": options.weights,
        **model.facts,
        "Data": f"{options.data}, split {options.split}, {len(samples)} images",
        "Left out": f"{len(samples.bad_files)} bad files" if samples.bad_files else "",
        "Classes": mapping.left_out,
        "Detections": f"scores from {EVERYTHING.score_threshold}, suppression at an IoU of "
        f"{EVERYTHING.iou_threshold}, {'' if options.box_voting else 'no '}box voting, at most "
        f"{EVERYTHING.max_detections} an image",
        "Machine": f"{here['processor']}, {here['cores']} cores, {here['system']}",
        "Software": f"Python {here['python']}, {packages}, source {here['commit'][:12]}",
        "Evaluated": here["started"],
    }
    return {name: value for name, value in facts.items() if value}


def _write_json(path: Path, facts: Mapping[str, str], results: Sequence[ShownEvaluation]) -> None:
    figures = {result.name: result.evaluation.figures() for result in results}
    content = to_plain({"facts": facts, "results": figures})
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="training.evaluate", description="Evaluate a detector on labelled images."
    )
    parser.add_argument(
        "--weights", required=True, help="checkpoint (.pt), ONNX file or name of a model"
    )
    parser.add_argument("--data", type=Path, required=True, help="data.yaml")
    parser.add_argument("--split", default="val", help="val by default")
    parser.add_argument(
        "--size",
        type=_size,
        nargs="+",
        action="extend",
        default=[],
        help="of the input in pixels: sides of squares, or WIDTHxHEIGHT "
        f"[that of the model; {DEFAULT_SIZE} for a checkpoint]",
    )
    parser.add_argument(
        "--fit",
        action="store_true",
        help="sizes are long sides, the short one fits each image, as in the node",
    )
    parser.add_argument(
        "--no-box-voting",
        dest="box_voting",
        action="store_false",
        help="suppression alone, as most papers measure",
    )
    parser.add_argument(
        "--backend", default=AUTO, choices=backend_names(), help="what runs an ONNX file"
    )
    parser.add_argument(
        "--precision", default=AUTO, choices=PRECISIONS, help="what an ONNX file is run in"
    )
    parser.add_argument(
        "--score",
        type=float,
        default=Selection.score_threshold,
        help="threshold for the confusion matrix and the worst images",
    )
    add_rename(parser)
    parser.add_argument("--report", type=Path, help="HTML file to write")
    parser.add_argument("--json", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    options.rename = dict(options.rename)
    return options


if __name__ == "__main__":
    sys.exit(main())
