# SPDX-License-Identifier: Apache-2.0
"""Evaluating one recording with several models, input sizes, backends or precisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.comparison import Candidate, write_comparison
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.recording_evaluation import Progress, evaluate_recording
from compact_yolo_ros.apps.evaluate_bag.results import Results, read_results
from compact_yolo_ros.apps.evaluate_bag.results_folder import RESULTS
from compact_yolo_ros.apps.evaluate_bag.settings import Settings
from compact_yolo_ros.backends import PRECISIONS, RunOptions, backend_names
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.evaluation.report import ReportError, check_libraries
from compact_yolo_ros.model.sizes import InputSize, Size, parse_input_size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError


def read_options(text: str, common: RunOptions) -> RunOptions:
    """Read ``MODEL[,SIZE][,BACKEND][,PRECISION]``, as in ``yolo_ret_m075,320x224,openvino``.

    Args:
        text: what differs from the common options.
        common: all else.

    Raises:
        ValueError: a part is none of these.
    """
    model, *rest = text.split(",")
    given: dict[str, Any] = {"model": model}
    for part in rest:
        name, value = _option(part, text)
        if given.setdefault(name, value) != value:
            raise ValueError(f"'{text}' is run in one way only: give another entry for '{part}'")
    return common.change(**given)


def _option(part: str, text: str) -> tuple[str, Any]:
    """Name and value of the option that a part of a text means."""
    if part in backend_names():
        return "backend", part
    if part in PRECISIONS:
        return "precision", part
    return "input_sizes", (_size(part, text),)


def _size(part: str, text: str) -> InputSize:
    try:
        Size.parse(part)
    except ValueError:
        known = ", ".join(name for name in (*backend_names(), *PRECISIONS) if name != AUTO)
        raise ValueError(
            f"'{part}' of '{text}' is not a size as 320 or 320x224, and none of {known}"
        ) from None
    return parse_input_size(part)


def compare(
    settings: Settings,
    texts: Sequence[str],
    bag: Bag,
    progress: Progress = lambda what, frames: None,
) -> list[Candidate]:
    """Evaluate a recording several times, and write how the results compare.

    Args:
        settings: what the evaluations have in common; everything goes below its ``out``.
        texts: see ``read_options``; or folders with the results of earlier evaluations.
        bag: the recording.
        progress: see ``evaluate_recording``; what is done begins with the name of the folder.

    Raises:
        BagError, Interrupted, ModelError, BackendError, ValueError: see ``evaluate_recording``.
    """
    try:
        check_libraries()
    except ReportError as error:
        raise BagError(str(error)) from None
    if len(set(texts)) < max(2, len(texts)):
        raise BagError("--compare needs at least two entries that differ")
    finished = {text: _finished(Path(text)) for text in texts if (Path(text) / RESULTS).is_file()}
    common = settings.job.options
    options = {text: read_options(text, common) for text in texts if text not in finished}
    jobs = {text: replace(settings.job, options=own) for text, own in options.items()}
    _check(jobs)
    folders = folder_names(options, common)
    results = []
    for text in texts:
        if text in jobs:
            own = replace(settings, job=jobs[text], out=settings.out / folders[text])
            results.append(evaluate_recording(own, bag, _named(progress, folders[text])))
        else:
            results.append(finished[text])
    return write_comparison(settings.out, results)


def _finished(folder: Path) -> Results:
    """The results of an earlier evaluation; BagError if they do not say what they are of."""
    results = read_results(folder)
    accuracy = results.accuracy
    if results.view is None or (accuracy is not None and not accuracy.labels_sha256):
        raise BagError(
            f"{folder} is of an earlier version of evaluate_bag, which did not note the labels and "
            "the view of the images: evaluate it again, with --restart"
        )
    return results


def _check(jobs: Mapping[str, Job]) -> None:
    """Open every model before hours go into the first one.

    Raises:
        BagError: two would be run alike.
        ModelError, BackendError, ValueError: one cannot be run.
    """
    seen: dict[tuple[object, ...], str] = {}
    for text, job in jobs.items():
        with closing(job.open_detector()) as detector:
            backend = detector.backend
            path = find_model(job.options.model).path
            found = (path, backend.name, backend.precision, backend.input.shape)
            if found in seen:
                raise BagError(
                    f"'{text}' is compared with itself: it runs as '{seen[found]}' does, "
                    f"{backend.precision} with {backend.name}"
                )
            seen[found] = text


def folder_names(options: Mapping[str, RunOptions], common: RunOptions) -> dict[str, str]:
    """A folder for each of several options, named by what differs from the common ones.

    Models of one name are distinguished by the folders they are in.
    """
    for depth in (1, 2, 3, 100):
        names = {text: _folder_name(own, common, depth) for text, own in options.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _folder_name(own: RunOptions, common: RunOptions, depth: int) -> str:
    """The name with so many parts of the model's path."""
    path = Path(own.model.removesuffix(".onnx")).parts[-depth:]
    parts = [part.strip("/") for part in path]
    for name in ("input_sizes", "backend", "precision"):
        value = getattr(own, name)
        if value != getattr(common, name):
            parts.append("_".join(map(str, value)) if name == "input_sizes" else value)
    return "_".join(filter(None, parts))


def _named(progress: Progress, name: str) -> Progress:
    return lambda what, frames: progress(f"{name}: {what}", frames)
