# SPDX-License-Identifier: Apache-2.0
"""Training steps on a GPU with and without recorded passes (CUDA graphs), in turns.

    python test/benchmarks/training_graphs.py --detectors yolo_ret_m075 yolo_nano

A step is copying a pinned batch, forward, loss, backward, optimizer and average; making batches is
not in it. Both ways train on the same batches, some steps each, in turns.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from lightning_fabric import Fabric  # noqa: E402
from training_steps import CLASSES, draw_samples, with_phase  # noqa: E402

from training.data.batch import Batch  # noqa: E402
from training.data.loading import epoch_batches  # noqa: E402
from training.loop.cuda_graphs import OFTEN, SWITCH  # noqa: E402
from training.loop.recipe import Phase, Recipe, find_recipe  # noqa: E402
from training.loop.trainer import Trainer  # noqa: E402

BATCHES = 4
"""Different batches, so that targets differ in number."""


class RepeatingTrainer(Trainer):
    """Trains on the same batches again and again, ``at_a_time`` steps a call."""

    def __init__(self, recipe: Recipe, batches: list[Batch], at_a_time: int) -> None:
        fabric = Fabric(accelerator="gpu", devices=1, precision="bf16-mixed")
        super().__init__(recipe, CLASSES, [None] * recipe.batch_size * 100_000, fabric, workers=0)
        self.batches, self.at_a_time = cycle(batches), at_a_time

    def _steps(self, epoch: int, done: int, phase: Phase) -> Iterator[list[Batch]]:
        return ([batch] for batch in islice(self.batches, self.at_a_time))

    def seconds(self) -> float:
        """Time of a step, the mean of some."""
        torch.cuda.synchronize()
        began, left = time.perf_counter(), self.at_a_time

        def enough(_: object) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        self.train_epoch(enough)
        torch.cuda.synchronize()
        return (time.perf_counter() - began) / self.at_a_time


def trainer(detector: str, graphs: bool, options: argparse.Namespace) -> RepeatingTrainer:
    """One that has done all that is done once."""
    os.environ[SWITCH] = str(int(graphs))
    recipe = Recipe.read(find_recipe("gpu_street"), detector=detector)
    recipe = with_phase(recipe, options.size, options.batch)
    samples = draw_samples(BATCHES * options.batch, options.size)
    pinned = epoch_batches(
        samples, (options.size,), options.batch, recipe.augmentation, 0.0, (0, 0),
        workers=0, pinned=True,
    )  # fmt: skip
    run = RepeatingTrainer(recipe, list(islice(pinned, BATCHES)), options.steps)
    for _ in range(1 + 2 * OFTEN // options.steps):
        run.seconds()
    return run


def compare(detector: str, options: argparse.Namespace) -> dict[str, object]:
    """Milliseconds of a step, both ways, and whether the passes were recorded."""
    plain, recorded = trainer(detector, False, options), trainer(detector, True, options)
    pairs = [(plain.seconds(), recorded.seconds()) for _ in range(options.rounds)]
    assert recorded.graphs is not None
    return {
        "detector": detector,
        "without graphs ms": round(1e3 * median(one for one, _ in pairs), 2),
        "with graphs ms": round(1e3 * median(other for _, other in pairs), 2),
        "ratio": round(median(other / one for one, other in pairs), 3),
        "recorded": bool(recorded.graphs.recordings),
        "GPU MiB": torch.cuda.max_memory_reserved() // 2**20,
    }


def main() -> None:
    """Print a line of JSON for every detector."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detectors", nargs="+", default=["yolo_ret_m075"])
    parser.add_argument("--size", type=int, default=320, help="side of the input in pixels")
    parser.add_argument("--batch", type=int, default=64, help="images in a step")
    parser.add_argument("--steps", type=int, default=20, help="in turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for detector in options.detectors:
        print(json.dumps(compare(detector, options)), flush=True)


if __name__ == "__main__":
    main()
