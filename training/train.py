# SPDX-License-Identifier: Apache-2.0
"""Train a detector.

    python -m training.train --data street/data.yaml --recipe training/recipes/street.yaml \
        --out runs/street

The same command goes on with an interrupted run: SIGINT and SIGTERM save a checkpoint first.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from training.averaging import AveragedModel
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data.batch import Batch
from training.data.loading import epoch_batches, steps_per_epoch
from training.data.sample import Sample
from training.data.yolo_txt import read_classes, read_split
from training.detectors.registry import DETECTORS, build
from training.evaluate import average_precision, predict
from training.losses.yolo_loss import Loss, yolo_loss
from training.recipe import Phase, Recipe


class Trainer:
    """A detector with its optimizer, its average and its place in the recipe.

    Attributes:
        step: optimizer steps done, of ``total_steps``.
    """

    def __init__(
        self, detector: str, classes: Sequence[str], recipe: Recipe, samples: Sequence[Sample]
    ) -> None:
        self.detector, self.classes, self.recipe, self.samples = (
            detector,
            tuple(classes),
            recipe,
            samples,
        )
        torch.manual_seed(recipe.seed)
        self.model = build(detector, num_classes=len(classes)).to(memory_format=torch.channels_last)
        self.average = AveragedModel(self.model, recipe.ema_decay)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, recipe))
        self.steps_per_epoch = steps_per_epoch(len(samples), recipe.batch_size)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.step = 0
        self.commit = source_commit()

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.steps_per_epoch

    def load_backbone(self, state: dict[str, Any]) -> None:
        """Start the backbone from given weights; every name must fit."""
        self.model.backbone.load_state_dict(state)
        self.average.model.backbone.load_state_dict(state)

    def train_epoch(self, after_step: Callable[[Loss], bool], workers: int = 1) -> bool:
        """Train to the end of the current epoch; ``after_step`` returns True to stop before it.

        Returns whether the end was reached.
        """
        epoch, first_step = divmod(self.step, self.steps_per_epoch)
        recipe, phase = self.recipe, self.recipe.phase(epoch)
        set_phase(self.model, phase, recipe.fixed_norm)
        batches = epoch_batches(
            self.samples,
            (phase.size,),
            recipe.batch_size,
            recipe.augmentation,
            phase.mosaic,
            (recipe.seed, epoch),
            first_step,
            workers,
        )
        return not any(after_step(self._train_step(batch)) for batch in batches)

    def _train_step(self, batch: Batch) -> Loss:
        factor = rate_factor(self.step, self.total_steps, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        images = batch.images.permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            maps = self.model(images)
        loss = yolo_loss(maps, batch.targets, self.model.grid, self.recipe.also_above)
        self.optimizer.zero_grad()
        loss.total.backward()
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return Loss(*(part.detach() for part in loss))

    def state(self) -> dict[str, Any]:
        """Return all that ``restore`` needs, and what evaluation and export read."""
        return {
            "detector": self.detector,
            "classes": list(self.classes),
            "recipe": self.recipe.to_dict(),
            "commit": self.commit,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any], replan: bool = False) -> None:
        """Go on where a saved state was.

        With ``replan`` the recipe may differ from the saved one (fewer epochs, say); the step count
        stays. Raises ValueError for another recipe without it, another detector or other classes.
        """
        if (state["detector"], tuple(state["classes"])) != (self.detector, self.classes):
            raise ValueError(
                "the checkpoint is of another detector or other classes: give a new --out"
            )
        if Recipe.from_dict(state["recipe"]) != self.recipe and not replan:
            raise ValueError(
                "the checkpoint was made with another recipe: give --replan or a new --out"
            )
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.step = state["step"]


def source_commit() -> str:
    """Return the commit of the source tree, or an empty string where there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return optimizer groups: backbone or not, kernels (decayed) or not."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = (name.startswith("backbone."), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": recipe.weight_decay * is_kernel,
            "peak": recipe.learning_rate * (recipe.backbone_rate if in_backbone else 1.0),
        }
        for (in_backbone, is_kernel), parameters in groups.items()
    ]


