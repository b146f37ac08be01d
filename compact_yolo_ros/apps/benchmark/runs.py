# SPDX-License-Identifier: Apache-2.0
"""What is measured: models, each run with every combination of the options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from compact_yolo_ros.backends import BACKENDS, RunOptions
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import InputSize, Size
from compact_yolo_ros.model.store import ModelError, ModelFile
from compact_yolo_ros.support.wording import counted


class Run(NamedTuple):
    """A model and how it is run.

    Attributes:
        name: of the model; other models of the same measurement have other names.
        options: how it is run; ``model`` is the path of the file, and there is one input size.
    """

    name: str
    options: RunOptions

    @property
    def size(self) -> Size:
        """Size of the network's input."""
        return self.options.sizes[0]

    @property
    def path(self) -> Path:
        """The model's file."""
        return Path(self.options.model)

    def __str__(self) -> str:
        options = self.options
        parts = [f"{self.name} at {self.size}"]
        parts += [text for text in (options.backend, options.precision) if text != AUTO]
        if options.threads:
            parts.append(counted(options.threads, "thread"))
        return ", ".join([*parts, *["spinning"] * options.spinning])


def all_runs(
    models: Iterable[ModelFile],
    sizes: Sequence[InputSize] = (),
    backends: Sequence[str] = (AUTO,),
    precisions: Sequence[str] = (AUTO,),
    threads: Sequence[int] = (0,),
    image_size: Size | None = None,
) -> list[Run]:
    """Return every combination; without ``sizes`` each model runs at its default input size.

    Inputs of one number fit images of ``image_size`` (pixels), and are squares without it.

    Raises:
        ModelError: a model is given twice.
        ValueError: an option is out of its range.
    """
    images = (image_size,) if image_size else ()
    return [
        _run(name, model, RunOptions("", backend, precision, (size,), images, threads=number))
        for name, model in named(models).items()
        for size, backend, precision, number in product(
            sizes or [model.card.own_input], backends, precisions, threads
        )
        # CPU threads make no difference to a GPU.
        if number == threads[0] or not _is_on_gpu(backend)
    ]


def _run(name: str, model: ModelFile, options: RunOptions) -> Run:
    images = options.image_sizes if model.card.fits_cameras else ()
    return Run(name, options.change(model=str(model.path), image_sizes=images))


def _is_on_gpu(backend: str) -> bool:
    return backend != AUTO and BACKENDS[backend].runs_on == "GPU"


def with_spinning(runs: Iterable[Run]) -> list[Run]:
    """Return the runs, those of ONNX Runtime followed by the same with spinning threads."""
    both = []
    for run in runs:
        both.append(run)
        if run.options.backend in (AUTO, "onnxruntime"):
            spinning = run.options.change(backend="onnxruntime", spinning=True)
            both.append(run._replace(options=spinning))
    return both


def named(models: Iterable[ModelFile]) -> dict[str, ModelFile]:
    """Return models by name, or by the name of the file where several models have the same name.

    Raises:
        ModelError: a model is given twice.
    """
    models = list(models)
    names = [model.card.name for model in models]
    result: dict[str, ModelFile] = {}
    for model, name in zip(models, names, strict=True):
        own = name if names.count(name) == 1 else model.path.stem
        if own in result:
            raise ModelError(f"two models are called '{own}': rename one of the files")
        result[own] = model
    return result


def gmac_at(card: ModelCard, size: Size) -> float | None:
    """Return 10^9 multiply-accumulates of a network; None if its card does not have them.

    The card has them for some input sizes. Those of convolutions grow with the area, and those
    behind a global pooling do not change, so a line through two sizes fits all; with only one size
    on the card, all are assumed to grow.
    """
    known = {_area(Size.parse(text)): gmac for text, gmac in card.gmacs.items()}
    area = _area(size)
    if not known or area in known:
        return known.get(area)
    (first, at_first), (last, at_last) = min(known.items()), max(known.items())
    slope = (at_last - at_first) / (last - first) if last > first else at_first / first
    return at_first + slope * (area - first)


def _area(size: Size) -> int:
    return size.width * size.height
