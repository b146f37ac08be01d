# SPDX-License-Identifier: Apache-2.0
"""What is measured: models, each in several ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from compact_yolo_ros.backends import Backend, RunOptions, open_backend
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, ModelFile


@dataclass(frozen=True)
class Case:
    """One way to run one model.

    Attributes:
        name: the model's; no other model of the measurement has it.
        model: the file.
        side: of the square input, in pixels.
        backend: see ``open_backend``, also for the next two.
        precision: see there.
        threads: see there; 0 chooses.
        spinning: whether ONNX Runtime's threads wait for work in a loop.
    """

    name: str
    model: ModelFile
    side: int
    backend: str = "auto"
    precision: str = "auto"
    threads: int = 0
    spinning: bool = False

    def open(self) -> Backend:
        """Open the network; see ``open_backend`` for the errors."""
        options = RunOptions(
            str(self.model.path),
            backend=self.backend,
            precision=self.precision,
            input_sizes=(Size.square(self.side),),
            threads=self.threads,
            spinning=self.spinning,
        )
        return open_backend(options).backend

    @property
    def gmac(self) -> float | None:
        """10^9 multiply-accumulates; None if the card does not say.

        The card has them for some input sizes. Those of convolutions grow with the area, and those
        behind a global pooling do not change, so a line through two of them holds for all; with one
        on the card all are taken to grow.
        """
        known = {int(side) ** 2: gmac for side, gmac in self.model.card.gmacs.items()}
        area = self.side**2
        if not known or area in known:
            return known.get(area)
        (first, at_first), (last, at_last) = min(known.items()), max(known.items())
        slope = (at_last - at_first) / (last - first) if last > first else at_first / first
        return at_first + slope * (area - first)

    def __str__(self) -> str:
        parts = [f"{self.name} at {self.side}"]
        parts += [text for text in (self.backend, self.precision) if text != "auto"]
        if self.threads:
            parts.append(f"{self.threads} thread{'s' * (self.threads > 1)}")
        return ", ".join([*parts, *["spinning"] * self.spinning])


def all_cases(
    models: Iterable[ModelFile],
    sides: Sequence[int],
    backends: Sequence[str],
    precisions: Sequence[str],
    threads: Sequence[int],
) -> list[Case]:
    """Every combination; without ``sides`` each model runs at its default input size."""
    return [
        Case(name, model, side, backend, precision, number)
        for name, model in named(models).items()
        for side, backend, precision, number in product(
            sides or (model.card.default_size,), backends, precisions, threads
        )
        # CPU threads make no difference to a GPU.
        if backend != "tensorrt" or number == threads[0]
    ]


def spinning_too(cases: Iterable[Case]) -> list[Case]:
    """The cases, those of ONNX Runtime followed by the same with spinning threads."""
    both = []
    for case in cases:
        both.append(case)
        if case.backend in ("auto", "onnxruntime"):
            both.append(replace(case, backend="onnxruntime", spinning=True))
    return both


def named(models: Iterable[ModelFile]) -> dict[str, ModelFile]:
    """Models by their names, by those of their files where several have the same one.

    Raises:
        ModelError: one is given twice.
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
