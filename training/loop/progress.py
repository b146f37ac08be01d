# SPDX-License-Identifier: Apache-2.0
"""What a run shows while it trains: a progress bar or lines, and curves for TensorBoard."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic as now
from typing import Any

from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from compact_yolo_ros.support.error_text import one_line
from compact_yolo_ros.support.terminal import say
from training.loop.trainer import Trainer
from training.losses.criterion import Loss

# Steps between two points of a curve.
EVERY = 20
# Between two lines of a run whose output is no terminal.
LINE_SECONDS = 60.0


class Interval:
    """Says when so many seconds have passed since it last did."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._begun = seconds, now()

    def over(self) -> bool:
        """Return whether the interval has passed; if so, begin the next."""
        moment = now()
        if moment - self._begun < self.seconds:
            return False
        self._begun = moment
        return True


class _TwoLines(Progress):
    """The bar of a task with its text below: side by side they would need a wide terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (Text(task.fields["text"]) for task in self.tasks)


class Lines:
    """The progress of a run as lines of text, for a log: the first step, then one a minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._interval: Interval | None = None

    def step(self, trainer: Trainer) -> None:
        """Print a line if it is time."""
        if self._interval is None or self._interval.over():
            self._interval = self._interval or Interval(LINE_SECONDS)
            done = f"epoch {_running_epoch(trainer)}, step {trainer.step}/{trainer.total_steps}"
            say(self.console, f"{done}: {describe(trainer)}; about {time_left(trainer)} left")


class Bar:
    """The progress of a run as a bar, for a terminal.

    Args:
        progress: the shown bar.
        trainer: with the step to start from.
    """

    def __init__(self, progress: Progress, trainer: Trainer) -> None:
        self.progress = progress
        self.task = progress.add_task(
            "", total=trainer.total_steps, completed=trainer.step, epoch=trainer.epoch, text=""
        )

    def step(self, trainer: Trainer) -> None:
        """Move on."""
        epoch, text = _running_epoch(trainer), describe(trainer)
        self.progress.update(self.task, completed=trainer.step, epoch=epoch, text=text)


@contextmanager
def progress_of(trainer: Trainer, console: Console, shown: bool) -> Iterator[Bar | Lines | None]:
    """Show the progress: a bar on a terminal, else lines; None: nothing."""
    if not shown:
        yield None
    elif not console.is_terminal:
        yield Lines(console)
    else:
        with progress_bar(console) as progress:
            yield Bar(progress, trainer)


def progress_bar(console: Console) -> Progress:
    """Return the progress bar of a run: epoch, steps, time left; losses, rate and speed."""
    return _TwoLines(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )


class Curves:
    """Scalars for TensorBoard. Where they cannot be written, the training goes on without them.

    Args:
        folder: of the event files.
        first_step: points that an earlier start wrote after this step are hidden.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self.logger: TensorBoardLogger | None = TensorBoardLogger(
            folder.parent, name="", version=folder.name, purge_step=first_step
        )

    def step(self, trainer: Trainer, loss: Loss) -> None:
        """Log the losses and the learning rate of some steps."""
        if trainer.step % EVERY == 0:
            values = {f"step/{name}": float(getattr(loss, name)) for name in trainer.parts}
            values["step/learning_rate"] = trainer.learning_rate
            self._log(values, trainer.step)

    def epoch(self, row: dict[str, Any]) -> None:
        """Log the metrics of an epoch."""
        measured = {name: value for name, value in row.items() if not math.isnan(value)}
        values = {f"epoch/{name}": value for name, value in measured.items() if name != "step"}
        self._log(values, row["step"])

    def close(self) -> None:
        """Flush and close the event file."""
        if self.logger:
            self.logger.experiment.close()

    def _log(self, values: dict[str, float], step: int) -> None:
        if self.logger is None:
            return
        try:
            self.logger.log_metrics(values, step)
        except Exception as error:  # Fabric makes a ValueError of a full disk, or of no threads
            self.logger = None
            reason = one_line(error.__cause__ or error)
            logging.getLogger(__name__).warning("No more curves for TensorBoard: %s", reason)


def describe(trainer: Trainer) -> str:
    """Return the means of the current epoch in one line."""
    sums = trainer.sums
    means = trainer.mean_loss
    parts = ", ".join(f"{mean:.2f} {name}" for name, mean in means.items())
    speed = sums.steps * trainer.images_per_step / sums.seconds if sums.seconds else 0.0
    return (
        f"loss {sum(means.values()):.2f}: {parts}; "
        f"rate {trainer.learning_rate:.1e}; {speed:.0f} images/s"
    )


def time_left(trainer: Trainer) -> str:
    """Return the time of the steps to come, at the speed of this epoch: ``1:23:45``.

    Not more than what is left of the recipe's minutes, if it has any.
    """
    sums = trainer.sums
    seconds = (trainer.total_steps - trainer.step) * sums.seconds / max(1, sums.steps)
    if limit := 60 * trainer.recipe.schedule.minutes:
        seconds = min(seconds, max(0.0, limit - trainer.elapsed.seconds))
    return str(timedelta(seconds=round(seconds)))


def _running_epoch(trainer: Trainer) -> int:
    """Return the number, from 1, of the epoch that the last step belongs to."""
    return (trainer.step - 1) // trainer.steps_per_epoch + 1
