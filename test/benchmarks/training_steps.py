# SPDX-License-Identifier: Apache-2.0
"""Training steps a second: what each measure gains over a plain loop, and of every detector.

    python test/benchmarks/training_steps.py
    python test/benchmarks/training_steps.py --zoo --batch 8 --rounds 2 --json zoo.json

A step is forward, loss, backward, optimizer and average, on one batch that stays the same; making
the batch is measured apart. The cases alternate. Rates are of CPU time, which other work on the
machine changes less than the time on the clock; that stands beside it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightning_fabric import Fabric  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402

from compact_yolo_ros.support.terminal import open_console, print_table  # noqa: E402
from training.data.batch import Batch  # noqa: E402
from training.data.loading import epoch_batches  # noqa: E402
from training.data.sample import Sample  # noqa: E402
from training.detectors.registry import DETECTORS  # noqa: E402
from training.loop.averaging import AveragedModel  # noqa: E402
from training.loop.recipe import DEFAULT_RECIPE, Phase, Recipe, find_recipe  # noqa: E402
from training.loop.trainer import Trainer  # noqa: E402
from training.losses.criterion import criterion  # noqa: E402

CLASSES = tuple("abcde")
SIZES = (224, 320, 416)
PLAIN = "plain: float32, (N, C, H, W), all trained"
WHOLE = 1000  # more blocks than any backbone has


class RepeatingTrainer(Trainer):
    """Trains on one batch again and again; ``outside``: a frozen backbone in ONNX Runtime."""

    def __init__(self, recipe: Recipe, batch: Batch, outside: bool = True) -> None:
        fabric = Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
        super().__init__(recipe, CLASSES, [None] * recipe.batch_size * 1000, fabric, workers=0)
        self.batch, self.outside = batch, outside

    def _steps(self, epoch: int, done: int, phase: Phase) -> Iterator[list[Batch]]:
        yield [self.batch]

    def _open_frozen(self) -> None:
        if self.outside:
            super()._open_frozen()

    def run(self) -> None:
        """Do one step."""
        self.train_epoch(lambda loss: True)


class PlainLoop:
    """The loop of a textbook, with the same loss, optimizer and average."""

    def __init__(self, recipe: Recipe, batch: Batch, layout: torch.memory_format, bf16: bool):
        self.model = recipe.detector.build(len(CLASSES)).to(memory_format=layout)
        self.average = AveragedModel(self.model, recipe.ema_decay)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4)
        self.criterion = criterion(recipe.loss, self.model.grid)
        self.batch, self.layout, self.bf16, self.step = batch, layout, bf16, 0

    def run(self) -> None:
        """Do one step."""
        images = (self.batch.images.permute(0, 3, 1, 2).float() / 255).contiguous(
            memory_format=self.layout
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            maps = self.model(images)
        loss = self.criterion([map_.float() for map_ in maps], self.batch.targets, self.step)
        loss.total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.average.update(self.model, self.step, self.step)


@dataclass
class Times:
    """Seconds of every step, on the CPU and on the clock."""

    cpu: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def measure(self, step: Callable[[], None]) -> None:
        """Do a step."""
        clock, cpu = time.perf_counter(), time.process_time()
        step()
        self.cpu.append(time.process_time() - cpu)
        self.clock.append(time.perf_counter() - clock)


def draw_samples(count: int, size: int) -> list[Sample]:
    """Noise with eight objects an image, from 8 pixels to half of it."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        sides = 8 * (size / 16) ** rng.random((8, 2))
        corners = rng.random((8, 2)) * (size - sides)
        boxes = np.concatenate((corners, corners + sides), 1).astype(np.float32)
        labels = rng.integers(len(CLASSES), size=8)
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        samples.append(Sample(image, boxes, labels, str(number)))
    return samples


def draw_batch(recipe: Recipe, size: int) -> tuple[Batch, float]:
    """Return a batch of views, and the CPU seconds of making it."""
    samples = draw_samples(recipe.batch_size, max(SIZES))
    mosaic, key = recipe.phases[0].mosaic, (0, 0)
    started = time.process_time()
    batches = epoch_batches(
        samples, (size,), recipe.batch_size, recipe.augmentation, mosaic, key, workers=0
    )
    return next(iter(batches)), time.process_time() - started


