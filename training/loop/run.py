# SPDX-License-Identifier: Apache-2.0
"""A whole run: epochs, checkpoints, evaluation, best weights, early stop, logs."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from compact_yolo_ros.support.terminal import say
from training.detectors.interface import Detector
from training.loop.progress import Curves, Interval, progress_of
from training.loop.run_folder import RunFolder
from training.loop.trainer import DEPLOYED, DivergedError, Trainer
from training.losses.criterion import Loss

Measure = Callable[[Detector], Mapping[str, float]]
# The most that a killed process, or a power failure, can cost.
SAVE_SECONDS = 180.0
ENDED = "The run has ended"
"""How the last line begins after all epochs, or an early stop."""


def run(
    trainer: Trainer,
    folder: RunFolder,
    measure: Measure,
    console: Console,
    hopeless: Callable[[Trainer], bool] = lambda _: False,
) -> bool:
    """Train to the end of the recipe, an early stop, or SIGINT or SIGTERM.

    A checkpoint is written after every epoch, before and after it is evaluated, every few minutes
    within an epoch, and when a signal arrives.

    Args:
        trainer: with the state to start from.
        folder: of the run.
        measure: returns the metrics of the averaged detector; called in the first process only.
        console: for the progress and the results.
        hopeless: asked after every evaluation whether to end the run early, beside ``patience``.

    Returns:
        Whether the run has ended; else it was stopped by a signal.
    """
    ended = False
    first = trainer.fabric.is_global_zero
    curves = Curves(folder.tensorboard, trainer.step) if first else None
    unsaved = Interval(SAVE_SECONDS)
    with _signals() as received, progress_of(trainer, console, first) as progress:

        def after_step(loss: Loss) -> bool:
            if progress:
                progress.step(trainer)
            if curves:
                curves.step(trainer, loss)
            if first and unsaved.over() and trainer.is_finite:
                folder.save_last(trainer.state())
            return bool(received)

        while True:
            if _is_unclosed(trainer):
                close_epoch(trainer, measure)
                if first:
                    _write_results(trainer, folder, curves, console)
            ended = trainer.is_over or out_of_patience(trainer)
            if ended := ended or (_was_measured(trainer) and hopeless(trainer)):
                if first:
                    say(console, _ending(trainer, folder))
                break
            try:
                finished = trainer.train_epoch(after_step)
            except RuntimeError as error:
                if not received or isinstance(error, DivergedError):
                    raise
                finished = False  # a loader process got the signal before it began to ignore it
            if first:
                folder.save_last(trainer.state())
            if not finished or trainer.agreed(bool(received)):
                text = f"Stopped at step {trainer.step}; the same command continues from there."
                console.print(text if first else "", end="\n" if first else "")
                break
    if curves:
        curves.close()
    return ended


def _was_measured(trainer: Trainer) -> bool:
    history = trainer.history
    return bool(history) and trainer.recipe.evaluation.metric in history[-1]


def _is_unclosed(trainer: Trainer) -> bool:
    """Return whether an epoch has ended that has no row of metrics.

    Steps tell it: with other images, epochs are counted anew.
    """
    has_ended = trainer.is_over or trainer.step % trainer.steps_per_epoch == 0
    return has_ended and trainer.step > (trainer.history[-1]["step"] if trainer.history else 0)


def close_epoch(trainer: Trainer, measure: Measure) -> None:
    """Append the row of metrics of the epoch that has just been trained."""
    recipe, sums, means = trainer.recipe, trainer.sums, trainer.mean_loss
    row: dict[str, Any] = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "seconds": round(sums.seconds, 1),
        "images_per_second": round(
            sums.steps * trainer.images_per_step / max(sums.seconds, 1e-9), 2
        ),
        "learning_rate": trainer.learning_rate,
        "loss": sum(means.values()),
        **means,
    }
    if trainer.is_over or trainer.epoch % recipe.evaluation.every == 0:
        # The other processes wait for the scores of the first.
        scores = dict(measure(trainer.average.model)) if trainer.fabric.is_global_zero else {}
        row |= trainer.fabric.broadcast(scores)
    trainer.history.append(row)


def best_row(trainer: Trainer) -> int | None:
    """Return which row of metrics has the best value of the recipe's metric, the first of equals.

    None: there is none. A value of 0 is no result: fresh detectors begin so, and have to be given
    time. One that is not a number (no object of the class) is none either.
    """
    values = [row.get(trainer.recipe.evaluation.metric) or 0 for row in trainer.history]
    found = [place for place, value in enumerate(values) if value > 0]
    return max(found, key=values.__getitem__) if found else None


def best_epoch(trainer: Trainer) -> int:
    """Return the epoch of the ``best_row``; 0: there is none."""
    place = best_row(trainer)
    return 0 if place is None else trainer.history[place]["epoch"]


def out_of_patience(trainer: Trainer) -> bool:
    """Return whether ``patience`` epochs have passed since the best one, and the last is no better.

    An epoch that was not evaluated may be.
    """
    patience, best = trainer.recipe.evaluation.patience, best_row(trainer)
    if patience is None or best is None or not _was_measured(trainer):
        return False
    return len(trainer.history) - best > patience


def _ending(trainer: Trainer, folder: RunFolder) -> str:
    best, metric = best_epoch(trainer), trainer.recipe.evaluation.metric
    if best:
        return f"{ENDED}; {folder.best} is epoch {best}, the best in {metric}."
    return (
        f"{ENDED}, and no epoch reached {metric} above 0: check the data with"
        f" training.data.check, or train for more epochs. {folder.best} is the last epoch."
    )


def _write_results(
    trainer: Trainer, folder: RunFolder, curves: Curves | None, console: Console
) -> None:
    row, state = trainer.history[-1], trainer.state()
    # Until an epoch has a result, the last one is the best.
    if best_row(trainer) in (None, len(trainer.history) - 1):
        folder.save_best(state, DEPLOYED)
    folder.write_metrics(trainer.history)
    folder.save_last(state)
    if curves:
        curves.epoch(row)
    shown = {key: row[key] for key in ("epoch", "loss", "AP", "AP50") if key in row}
    text = "  ".join(f"{key} {value:.4g}" for key, value in shown.items())
    console.print(text, soft_wrap=True)
    if out_of_patience(trainer):
        console.print("Stopped early.")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of acting on them."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    old = [signal.signal(n, lambda number, _: received.append(number)) for n in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, old, strict=True):
            signal.signal(number, handler)
