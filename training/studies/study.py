# SPDX-License-Identifier: Apache-2.0
"""The frame of a study: a plan with its cost, trainings that can be resumed, a report.

Each training has a folder of its own in the study's, with ``result.json`` when it is finished: then
it is not run again. One that was cut off continues from its ``last.pt``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.support.document import LARGE, DocumentError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain, to_plain
from compact_yolo_ros.support.terminal import say
from compact_yolo_ros.support.wording import counted
from training.data.dataset import Cache, DataSet, read_classes
from training.data.digest import digest_of
from training.data.findings import open_for_training
from training.detectors.complexity import macs, parameters
from training.detectors.interface import Detector
from training.detectors.variant import Variant
from training.evaluate import measured
from training.loop.continuing import same_recipe
from training.loop.fabric import open_fabric
from training.loop.provenance import provenance
from training.loop.recipe import Recipe, find_recipe
from training.loop.run import out_of_patience, run
from training.loop.run_folder import RunFolder
from training.loop.trainer import Trainer
from training.studies.beginning import Beginning, read_beginning
from training.studies.member import Member, Result, folder_of
from training.studies.report import RESULTS, Report, write_report
from training.train import check_metric, read_teacher

RESULT = "result.json"
MEASURED_STEPS = 2
EVALUATION_SHARE = 1 / 3
"""Time of a forward pass as a share of a training step's time for the same image."""


STOPPED = 3
"""Exit code of the command of a study when trainings are left."""


class StoppedError(Exception):
    """A signal, or the end of the time, has stopped a training; the same command continues it."""


