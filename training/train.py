# SPDX-License-Identifier: Apache-2.0
"""Train a detector.

    python -m training.train --data street/data.yaml --recipe training/recipes/street.yaml \
        --out runs/street

The same command goes on with an interrupted run: SIGINT and SIGTERM save a checkpoint first.
Several GPUs or nodes: --devices and --nodes, or torchrun.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import nn

from training.checkpoint import fill, load_checkpoint, read_tensors
from training.data.dataset import Cache, open_split
from training.data.loading import epoch_batches
from training.engine import DivergedError, Trainer
from training.evaluate import average_precision, predict
from training.loop import run
from training.recipe import Precision, Recipe
from training.run_folder import RunFolder
from training.starting import start_from, summary
from training.weights.exported import measure_norms, read_exported

# Images that the norms of an exported detector are measured on.
MEASURED = 64


def start(trainer: Trainer, path: Path) -> str:
    """Start from a checkpoint or an exported model, of any classes; say what was not copied."""
    if path.suffix == ".onnx":
        detector, card = read_exported(path)
        name, classes, state = card.detector, card.classes, detector.state_dict()
    else:
        content = load_checkpoint(path)
        name, classes, state = content["detector"], content["classes"], content["average"]
    own = trainer.recipe.detector
    if name != own:
        raise ValueError(f"{path} is a {name}, the recipe trains {own}: --set detector={name}")
    left = start_from(trainer.model, own, state, classes, trainer.classes)
    if path.suffix == ".onnx":
        _measure_norms(trainer)
    trainer.begin_average()
    return summary(left, [name for name in trainer.classes if name not in classes])


def _measure_norms(trainer: Trainer) -> None:
    recipe = trainer.recipe
    phase, count = recipe.phases[0], min(MEASURED, len(trainer.samples))
    key = (recipe.seed, 0)
    batches = epoch_batches(
        trainer.samples, phase.sizes[-1:], count, recipe.augmentation, 0.0, key, workers=0
    )
    images = next(iter(batches)).images.to(trainer.fabric.device)
    measure_norms(trainer.model, images.permute(0, 3, 1, 2).float() / 255)


def train(arguments: argparse.Namespace, console: Console) -> None:
    """Run as the command line says. Raises ValueError, one sentence, for what cannot be used."""
    recipe = Recipe.read(arguments.recipe, arguments.set)
    if arguments.precision:
        recipe = replace(recipe, precision=arguments.precision)
    fabric = _fabric(arguments, recipe)
    fabric.launch()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    samples, held_out = (
        open_split(arguments.data, split, arguments.cache) for split in ("train", "val")
    )
    trainer = Trainer(recipe, samples.classes, samples, fabric, arguments.workers)

    folder = RunFolder(arguments.out or Path("runs") / arguments.recipe.stem)
    state = folder.read_last()
    if state is not None:
        trainer.restore(state, arguments.replan)
    else:
        if arguments.backbone:
            fill(trainer.model.backbone, read_tensors(arguments.backbone), arguments.backbone)
            trainer.begin_average()
        if arguments.start:
            text = start(trainer, arguments.start)
            if fabric.is_global_zero:
                console.print(text, soft_wrap=True)
    fabric.barrier()
    if fabric.is_global_zero:
        folder.begin(recipe, trainer.step, [*samples.bad_files, *held_out.bad_files])

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        found = predict(model, held_out, recipe.evaluation.size)
        return average_precision(held_out, found, samples.classes)

    run(trainer, folder, evaluate, console)


def _fabric(arguments: argparse.Namespace, recipe: Recipe) -> Fabric:
    try:
        return Fabric(
            accelerator=arguments.accelerator,
            # torchrun says how many it has started.
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", arguments.devices)),
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", arguments.nodes)),
            precision=recipe.precision,
        )
    except RuntimeError as error:
        raise ValueError(f"--accelerator {arguments.accelerator}: {error}") from None


def _count(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--data", type=Path, required=True, help="description of the data set")
    parser.add_argument("--recipe", type=Path, required=True, help="recipe (YAML)")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/RECIPE)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe: optimizer.rate=1e-3, phases.0.epochs=5, detector=yolo_nano, ...",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="fine-tune: checkpoint (.pt) or exported model (.onnx) of the same detector, any "
        "classes",
    )
    parser.add_argument(
        "--backbone", type=Path, help="start of the backbone alone (training.weights)"
    )
    parser.add_argument(
        "--replan", action="store_true", help="go on although the recipe has changed"
    )
    parser.add_argument(
        "--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="default: auto"
    )
    parser.add_argument("--devices", type=_count, default=1, help="GPUs (or processes) of a node")
    parser.add_argument("--nodes", type=_count, default=1, help="machines")
    parser.add_argument("--precision", choices=Precision.__args__, help="in place of the recipe's")
    parser.add_argument(
        "--cache",
        default="memory",
        choices=Cache.__args__,
        help="where decoded images are kept (default: memory)",
    )
    parser.add_argument("--threads", type=_count, help="threads of a process on the CPU")
    parser.add_argument("--workers", type=_count, default=1, help="loader processes of a process")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Train a detector, or go on with an interrupted run."
    )
    arguments_of(parser)
    arguments = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        train(arguments, Console())
    except (ValueError, DivergedError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
