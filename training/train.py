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
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import NamedTuple, get_args

import torch
from rich.console import Console
from torch import Tensor

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.arguments import whole_number
from compact_yolo_ros.support.terminal import open_console, say
from training.data.dataset import Cache, DataSet, open_split, read_classes
from training.data.digest import digest_of
from training.data.findings import other_shapes, require_objects
from training.deployment.onnx_export import fused
from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Detector
from training.detectors.variant import Variant
from training.evaluate import MEANS, measured
from training.loop.checkpoint import fill, load_checkpoint
from training.loop.fabric import open_fabric
from training.loop.memory import MemoryShortageError, memory_shortage_told
from training.loop.recipe import DEFAULT_RECIPE, PAPER, Precision, Recipe, find_recipe
from training.loop.run import run
from training.loop.run_folder import RunFolder
from training.loop.trainer import DivergedError, Trainer
from training.quantisation.quantisation_aware import plain_weights
from training.weights.backbone_file import read_backbone
from training.weights.fewer_channels import narrowed
from training.weights.from_onnx import measure_norms, read_exported, variant_of
from training.weights.more_channels import widened
from training.weights.other_classes import start_from, summary
from training.weights.starting import first_images, start_backbone


class Origin(NamedTuple):
    """Weights to start from, of any classes.

    Attributes:
        detector: they are of.
        classes: the classes that they were trained for.
        state: state dict of the detector.
        folded: whether the norms are identities, because they were folded into the convolutions.
    """

    detector: Variant
    classes: Sequence[str]
    state: Mapping[str, Tensor]
    folded: bool

    def build(self, weights: str) -> Detector:
        """Build the detector with these weights, which were read from ``weights``.

        Raises:
            ValueError: they are of another network.
        """
        network = self.detector.build(len(self.classes))
        fill(network, self.state, Path(weights))
        return network


def read_origin(weights: str, detector: Variant, chosen: bool = True) -> Origin:
    """Read the weights to start from.

    Args:
        weights: a checkpoint (.pt), or the path or name of a model.
        detector: to start.
        chosen: the user can choose another one with ``--detector``.

    Raises:
        ValueError: they cannot be found or read, or are of another detector that is not the same
            with more or fewer channels.
    """
    origin = read_weights(weights)
    return origin if origin.detector == detector else _resized(origin, detector, weights, chosen)


def read_weights(weights: str) -> Origin:
    """Read weights, and what they are of.

    Args:
        weights: a checkpoint (.pt), or the path or name of a model.

    Raises:
        ValueError: they cannot be found or read.
    """
    if weights.endswith(".pt"):
        content = load_checkpoint(Path(weights))
        variant = Variant.from_settings(content["detector"], f"{weights}: detector")
        folded = bool(content.get("folded"))
        return Origin(variant, content["classes"], plain_weights(content["average"]), folded)
    path = find_model(weights).path
    model, card = read_exported(path)
    return Origin(variant_of(card, path), card.classes, model.state_dict(), True)


def _resized(origin: Origin, detector: Variant, weights: str, chosen: bool) -> Origin:
    """Return what a detector takes over from the same network with more or fewer channels."""
    network = origin.build(weights)
    for resized in (widened, narrowed):
        with suppress(ValueError):
            state = resized(network, origin.detector, detector)
            return origin._replace(detector=detector, state=state)
    hint = f": give --detector {quote(str(origin.detector))}"
    raise ValueError(
        f"{weights} is a {origin.detector}, the recipe trains {detector}, which is not the "
        f"same with more or fewer channels{hint if chosen else ''}"
    )


def read_teacher(recipe: Recipe) -> Detector | None:
    """Return the teacher of a recipe, its batch norms folded; None: it has none.

    Raises:
        ValueError: it cannot be found or read.
    """
    teacher = recipe.distillation.teacher
    return fused(read_weights(teacher).build(teacher)) if teacher else None


def start(trainer: Trainer, origin: Origin) -> str:
    """Give a trainer the weights of ``origin``; return one line about what was not copied."""
    detector, classes = trainer.recipe.detector, origin.classes
    left = start_from(trainer.model, detector, origin.state, classes, trainer.classes)
    if origin.folded:
        # Where something was not copied, there is no function to keep: the norms stay fresh.
        fresh = {name.rsplit(".", 2)[0] for name in left}
        units = [
            module
            for name, module in trainer.model.named_modules()
            if isinstance(module, ConvNormAct) and name not in fresh
        ]
        measure_norms(trainer.model, first_images(trainer), units)
    trainer.begin_average()
    return summary(left, [name for name in trainer.classes if name not in classes])


def train(arguments: argparse.Namespace, console: Console) -> None:
    """Run the command.

    Raises:
        ValueError: an argument, the recipe or the data cannot be used.
    """
    path = find_recipe(arguments.recipe, arguments.detector)
    recipe = Recipe.read(path, arguments.set, arguments.detector)
    if arguments.precision:
        recipe = replace(recipe, precision=arguments.precision)
    # Whatever is read quickly comes before the images, so that mistakes are reported at once.
    check_metric(recipe.evaluation.metric, read_classes(arguments.data))
    named = recipe.detector.file_name if arguments.detector else ""
    name = "_".join(filter(None, (named, Path(arguments.recipe).stem)))
    folder = RunFolder(arguments.out or Path("runs") / name)
    state = folder.read_last()
    fresh = state is None
    if arguments.backbone_blocks is not None and not arguments.backbone:
        raise ValueError("--backbone-blocks goes with --backbone")
    if fresh and arguments.backbone and arguments.start:
        raise ValueError("--start has a backbone, too: give --backbone or --start")
    if fresh and not arguments.backbone and not arguments.start:
        check_untrained(recipe)
    backbone = read_backbone(arguments.backbone) if fresh and arguments.backbone else None
    origin = read_origin(arguments.start, recipe.detector) if fresh and arguments.start else None
    teacher = read_teacher(recipe)
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
    samples = _with_objects(arguments.data, "train", arguments.cache, recipe.view_pixels)
    # Those that are measured on stay whole: the letterbox halves them, as in the node.
    held_out = _with_objects(arguments.data, "val", arguments.cache)
    digest = digest_of(samples)
    trainer = Trainer(recipe, samples.classes, samples, fabric, arguments.workers, digest, teacher)
    warmup = recipe.schedule.warmup_steps
    if warmup >= trainer.total_steps and fabric.is_global_zero:
        console.print(
            f"The warm-up of {warmup} steps is longer than the run of {trainer.total_steps}: train"
            " for more epochs (--set phases.0.epochs=100).",
            soft_wrap=True,
        )
    if state is not None:
        trainer.restore(state, arguments.replan)
    if backbone is not None:
        text = start_backbone(trainer, backbone, arguments.backbone, arguments.backbone_blocks)
        if fabric.is_global_zero:
            say(console, text)
    if origin is not None:
        text = start(trainer, origin)
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


def _with_objects(data: Path, split: str, cache: Cache, least: Size | None = None) -> DataSet:
    """Open a split; see ``open_split``.

    Raises:
        ValueError: no object is labelled, so the labels are probably in another folder.
    """
    opened = open_split(data, split, cache, least=least)
    require_objects(data, split, opened)
    if sentence := other_shapes(split, opened):
        logging.getLogger("training.data").warning("%s: %s", data, sentence)
    return opened


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