@dataclass(frozen=True)
class Effort:
    """How long every training of a study is.

    Attributes:
        recipe: file, or name of one in training/recipes.
        changes: of the recipe, as ``optimizer.rate=1e-3``.
        images: training images, drawn from all; 0: all.
        held_out: images of ``val``, drawn from all; 0: all.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    images: int = 0
    held_out: int = 0


@dataclass(frozen=True)
class Cost:
    """What the trainings of a plan cost.

    Attributes:
        trainings: that are not finished.
        finished: trainings that are.
        views: images that the unfinished ones see, repeated ones counted.
        step: measured seconds of a training step of the first of them; 0: none is left.
        seconds: of all, estimated from that step and the multiply-accumulates.
        limited: whether the clock may end one of them (``schedule.minutes``) before its last view.
    """

    trainings: int
    finished: int
    views: int
    step: float
    seconds: float
    limited: bool = False

    def __str__(self) -> str:
        if not self.trainings:
            which = f"all {self.finished} trainings are" if self.finished > 1 else "the training is"
            return f"Plan: {which} finished."
        minutes = round(self.seconds / 60)
        time = counted(minutes, "minute")
        return (
            f"Plan: {counted(self.trainings, 'training')} ({self.finished} "
            f"{'is' if self.finished == 1 else 'are'} finished), "
            f"{'at most ' * self.limited}{counted(self.views, 'view')} of "
            f"images, {f'about {time}' if minutes else 'less than one minute'} "
            f"here: a step took {self.step:.2f} s."
        )


@dataclass
class Study:
    """Trains members, each with every seed, and reports after each of them.

    Attributes:
        name: of the study.
        data: its ``data.yaml``.
        out: folder of the study.
        effort: how long a training is.
        report: makes the report of the finished results.
        console: for plan and progress.
        seeds: of the trainings.
        accelerator: of Lightning Fabric: ``auto``, ``cpu`` or ``gpu``.
        cache: where decoded images are kept.
        workers: loader processes.
        results: of the trainings that are finished, in the order in which they were asked for.
        reports: whether it writes the report; one of several processes does.
    """

    name: str
    data: Path
    out: Path
    effort: Effort
    report: Callable[[Sequence[Result]], Report]
    console: Console
    seeds: tuple[int, ...] = (0,)
    accelerator: str = "auto"
    cache: Cache = "memory"
    workers: int = 1
    results: list[Result] = field(default_factory=list)
    reports: bool = True
    _told: set[str] = field(default_factory=set, init=False, repr=False)
    _order: dict[tuple[str, int], int] = field(default_factory=dict, init=False, repr=False)
    _opened: tuple[Size, DataSet] | None = field(default=None, init=False, repr=False)

    # The images are opened when they are needed: what else is wrong is found out before.
    def samples(self, recipe: Recipe) -> DataSet:
        """Return the images that a training sees, reduced as far as its views allow.

        So are those of ``training.train``. Only those of the last recipe stay in memory.
        """
        least = recipe.view_pixels
        if self._opened is None or self._opened[0] != least:
            self._opened = None
            self._opened = least, self._open("train", self.cache, self.effort.images, least)
        return self._opened[1]

    @property
    def train_set(self) -> DataSet:
        """Images that the trainings see, to be counted; ``samples`` are what they see of them."""
        return self._opened[1] if self._opened else self._unseen

    @cached_property
    def _unseen(self) -> DataSet:
        return self._open("train", "none", self.effort.images)

    @cached_property
    def held_out(self) -> DataSet:
        """Images of ``val`` that they are measured on. They stay whole, as for the node."""
        return self._open("val", self.cache, self.effort.held_out)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return read_classes(self.data)

    def _open(self, split: str, cache: Cache, most: int, least: Size | None = None) -> DataSet:
        return open_for_training(self.data, split, cache, most, least)

    @cached_property
    def digest(self) -> str:
        """Of all that the trainings see and are measured on."""
        return digest_of(self.train_set, self.held_out)

    def check_folder(self) -> None:
        """Raise ValueError if the folder has another study, or this one of other images."""
        path = self.out / RESULTS
        if not path.exists():
            return
        try:
            facts = read_json(path, LARGE)["facts"]
            found = {name: facts.get(name, own) for name, own in self.facts.items()}
        except (DocumentError, LookupError, TypeError, AttributeError):
            raise ValueError(f"{path} was not written by a study: give another --out") from None
        for name in ("study", "data"):
            if found[name] != self.facts[name]:
                raise ValueError(
                    f"{path} is of {found[name]}, not of {self.facts[name]}: give another --out"
                )
        if found[DIGEST] != self.digest:
            raise ValueError(f"{path} is of other images, labels or classes: give another --out")

    def recipe(self, member: Member, seed: int) -> Recipe:
        """Return what a training does.

        Raises:
            ValueError: the recipe cannot be used, or changes what the study compares.
        """
        changes = [*self.effort.changes, *member.changes, f"seed={seed}"]
        detector = str(member.detector)
        recipe = Recipe.read(find_recipe(self.effort.recipe, detector), changes, detector)
        check_metric(recipe.evaluation.metric, self.classes)
        trained = recipe.detector.options
        for name, value in member.detector.options.items():
            if not _contains(trained.get(name), value):
                raise ValueError(f"--set detector.{name} is not possible: the study changes it")
        return recipe

    def run(self, members: Sequence[Member], plan_only: bool = False) -> list[Result]:
        """Print the plan and its cost; then train all that is not finished.

        Raises:
            StoppedError: a signal came; what is finished is kept.
            ValueError: a folder has a training of other settings.
        """
        wanted = self.trainings(members)
        say(self.console, str(self.cost(wanted)))
        if plan_only:
            return []
        self.gather(members)
        return [self.train(member, seed) for member, seed in wanted]

    def trainings(self, members: Sequence[Member]) -> list[tuple[Member, int]]:
        """Return each member with every seed."""
        return [(member, seed) for seed in self.seeds for member in members]

    def cost(self, wanted: Sequence[tuple[Member, int]]) -> Cost:
        """Measure a training step, and estimate what is left of trainings, each with its seed.

        Raises:
            ValueError: a folder has a training of other settings.
        """
        left = [self.recipe(m, seed) for m, seed in wanted if not self.finished(m, seed)]
        finished = len(wanted) - len(left)
        if not left:
            return Cost(0, finished, 0, 0.0, 0.0)
        recipe = left[0]
        step = self._step_seconds(recipe)
        an_image = step / recipe.batch_size / _work(recipe)
        views = sum(recipe.epochs for recipe in left) * len(self.train_set)
        seconds = sum(self._seconds(recipe, an_image * _work(recipe)) for recipe in left)
        limited = any(recipe.schedule.minutes for recipe in left)
        return Cost(len(left), finished, views, step, seconds, limited)

    def cost_of_search(self, expected: Iterable[tuple[Member, int, str]]) -> Cost:
        """Estimate what is left of trainings of which only the number is known.

        Args:
            expected: a member like them, how many there will be, and the pattern of the names of
                their folders.
        """
        finished, left = 0, []
        for like, count, names in expected:
            ended = len(list(self.out.glob(f"{names}/{RESULT}")))
            finished += ended
            left += [(replace(like, name="plan"), self.seeds[0])] * max(0, count - ended)
        return replace(self.cost(left), finished=finished)

    def _seconds(self, recipe: Recipe, an_image: float) -> float:
        """Seconds of a training with its evaluations, from those of an image in a step."""
        evaluations = -(-recipe.epochs // recipe.evaluation.every)
        evaluation = an_image * EVALUATION_SHARE * len(self.held_out)
        seconds = an_image * recipe.epochs * len(self.train_set) + evaluations * evaluation
        # The last evaluation comes when the minutes have passed.
        limit = 60 * recipe.schedule.minutes + evaluation
        return min(seconds, limit) if recipe.schedule.minutes else seconds

    def _step_seconds(self, recipe: Recipe) -> float:
        trainer = self._trainer(recipe)
        moments: list[float] = []

        def after_step(_: Any) -> bool:
            moments.append(time.monotonic())
            return len(moments) > MEASURED_STEPS

        began = time.monotonic()
        trainer.train_epoch(after_step)
        if len(moments) == 1:
            return moments[0] - began
        # The first step has the start of the loader in it.
        return (moments[-1] - moments[0]) / (len(moments) - 1)

    def _trainer(self, recipe: Recipe) -> Trainer:
        fabric, _ = open_fabric(recipe.precision, self.accelerator)
        samples, teacher = self.samples(recipe), read_teacher(recipe)
        return Trainer(recipe, samples.classes, samples, fabric, self.workers, teacher=teacher)

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder of a training; ``last.pt`` in it has the weights."""
        return self.out / folder_of(name, seed)

    def finished(self, member: Member, seed: int) -> Result | None:
        """Return the result of a training; None: it is not finished.

        One that was stopped because it was hopeless is finished only for who stops such ones.

        Raises:
            ValueError: the folder has a training of other settings.
        """
        path = self.folder(member.name, seed) / RESULT
        if not path.exists():
            return None
        try:
            found = from_plain(Result, read_json(path, LARGE))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({reason(error)}): move it away to go on"
            ) from None
        self._check(path, found.recipe, Beginning(found.origin, found.data), member, seed)
        return None if found.stopped and not member.hopeless else found

    def _check(
        self, path: Path, recipe: dict[str, Any], began: Beginning, member: Member, seed: int
    ) -> None:
        """Raise ValueError unless the training that ``path`` is of is this one of the study."""
        if not same_recipe(recipe, self.recipe(member, seed)):
            raise ValueError(f"{path} is of a training with other settings: give another --out")
        began.check(self._beginning(member), path)

    def _beginning(self, member: Member) -> Beginning:
        return Beginning(member.origin, self.digest)

    def train(self, member: Member, seed: int = 0) -> Result:
        """Train, or continue, or read the result of a finished training; then report.

        Raises:
            StoppedError: a signal came; the training can be continued.
            ValueError: the folder has a training of other settings.
            DivergedError: the loss is no longer a number.
        """
        result = self.finished(member, seed)
        if result is None:
            detector = self.recipe(member, seed).detector
            say(self.console, f"{member.name}, seed {seed}: {detector}")
            result = self._train(member, seed)
            text = f"AP50 {100 * result.ap50:.1f} % after {counted(result.epochs, 'epoch')}"
            say(self.console, f"{member.name}, seed {seed}: {text}, {result.seconds / 60:.1f} min")
        known = [(r.name, r.seed) for r in self.results]
        if (result.name, result.seed) not in known:
            self.results.append(result)
            self.results.sort(key=lambda r: self._order.get((r.name, r.seed), len(self._order)))
        self._write_report()
        return result

    def gather(self, members: Sequence[Member]) -> None:
        """Report what is finished, by other processes or at another time, in the members' order.

        A folder of something else is told once, and left out: it ends no training of the others.
        """
        wanted = self.trainings(members)
        self._order = {(member.name, seed): place for place, (member, seed) in enumerate(wanted)}
        found = (self._gathered(member, seed) for member, seed in wanted)
        self.results[:] = [result for result in found if result]
        if self.results:
            self._write_report()

    def _gathered(self, member: Member, seed: int) -> Result | None:
        try:
            return self.finished(member, seed)
        except ValueError as error:
            sentence = f"Left out of the report: {error}"
            if sentence not in self._told:
                self._told.add(sentence)
                say(self.console, sentence)
            return None

    def _write_report(self) -> None:
        if self.reports:
            write_report(self.out, self.report(self.results), self.results, self.facts)

    def _train(self, member: Member, seed: int) -> Result:
        recipe = self.recipe(member, seed)
        folder = RunFolder(self.folder(member.name, seed))
        state = folder.read_last()
        if state is not None:
            began = read_beginning(folder.path)
            self._check(folder.last, state["recipe"], began, member, seed)
        trainer = self._trainer(recipe)
        if state is not None:
            trainer.restore(state)
        elif member.begin:
            member.begin(trainer)
            trainer.begin_average()

        def measure(model: Detector) -> Mapping[str, float]:
            return measured(model, self.held_out, recipe.evaluation, self.train_set.classes)

        precision = trainer.fabric.strategy.precision.precision
        with folder.locked():
            if state is None:
                self._beginning(member).write(folder.path)
            folder.begin(recipe, trainer.step, precision=precision)
            ended = run(trainer, folder, measure, self.console, member.hopeless or _never)
        if not ended:
            raise StoppedError
        result = self._result(member, seed, trainer)
        with replacing(folder.path / RESULT) as temporary:
            temporary.write_text(json.dumps(to_plain(asdict(result)), indent=1, allow_nan=False))
        return result

    def _result(self, member: Member, seed: int, trainer: Trainer) -> Result:
        history, recipe = trainer.history, trainer.recipe
        measured = [row for row in history if "AP50" in row]
        known = {name: value for name, value in measured[-1].items() if name.startswith(FIGURES)}
        return Result(
            member.name,
            str(recipe.detector),
            seed,
            parameters(trainer.model),
            _gmac(recipe.detector, len(trainer.classes), recipe.evaluation.size),
            len(self.train_set),
            trainer.epoch,
            round(sum(row["seconds"] for row in history), 1),
            known,
            [(row["epoch"], row["AP50"]) for row in measured],
            to_plain(recipe.to_dict()),
            member.origin,
            dict(member.facts),
            self.digest,
            stopped=not (trainer.is_over or out_of_patience(trainer)),
        )

    @cached_property
    def facts(self) -> dict[str, Any]:
        """How the results were made, for the report."""
        here = provenance()
        return {
            "study": f"training.studies.{self.name}",
            "data": f"{self.data.resolve().parent.name}, {len(self.train_set)} images to train on, "
            f"{len(self.held_out)} to measure on",
            DIGEST: self.digest,
            "recipe": " ".join((self.effort.recipe, *self.effort.changes)),
            "seeds": ", ".join(map(str, self.seeds)),
            "machine": f"{here['processor']}, {here['cores']} cores"
            + "".join(f", {gpu}" for gpu in here["gpus"]),
            "commit": here["commit"],
            "packages": here["packages"],
        }