def set_phase(model: nn.Module, phase: Phase, fixed_norm: bool) -> None:
    """Choose what is trained and which batch norms follow their batches."""
    model.train().requires_grad_(True)
    backbone = model.backbone
    if fixed_norm:
        backbone.eval()
    if phase.frozen_blocks:
        for part in (backbone.stem, *backbone.blocks[: phase.frozen_blocks]):
            part.eval().requires_grad_(False)


def rate_factor(step: int, total_steps: int, recipe: Recipe) -> float:
    """Return the learning rate of a step as a share of its peak: linear warm-up, then a cosine."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, total_steps - recipe.warmup_steps)
    return recipe.final_rate + (1 - recipe.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))


def run(
    trainer: Trainer,
    held_out: Sequence[Sample],
    out: Path,
    evaluate_every: int,
    size: int,
    workers: int,
) -> None:
    """Train to the end of the recipe, or until SIGINT or SIGTERM; write checkpoints and a log."""
    checkpoint, console = out / "last.pt", Console()
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    with Progress(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task(
            "", total=trainer.total_steps, completed=trainer.step, epoch=0, loss=""
        )
        while trainer.step < trainer.total_steps:
            sums, started, first = torch.zeros(3), time.monotonic(), trainer.step

            def after_step(loss: Loss, sums: torch.Tensor = sums, first: int = first) -> bool:
                sums += torch.stack(loss)
                mean = sums / (trainer.step - first)
                text = "box {:.2f} objectness {:.2f} class {:.2f}".format(*mean.tolist())
                progress.update(
                    task, completed=trainer.step, epoch=first // trainer.steps_per_epoch, loss=text
                )
                return bool(stopping)

            try:
                finished = trainer.train_epoch(after_step, workers)
            except RuntimeError:
                if not stopping:
                    raise
                finished = False  # the signal reached a loader process before it could ignore it
            save_checkpoint(checkpoint, trainer.state())
            if not finished:
                console.print(
                    f"Stopped at step {trainer.step}; the same command goes on from {checkpoint}."
                )
                return
            line: dict[str, Any] = {
                "epoch": trainer.epoch,
                "seconds": round(time.monotonic() - started, 1),
                "loss": [round(v, 3) for v in (sums / (trainer.step - first)).tolist()],
            }
            if trainer.epoch % evaluate_every == 0 or trainer.step == trainer.total_steps:
                found = predict(trainer.average.model, held_out, size)
                scores = average_precision(held_out, found, trainer.classes)
                line |= {key: round(value, 4) for key, value in scores.items()}
            console.print(json.dumps(line), soft_wrap=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Train a detector, or go on with an interrupted run."
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="data.yaml of a YOLO-format data set"
    )
    parser.add_argument("--recipe", type=Path, required=True, help="recipe (YAML)")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--detector", default="yolo_ret_m075", choices=sorted(DETECTORS))
    parser.add_argument(
        "--backbone", type=Path, help="start of the backbone (training.weights.narrow)"
    )
    parser.add_argument(
        "--replan", action="store_true", help="go on although the recipe has changed"
    )
    parser.add_argument("--evaluate-every", type=int, default=5, help="epochs between evaluations")
    parser.add_argument(
        "--size", type=int, default=320, help="side of the evaluated input in pixels"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    samples, held_out = (read_split(arguments.data, split) for split in ("train", "val"))
    trainer = Trainer(
        arguments.detector, read_classes(arguments.data), Recipe.read(arguments.recipe), samples
    )
    checkpoint = arguments.out / "last.pt"
    if checkpoint.exists():
        trainer.restore(load_checkpoint(checkpoint), arguments.replan)
    elif arguments.backbone:
        trainer.load_backbone(torch.load(arguments.backbone, weights_only=True))
    run(
        trainer,
        held_out,
        arguments.out,
        arguments.evaluate_every,
        arguments.size,
        arguments.workers,
    )


if __name__ == "__main__":
    main()
