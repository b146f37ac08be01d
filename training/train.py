# SPDX-License-Identifier: Apache-2.0
"""Train a detector.

    python -m training.train --data street/data.yaml --recipe street --backbone backbone.pt
    python -m training.train --data my_set/data.yaml --detector yolo_nano

The same command continues an interrupted run: SIGINT and SIGTERM save a checkpoint first.
Several GPUs or nodes: --devices and --nodes, or torchrun.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from lightning_fabric import Fabric
from rich.console import Console

from compact_yolo_ros.support.arguments import whole_number
from compact_yolo_ros.support.terminal import open_console, say
from training.data.dataset import Cache, read_classes
from training.data.digest import digest_of
from training.data.findings import open_for_training
from training.deployment.onnx_export import fused
from training.detectors.interface import Detector
from training.evaluate import MEANS, measured
from training.loop.fabric import open_fabric
from training.loop.memory import MemoryShortageError, memory_shortage_told
from training.loop.recipe import DEFAULT_RECIPE, PAPER, Precision, Recipe, find_recipe
from training.loop.run import run
from training.loop.run_folder import RunFolder
from training.loop.trainer import DivergedError, Trainer
from training.weights.backbone_file import read_backbone
from training.weights.origin import read_origin, read_weights
from training.weights.starting import start, start_backbone


def read_teacher(recipe: Recipe) -> Detector | None:
    """Return the teacher of a recipe, its batch norms folded; None: it has none.

    Raises:
        ValueError: it cannot be found or read.
    """
    teacher = recipe.distillation.teacher
    return fused(read_weights(teacher).build(teacher)) if teacher else None


def train(arguments: argparse.Namespace, console: Console) -> None:
    """Run the command.

    Raises:
        ValueError: an argument, the recipe or the data cannot be used.
    """
    recipe = _recipe(arguments)
    # Whatever is read quickly comes before the images, so that mistakes are reported at once.
    check_metric(recipe.evaluation.metric, read_classes(arguments.data))
    folder = _run_folder(arguments, recipe)
    state = folder.read_last()
    if arguments.backbone_blocks is not None and not arguments.backbone:
        raise ValueError("--backbone-blocks goes with --backbone")
    begin = _beginning(arguments, recipe) if state is None else None
    teacher = read_teacher(recipe)
    fabric = _launch(arguments, recipe, console)
    samples = open_for_training(arguments.data, "train", arguments.cache, least=recipe.view_pixels)
    # Those that are measured on stay whole: the letterbox halves them, as in the node.
    held_out = open_for_training(arguments.data, "val", arguments.cache)
    digest = digest_of(samples)
    trainer = Trainer(recipe, samples.classes, samples, fabric, arguments.workers, digest, teacher)
    _warn_of_warmup(trainer, console)
    if state is not None:
        trainer.restore(state, arguments.replan)
    if begin is not None:
        text = begin(trainer)
        if fabric.is_global_zero:
            say(console, text)
    fabric.barrier()

    def measure(model: Detector) -> Mapping[str, float]:
        return measured(model, held_out, recipe.evaluation, samples.classes)

    with folder.locked() if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            bad_files = [*samples.bad_files, *held_out.bad_files]
            folder.begin(recipe, trainer.step, bad_files, fabric.strategy.precision.precision)
        run(trainer, folder, measure, console)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    path = find_recipe(arguments.recipe, arguments.detector)
    recipe = Recipe.read(path, arguments.set, arguments.detector)
    return replace(recipe, precision=arguments.precision) if arguments.precision else recipe


def _run_folder(arguments: argparse.Namespace, recipe: Recipe) -> RunFolder:
    named = recipe.detector.file_name if arguments.detector else ""
    name = "_".join(filter(None, (named, Path(arguments.recipe).stem)))
    return RunFolder(arguments.out or Path("runs") / name)


def _beginning(arguments: argparse.Namespace, recipe: Recipe) -> Callable[[Trainer], str] | None:
    """Read the weights that a fresh run begins with; None: random ones.

    Returns:
        What gives them to its trainer, and returns a line about what was copied.

    Raises:
        ValueError: they cannot be read or used, or the recipe needs some.
    """
    if arguments.backbone and arguments.start:
        raise ValueError("--start has a backbone, too: give --backbone or --start")
    if arguments.start:
        return partial(start, origin=read_origin(arguments.start, recipe.detector))
    if arguments.backbone:
        weights, blocks = read_backbone(arguments.backbone), arguments.backbone_blocks
        return partial(start_backbone, weights=weights, path=arguments.backbone, blocks=blocks)
    check_untrained(recipe)
    return None


def _launch(arguments: argparse.Namespace, recipe: Recipe, console: Console) -> Fabric:
    """Start the processes of the run, with the precision that this machine can do."""
    fabric, sentence = open_fabric(
        recipe.precision,
        arguments.accelerator,
        # torchrun sets these for the processes that it starts.
        int(os.environ.get("LOCAL_WORLD_SIZE", arguments.devices)),
        int(os.environ.get("GROUP_WORLD_SIZE", arguments.nodes)),
        insist=bool(arguments.precision),
    )
    fabric.launch()
    if sentence and fabric.is_global_zero:
        say(console, sentence)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return fabric


def _warn_of_warmup(trainer: Trainer, console: Console) -> None:
    steps = trainer.recipe.schedule.warmup_steps
    if steps >= trainer.total_steps and trainer.fabric.is_global_zero:
        say(
            console,
            f"The warm-up of {steps} steps is longer than the run of {trainer.total_steps}: train"
            " for more epochs (--set phases.0.epochs=100).",
        )


def check_untrained(recipe: Recipe) -> None:
    """Raise ValueError if a recipe keeps a part of the weights that it begins with."""
    frozen = any(phase.frozen_blocks for phase in recipe.phases)
    if frozen or recipe.fixed_norm != "none":
        what = "freezes blocks of the backbone" if frozen else "keeps the statistics of norms"
        raise ValueError(
            f"the recipe {what}, which have not been trained: give --backbone or --start"
        )


def check_metric(metric: str, classes: Sequence[str]) -> None:
    """Raise ValueError if a recipe's metric is none that is measured."""
    known = (*MEANS, *(f"AP50 {name}" for name in classes))
    if metric not in known:
        raise ValueError(f"evaluation.metric must be one of {', '.join(known)}, not {metric!r}")


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--data", type=Path, required=True, help="description of the data set")
    parser.add_argument(
        "--detector",
        default="",
        help="instead of the recipe's: a name, or '{name: yolo_ret_m075, neck: fpn}'",
    )
    parser.add_argument(
        "--recipe",
        default=DEFAULT_RECIPE,
        help=f"YAML file, name of one in training/recipes, or {PAPER}: the detector's training as "
        f"published (default: {DEFAULT_RECIPE})",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the run (default: runs/DETECTOR_RECIPE)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe: optimizer.rate=1e-3, phases.0.epochs=5, detector.neck=fpn, ...",
    )
    parser.add_argument(
        "--start",
        help="fine-tune: checkpoint (.pt), ONNX file or name of a model of the same detector, or "
        "of the same with more or fewer channels; any classes",
    )
    parser.add_argument(
        "--backbone",
        type=Path,
        help="start of the backbone alone: a file of training.weights, or a checkpoint",
    )
    parser.add_argument(
        "--backbone-blocks",
        type=whole_number(0),
        metavar="K",
        help="of --backbone, load only the first K blocks and what is before them",
    )
    parser.add_argument(
        "--replan", action="store_true", help="continue although the recipe or the data has changed"
    )
    parser.add_argument(
        "--accelerator", default="auto", choices=("auto", "cpu", "gpu"), help="default: auto"
    )
    some = whole_number(1)
    parser.add_argument("--devices", type=some, default=1, help="GPUs (or processes) of a node")
    parser.add_argument("--nodes", type=some, default=1, help="machines")
    parser.add_argument("--precision", choices=get_args(Precision), help="instead of the recipe's")
    parser.add_argument(
        "--cache",
        default="memory",
        choices=get_args(Cache),
        help="where decoded images are kept (default: memory)",
    )
    parser.add_argument("--threads", type=whole_number(0), help="threads of a process on the CPU")
    parser.add_argument(
        "--workers", type=whole_number(0), default=1, help="loader processes of a process"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Train a detector, or continue an interrupted run."
    )
    arguments_of(parser)
    arguments = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        with memory_shortage_told():
            train(arguments, open_console())
    except (ValueError, DivergedError, MemoryShortageError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