DIGEST = "digest of the data"
"""Name of a fact."""
FIGURES = ("AP", "VOC")
"""How the names of figures in a row of metrics begin."""


def _contains(value: Any, part: Any) -> bool:
    """Return whether an option's value is ``part``, or a mapping that has all of it."""
    if isinstance(part, Mapping) and isinstance(value, Mapping):
        return all(_contains(value.get(key), each) for key, each in part.items())
    return bool(value == part)


def _never(_: Trainer) -> bool:
    return False


def _work(recipe: Recipe) -> float:
    """Multiply-accumulates of an image, a mean over the sizes of the recipe's phases."""
    with torch.device("meta"):
        network = recipe.detector.build()
    of = {size: macs(network, *size.shape) for phase in recipe.phases for size in phase.sizes}
    means = [
        (phase.epochs, sum(of[s] for s in phase.sizes) / len(phase.sizes))
        for phase in recipe.phases
    ]
    return sum(epochs * mean for epochs, mean in means) / recipe.epochs


def _gmac(detector: Variant, classes: int, size: int) -> float:
    with torch.device("meta"):
        network = detector.build(classes)
    return macs(network, size, size) / 1e9


def changed(effort: Effort, changes: Sequence[str], images: int | None) -> Effort:
    """Return an effort with the changes of a command line."""
    more = replace(effort, changes=(*effort.changes, *changes))
    return more if images is None else replace(more, images=images)
