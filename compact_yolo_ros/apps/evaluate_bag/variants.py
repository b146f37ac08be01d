# SPDX-License-Identifier: Apache-2.0
"""Several ways to evaluate one recording: models, input sizes, backends, precisions."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.comparison import Candidate, write_comparison
from compact_yolo_ros.apps.evaluate_bag.detection_run import RESULTS, Job
from compact_yolo_ros.apps.evaluate_bag.recording_evaluation import Settings, Tell, evaluate
from compact_yolo_ros.backends import PRECISIONS, backend_names
from compact_yolo_ros.backends.arguments import input_size
from compact_yolo_ros.evaluation.report import ReportError, check_libraries
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError


@dataclass(frozen=True)
class Way:
    """A model and how it is run; None is as for the others.

    Attributes:
        model: name or path.
        input_size: of the network input.
        backend: see ``open_backend``.
        precision: see there.
    """

    model: str
    input_size: Size | None = None
    backend: str | None = None
    precision: str | None = None

    def folder(self, depth: int = 1) -> str:
        """Name of the folder for its results, with so many parts of the model's path."""
        size = str(self.input_size or "")
        path = Path(self.model.removesuffix(".onnx")).parts[-depth:]
        parts = [
            *(part.strip("/") for part in path),
            size,
            self.backend or "",
            self.precision or "",
        ]
        return "_".join(filter(None, parts))

    def of(self, settings: Settings, folder: str) -> Settings:
        """The settings with this way to run the model, and a folder of its own."""
        given = {
            "input_size": self.input_size,
            "backend": self.backend,
            "precision": self.precision,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if value}
        job = replace(settings.job, model=self.model, **changes)
        return replace(settings, job=job, out=settings.out / folder)


def read_way(text: str) -> Way:
    """Read ``MODEL[,SIZE][,BACKEND][,PRECISION]``, as in ``yolo_ret_m075,320x320,openvino``.

    Raises:
        ValueError: a part is none of these.
    """
    model, *rest = text.split(",")
    way = Way(model)
    for part in rest:
        if part in backend_names():
            way = replace(way, backend=part)
        elif part in PRECISIONS:
            way = replace(way, precision=part)
        else:
            way = replace(way, input_size=_size(part, text))
    return way


def _size(part: str, text: str) -> Size:
    try:
        return input_size(part)
    except ArgumentTypeError:
        raise ValueError(
            f"'{part}' of '{text}' is no input size, and none of "
            f"{', '.join((*backend_names(), *PRECISIONS[1:]))}"
        ) from None


def compare(
    settings: Settings,
    texts: Sequence[str],
    bag: Bag,
    tell: Tell = lambda what, frames: None,
) -> list[Candidate]:
    """Evaluate a recording in several ways, and write how they compare into ``settings.out``.

    Args:
        settings: what the ways have in common.
        texts: ways (see ``read_way``), or folders with the results of earlier evaluations.
        bag: the recording.
        tell: see ``evaluate``; what is done is named after the way.

    Raises:
        BagError, Interrupted, ModelError, BackendError, ValueError: see ``evaluate``.
    """
    try:
        check_libraries()
    except ReportError as error:
        raise BagError(str(error)) from None
    if len(set(texts)) < max(2, len(texts)):
        raise BagError("--compare needs at least two different ways")
    finished = {text: _read_results(text) for text in texts if (Path(text) / RESULTS).is_file()}
    ways = {text: read_way(text) for text in texts if text not in finished}
    folders = _folders(ways)
    _check({text: way.of(settings, folders[text]).job for text, way in ways.items()})
    results = []
    for text in texts:
        if text in ways:
            own = ways[text].of(settings, folders[text])
            results.append(evaluate(own, bag, _named(tell, folders[text])))
        else:
            results.append(finished[text])
    return write_comparison(settings.out, results)


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
            size = backend.input.shape
            way = (find_model(job.model).path, backend.name, backend.precision, size)
            if way in seen:
                raise BagError(
                    f"'{text}' is compared with itself: it runs as '{seen[way]}' does, "
                    f"{backend.precision} with {backend.name}"
                )
            seen[way] = text


def _folders(ways: Mapping[str, Way]) -> dict[str, str]:
    """A folder for each way; models of one name are told apart by the folders they are in."""
    for depth in (1, 2, 3, 100):
        names = {text: way.folder(depth) for text, way in ways.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _read_results(folder: str) -> dict[str, Any]:
    """What an earlier evaluation found.

    Raises:
        BagError: it is something else.
    """
    path = Path(folder) / RESULTS
    try:
        results = json.loads(path.read_text())
        if results["format"] == 1:
            return dict(results)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise BagError(f"{path} was not written by this version of evaluate_bag")


def _named(tell: Tell, name: str) -> Callable[[str, int], object]:
    return lambda what, frames: tell(f"{name}: {what}", frames)
