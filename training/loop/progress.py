# SPDX-License-Identifier: Apache-2.0
"""What a run shows while it trains: a progress bar, and curves for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from training.loop.trainer import Trainer
from training.losses.criterion import Loss

# Steps between two points of a curve.
EVERY = 20


class _TwoLines(Progress):
    """The bar of a task with its text below: side by side they would need a wide terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (Text(task.fields["text"]) for task in self.tasks)


def progress_bar(console: Console, shown: bool) -> Progress:
    """Return the progress bar of a run: epoch, steps, time left; losses, rate and speed."""
    return _TwoLines(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not shown,
    )


class Curves:
    """Scalars for TensorBoard.

    Args:
        folder: of the event files.
        first_step: points that an earlier start wrote after this step are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.logger = TensorBoardLogger(
            folder.parent, name="", version=folder.name, purge_step=first_step
        )

    def step(self, trainer: Trainer, loss: Loss) -> None:
        """Log the losses and the learning rate of some steps."""
        if trainer.step % EVERY == 0:
            values = {f"step/{name}": float(part) for name, part in loss._asdict().items()}
            values["step/learning_rate"] = trainer.learning_rate
            self.logger.log_metrics(values, trainer.step)

    def epoch(self, row: dict[str, Any]) -> None:
        """Log the metrics of an epoch."""
        measured = {name: value for name, value in row.items() if not math.isnan(value)}
        values = {f"epoch/{name}": value for name, value in measured.items() if name != "step"}
        self.logger.log_metrics(values, row["step"])

    def close(self) -> None:
        """Flush and close the event file."""
        self.logger.experiment.close()


def describe(trainer: Trainer) -> str:
    """Return the means of the current epoch in one line."""
    sums = trainer.sums
    box, objectness, classes = (value / max(1, sums.steps) for value in sums.loss)
    speed = sums.steps * trainer.images_per_step / sums.seconds if sums.seconds else 0.0
    return (
        f"loss {box + objectness + classes:.2f}: {box:.2f} box, {objectness:.2f} objectness, "
        f"{classes:.2f} classes; rate {trainer.learning_rate:.1e}; {speed:.0f} images/s"
    )
