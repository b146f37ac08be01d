# SPDX-License-Identifier: Apache-2.0
"""The learning rate of every step, as a share of the optimizer's rate."""

from __future__ import annotations

import math
from bisect import bisect_right

from training.loop.recipe import Recipe


def rate_factor(step: int, steps_per_epoch: int, recipe: Recipe) -> float:
    """Return the factor of the learning rate: warm-up or schedule, times the rate of the phase.

    The schedule spans all phases, or with ``restart`` each phase separately. The warm-up at the
    beginning of the run is ((step + 1) / steps) ** power; darknet's burn-in has power 4.

    Args:
        step: optimizer step, from 0.
        steps_per_epoch: optimizer steps in an epoch.
        recipe: phases and schedule.
    """
    schedule = recipe.schedule
    index, first_epoch = recipe.phase_index(step // steps_per_epoch)
    phase = recipe.phases[index]
    if step < schedule.warmup_steps:
        share = (step + 1) / schedule.warmup_steps
        return phase.rate * math.pow(share, schedule.warmup_power)
    begin, end = 0, recipe.epochs * steps_per_epoch
    if schedule.restart:
        begin = first_epoch * steps_per_epoch
        end = begin + phase.epochs * steps_per_epoch
    return phase.rate * _shape(step, begin, end, recipe)


def _shape(step: int, begin: int, end: int, recipe: Recipe) -> float:
    schedule = recipe.schedule
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "steps":
        passed = bisect_right(schedule.steps, (step - begin) / (end - begin))
        return float(math.prod(schedule.scales[:passed]))
    begin = max(begin, schedule.warmup_steps)
    progress = (step - begin) / max(1, end - begin)
    return schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * progress))