def with_phase(recipe: Recipe, size: int, batch: int, frozen_blocks: int | None = None) -> Recipe:
    """Return a recipe of its first phase alone, at one size."""
    phase = replace(recipe.phases[0], epochs=1, sizes=(size,))
    if frozen_blocks is not None:
        phase = replace(phase, frozen_blocks=frozen_blocks)
    return replace(recipe, phases=(phase,), batch_size=batch)


def measures(options: argparse.Namespace, console: Console) -> list[dict[str, object]]:
    """Measure the steps from a plain loop to a frozen backbone outside of PyTorch."""
    torch.manual_seed(0)
    street = Recipe.read(find_recipe("street"), detector=options.detector)
    recipe = with_phase(street, options.size, options.batch)
    batch, loading = draw_batch(recipe, options.size)

    def frozen(blocks: int | None, outside: bool = True) -> RepeatingTrainer:
        changed = with_phase(street, options.size, options.batch, blocks)
        return RepeatingTrainer(changed, batch, outside)

    last = torch.channels_last
    blocks = recipe.phases[0].frozen_blocks
    cases = {
        PLAIN: PlainLoop(recipe, batch, torch.contiguous_format, bf16=False),
        "+ channels last": PlainLoop(recipe, batch, last, bf16=False),
        "+ bfloat16 autocast": PlainLoop(recipe, batch, last, bf16=True),
        "+ norms of the backbone fixed and folded": frozen(0),
        f"+ first {blocks} blocks frozen (street.yaml)": frozen(blocks),
        "or whole backbone frozen, in PyTorch": frozen(WHOLE, outside=False),
        "or whole backbone frozen, in ONNX Runtime": frozen(WHOLE),
    }
    times = alternate({name: case.run for name, case in cases.items()}, options.rounds, console)
    rows = []
    for name, taken in times.items():
        ratios = [p / t for p, t in zip(times[PLAIN].cpu, taken.cpu, strict=True)]
        with_loading = [
            (p + loading) / (t + loading) for p, t in zip(times[PLAIN].cpu, taken.cpu, strict=True)
        ]
        rows.append(
            {
                "step": name,
                "images a CPU second": options.batch / median(taken.cpu),
                "images a second": options.batch / median(taken.clock),
                "ratio": median(ratios),
                "with loading": median(with_loading),
            }
        )
    title = f"{options.detector} at {options.size}, batch {options.batch}"
    cells = [[str(row["step"]), *(f"{row[key]:.2f}" for key in [*row][1:])] for row in rows]
    print_table(console, [*rows[0]], cells, title)
    console.print(f"Making a view takes {1e3 * loading / options.batch:.1f} ms of CPU time.")
    return rows


def zoo(options: argparse.Namespace, console: Console) -> list[dict[str, object]]:
    """Measure every detector at every size, as its recipe for the CPU begins."""
    console.print("Images a CPU second, and a second on the clock")
    console.print(" " * 22 + "".join(f"{size:>16}" for size in SIZES))
    rows: list[dict[str, object]] = []
    for name in DETECTORS:
        cpu_recipe = Recipe.read(find_recipe(DEFAULT_RECIPE), detector=name)
        line = f"{name:22}"
        for size in SIZES:
            recipe = with_phase(cpu_recipe, size, options.batch)
            step = RepeatingTrainer(recipe, draw_batch(recipe, size)[0]).run
            taken = alternate({name: step}, options.rounds)[name]
            cpu, clock = (options.batch / median(seconds) for seconds in asdict(taken).values())
            rows.append(
                {
                    "detector": name,
                    "size": size,
                    "images a CPU second": cpu,
                    "images a second": clock,
                }
            )
            line += f"{cpu:9.2f}{clock:7.2f}"
        console.print(line)
    return rows


def alternate(
    steps: dict[str, Callable[[], None]], rounds: int, console: Console | None = None
) -> dict[str, Times]:
    """Do all steps in turn, ``rounds`` times, after one round that warms them up."""
    for step in steps.values():
        step()
    times = {name: Times() for name in steps}
    quiet = console or Console(quiet=True)
    for _ in track(range(rounds), "measuring", console=quiet, transient=True):
        for name, step in steps.items():
            times[name].measure(step)
    return times


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", action="store_true", help="every detector instead of one")
    parser.add_argument("--detector", default="yolo_ret_m075", choices=DETECTORS)
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    console = open_console()
    rows = (zoo if options.zoo else measures)(options, console)
    conditions = {
        "torch": torch.__version__,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "batch": options.batch,
        "rounds": options.rounds,
    }
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))
    if options.json:
        options.json.write_text(json.dumps({**conditions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
