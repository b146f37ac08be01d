# SPDX-License-Identifier: Apache-2.0
"""Ending a training that is behind the others (Golovin et al., 2017, Vizier, section 3.2.2).

Optuna's MedianPruner is the same rule with the same default. Optuna itself would choose what to try
next, and keep its own record of trials beside the study's; neither is needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from training.loop.trainer import Trainer
from training.studies.member import Result

FEWEST = 5
"""Trainings that must have been measured after as many epochs."""


def below_median(others: Sequence[Result], trainer: Trainer) -> bool:
    """Return whether the last AP50 of a training is below the median of others at that epoch.

    Args:
        others: finished trainings.
        trainer: after an epoch; one that was not evaluated after it is never behind.
    """
    epoch, own = trainer.history[-1]["epoch"], trainer.history[-1].get("AP50")
    reached = [value for r in others for at, value in r.curve if at == epoch]
    return own is not None and len(reached) >= FEWEST and own < median(reached)
