# SPDX-License-Identifier: Apache-2.0
"""Runs that go on to a step, are interrupted there and are continued."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from training.loop.checkpoint import load_checkpoint, save_checkpoint
from training.loop.trainer import Trainer


def go_on(run: Trainer, stop_at: int = 10**9) -> None:
    while run.step < min(stop_at, run.total_steps):
        run.train_epoch(lambda loss: run.step >= stop_at)


def check_resume(make: Callable[[], Trainer], stop_at: int, folder: Path) -> None:
    """Check that a run that is interrupted after some steps ends like one that is not.

    Args:
        make: returns the run at its beginning, the same each time.
        stop_at: steps before the interruption.
        folder: for the checkpoint.
    """
    whole, first = make(), make()
    go_on(whole)
    go_on(first, stop_at)
    save_checkpoint(folder / "last.pt", first.state())
    torch.manual_seed(99)
    second = make()
    second.restore(load_checkpoint(folder / "last.pt"))
    assert second.step == stop_at
    go_on(second)
    for name, value in whole.state()["average"].items():
        assert second.average.model.state_dict()[name].equal(value), name
    assert second.sums.loss == whole.sums.loss
