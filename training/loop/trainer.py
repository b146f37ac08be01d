# SPDX-License-Identifier: Apache-2.0
"""The training engine on Lightning Fabric: one process or many, any precision, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor, nn
from torch.optim import Optimizer

from training.data.batch import Batch, Targets
from training.data.loading import epoch_batches, steps_per_epoch
from training.data.sample import Sample
from training.detectors.interface import Detector, as_module
from training.distillation.feature_distillation import FeatureDistillation
from training.loop.averaging import AveragedModel
from training.loop.checkpoint import shapes
from training.loop.continuing import check_continues
from training.loop.cuda_graphs import GraphedNetwork, graphs_wanted, scaled
from training.loop.early_copy import early_copy
from training.loop.freezing import set_phase
from training.loop.onnxruntime_backbone import OnnxRuntimeBackbone, features_from, runs_outside
from training.loop.optimizers import make_optimizer, set_rate
from training.loop.provenance import source_commit
from training.loop.recipe import Phase, Recipe
from training.loop.schedule import rate_factor
from training.loop.self_adversarial import Undisturbed, hide_objects
from training.losses.criterion import Loss, criterion
from training.quantisation.quantisation_aware import prepare

# The parts of a checkpoint that evaluation and export need: those of best.pt.
DEPLOYED = ("detector", "classes", "recipe", "commit", "step", "average", "history")
CURE = "lower optimizer.rate, or set optimizer.clip"
"""What to do about a training that diverges."""


class DivergedError(RuntimeError):
    """The loss or a weight is no longer finite."""


@dataclass
class Stopwatch:
    """Seconds that have passed: ``before``, and since it goes on."""

    before: float = 0.0
    _began: float | None = None

    @property
    def seconds(self) -> float:
        """All together."""
        return self.before + (time.monotonic() - self._began if self._began is not None else 0.0)

    def go_on(self) -> None:
        """Begin to count, unless it does already."""
        if self._began is None:
            self._began = time.monotonic()


@dataclass
class EpochSums:
    """Sums over the current epoch, of all processes.

    Attributes:
        loss: sums over steps of the parts of the loss (``Loss``).
        steps: number of steps done.
        seconds: of training.
    """

    loss: list[float] = field(default_factory=lambda: [0.0] * len(Loss._fields))
    steps: int = 0
    seconds: float = 0.0


def make_detector(recipe: Recipe, num_classes: int) -> Detector:
    """Build the detector of a recipe with fresh weights, its dropout and its rounding as set."""
    model = recipe.detector.build(num_classes)
    if recipe.dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = recipe.dropout
    if recipe.quantisation_aware:
        prepare(model)
    return model


class Trainer:
    """A detector with its optimizer, its averaged weights and its place in the recipe.

    With several processes, each has its share of every batch, and gradients are averaged. As a loss
    is a mean over images, the step is the same as in one process, except for batch norms that
    follow their batches: on GPUs these are synchronised.

    Args:
        recipe: what the run does.
        classes: class names.
        samples: the training images.
        fabric: processes, devices and precision; None: one process on the CPU.
        workers: loader processes of each process.
        digest: of the images and their labels; empty: not known.
        teacher: that of the recipe's ``distillation``, which has its name.

    Attributes:
        model: the detector, not wrapped by Fabric.
        average: the averaged weights, which are evaluated and exported.
        step: optimizer steps done, of ``total_steps``.
        elapsed: time since the first step, of all starts together.
        sums: of the current epoch.
        distillation: the loss of the features; None: there is no teacher.
        graphs: replays the network on a GPU; None: it always runs as it is.
        history: a row of metrics for every epoch that was closed.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: Sequence[str],
        samples: Sequence[Sample],
        fabric: Fabric | None = None,
        workers: int = 1,
        digest: str = "",
        teacher: Detector | None = None,
    ) -> None:
        self.recipe, self.classes, self.samples = recipe, tuple(classes), samples
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1, precision=recipe.precision)
        self.workers, self.digest = workers, digest
        torch.manual_seed(recipe.seed)
        self.model = make_detector(recipe, len(classes))
        as_module(self.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(self.model, recipe.ema_decay)
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            convert: Callable[[nn.Module], Any] = nn.SyncBatchNorm.convert_sync_batchnorm
            self.model = convert(as_module(self.model))
        self.fabric.to_device(as_module(self.model))
        self.fabric.to_device(as_module(self.average.model))
        self.distillation = self._make_distillation(teacher) if teacher else None
        self.optimizer = cast(Optimizer, self.fabric.setup_optimizers(self._make_optimizer()))
        self.criterion = criterion(recipe.loss, self.model.grid)
        self.steps_per_epoch = steps_per_epoch(len(samples), recipe.batch_size)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.step = 0
        self.elapsed = Stopwatch()
        self._by_time = 0
        self.sums = EpochSums()
        self.history: list[dict[str, Any]] = []
        self.commit = source_commit()
        self._frozen: OnnxRuntimeBackbone | None = None
        self.graphs = self._make_graphs()

    def _make_distillation(self, teacher: Detector) -> FeatureDistillation:
        """Return the loss of the features; its convolutions are trained in all processes alike."""
        self.fabric.to_device(as_module(teacher))
        distillation = FeatureDistillation(self.model, teacher)
        for module in (distillation.teacher, distillation.adapters):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        distillation.adapters = self.fabric.setup_module(distillation.adapters)
        return distillation

    def _make_optimizer(self) -> Optimizer:
        scales = self.fabric.strategy.precision.precision == "16-mixed"
        thrown_away = self.distillation.adapters.parameters() if self.distillation else ()
        return make_optimizer(self.model, self.recipe.optimizer, scales, thrown_away)

    def _make_graphs(self) -> GraphedNetwork | None:
        """Return what replays the network, on one GPU; None: it runs as it is."""
        alone = self.fabric.world_size == 1 and self.fabric.device.type == "cuda"
        # Rounding looks at its ranges on the CPU. Gradients of several passes are added up, which a
        # replay would overwrite. A recording has no feature maps but the raw ones.
        several = self.recipe.accumulate > 1 or self.recipe.quantisation_aware
        usable = alone and not several and not self.distillation and graphs_wanted()
        return GraphedNetwork(self.model, self.fabric.strategy.precision) if usable else None

    @property
    def place(self) -> int:
        """The step that phase and rate are of: a later one where the minutes pass faster."""
        return min(self._reached, self.total_steps - 1)

    @property
    def is_over(self) -> bool:
        """Whether all steps are done, or the minutes have passed."""
        return self._reached >= self.total_steps

    @property
    def _reached(self) -> int:
        return max(self.step, self._by_time)

    @property
    def _phase(self) -> Phase:
        return self.recipe.phase(self.place // self.steps_per_epoch)

    def look_at_clock(self) -> None:
        """Note how many steps the passed share of the minutes is worth, the same everywhere.

        Only here, once a step: whatever follows, in all processes, has to agree on it.
        """
        if seconds := 60 * self.recipe.schedule.minutes:
            share = self.elapsed.seconds / seconds
            if self.fabric.world_size > 1:
                shares = torch.tensor(share, device=self.fabric.device)
                share = float(self._reduce(shares, "mean"))
            self._by_time = int(share * self.total_steps)

    @property
    def epoch(self) -> int:
        """Epochs completed; one that is cut short because the minutes have passed is, too."""
        full, begun = divmod(self.step, self.steps_per_epoch)
        return full + bool(begun and self.is_over)

    @property
    def images_per_step(self) -> int:
        """Images of all processes in a step: the batch size, or all images if there are fewer."""
        part, images = self.recipe.batch_size // self.recipe.accumulate, len(self.samples)
        return min(part, images) * min(self.recipe.accumulate, steps_per_epoch(images, part))

    @property
    def learning_rate(self) -> float:
        """Learning rate of the parts after the backbone in the last step."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    @property
    def mean_loss(self) -> dict[str, float]:
        """Means of the parts of the loss over the current epoch, by name."""
        means = (value / max(1, self.sums.steps) for value in self.sums.loss)
        return dict(zip(self.parts, means, strict=False))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the loss: the distillation, which is last, needs a teacher."""
        return Loss._fields if self.distillation else Loss._fields[:-1]

    def begin_average(self) -> None:
        """Set the averaged weights to the model's, after these were loaded from a file."""
        self.average.model.load_state_dict(self.model.state_dict())

    def train_epoch(self, after_step: Callable[[Loss], bool]) -> bool:
        """Train to the end of the current epoch.

        Args:
            after_step: called with the mean loss of all processes; returns True to stop early. All
                processes stop together if it does so in one of them.

        Returns:
            Whether the end of the epoch was reached, or that of the run.

        Raises:
            DivergedError: the loss or a weight is not finite; the weights are lost.
        """
        if self.step % self.steps_per_epoch == 0:
            self.sums = EpochSums()
        self.elapsed.go_on()
        self.look_at_clock()
        stopped = ended = False
        while not (stopped or ended):
            stopped = self._train_phase(after_step)
            ended = self.is_over or self.step % self.steps_per_epoch == 0
        # The loss is that of the weights before a step.
        if not self.is_finite:
            raise DivergedError(f"a weight became infinite in step {self.step}: {CURE}")
        return ended

    @property
    def is_finite(self) -> bool:
        """Whether all weights are numbers; looks at all of them."""
        finite = [parameter.isfinite().all() for parameter in self.model.parameters()]
        return bool(torch.stack(finite).all())

    def _train_phase(self, after_step: Callable[[Loss], bool]) -> bool:
        """Train to the end of the epoch, or until the minutes have reached another phase.

        Returns:
            Whether to stop early.
        """
        epoch, done = divmod(self.step, self.steps_per_epoch)
        phase = self._phase
        set_phase(self.model, phase, self.recipe.fixed_norm)
        if self.graphs:
            self.graphs.begin()
        # Wrapped in every epoch: processes average the gradients of what is trainable then.
        network = self.fabric.setup_module(as_module(self.model))
        self._open_frozen()
        started = time.monotonic()
        for parts in self._steps(epoch, done, phase):
            with features_from(self._frozen, self.model):
                loss = self._reduced(self._train_step(network, parts, phase))
            started, passed = time.monotonic(), time.monotonic() - started
            self._count(loss, passed)
            if not torch.isfinite(loss.total):
                raise DivergedError(
                    f"the loss became {float(loss.total)} in step {self.step} of epoch {epoch + 1}:"
                    f" {CURE}"
                )
            self.look_at_clock()
            if self.agreed(after_step(loss)):
                return True
            if self.is_over or self._phase is not phase:
                break
        return False

    def _open_frozen(self) -> None:
        """Run a frozen backbone in ONNX Runtime, from its first frozen epoch to its last."""
        if not runs_outside(self.model):
            self._frozen = None
        elif self._frozen is None:
            self._frozen = OnnxRuntimeBackbone(self.model.backbone, torch.get_num_threads())

    def _steps(self, epoch: int, done: int, phase: Phase) -> Iterator[list[Batch]]:
        """Yield the batches of every remaining step of the epoch, as its parts."""
        parts = self.recipe.accumulate
        batches = epoch_batches(
            self.samples,
            phase.sizes,
            self.recipe.batch_size // parts,
            self.recipe.augmentation,
            phase.mosaic,
            (self.recipe.seed, epoch),
            done * parts,
            self.workers,
            (self.fabric.global_rank, self.fabric.world_size),
            phase.fit,
            self.fabric.device.type == "cuda",
        )
        for _ in range(done, self.steps_per_epoch):
            yield list(islice(batches, parts))

    def _train_step(self, network: _FabricModule, parts: list[Batch], phase: Phase) -> Loss:
        rng = np.random.default_rng((self.recipe.seed, self.step))
        attacked = rng.random() < phase.self_adversarial
        # For dropout: the same in every step, however the run is cut up.
        torch.manual_seed(int(rng.integers(2**62)) + self.fabric.global_rank)
        set_rate(self.optimizer, rate_factor(self.place, self.steps_per_epoch, self.recipe))
        weight = phase.adversarial_weight
        losses = []
        for number, batch in enumerate(parts, 1):
            images = batch.images.to(self.fabric.device, non_blocking=True)
            targets = batch.targets.to(self.fabric.device)
            if attacked:
                images = self._attacked(images)
            last = number == len(parts)
            with self.fabric.no_backward_sync(network, enabled=not last or weight > 0):
                graphs = None if weight else self.graphs
                losses.append(self._backward(network, images, targets, 1 / len(parts), graphs))
            if weight:
                images = self._attacked(images)
                with self.fabric.no_backward_sync(network, enabled=not last):
                    self._backward(network, images, targets, weight / len(parts))
        if self.recipe.optimizer.clip:
            self.fabric.clip_gradients(
                network,
                self.optimizer,
                max_norm=self.recipe.optimizer.clip,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.average.update(self.model, self.step, phase.epochs * self.steps_per_epoch)
        return Loss(*torch.stack([values() for values in losses]).mean(0))

    def _backward(
        self,
        network: _FabricModule,
        images: Tensor,
        targets: Targets,
        weight: float,
        graphs: GraphedNetwork | None = None,
    ) -> Callable[[], Tensor]:
        """Add the gradients of the weighted loss of images (N, H, W, 3) uint8.

        Returns:
            What returns the parts of the loss, (3,); of a single process on the CPU.
        """
        maps = graphs(images) if graphs and not self._frozen else None
        if maps is None:
            maps = network(images if self._frozen else scaled(images))
        loss: Loss = self.criterion(maps, targets, self.step * self.recipe.batch_size)
        if self.distillation:
            with self.fabric.autocast():
                dissimilarity = self.distillation.loss(scaled(images))
            weighted = self.recipe.distillation.weight * dissimilarity
            loss = loss._replace(distillation=weighted)
        values = torch.stack([part.detach() for part in loss])
        # Before the backward pass: the next step is prepared while the GPU still computes this one.
        read = early_copy(values) if self.fabric.world_size == 1 else lambda: values
        self.fabric.backward(loss.total * weight)
        return read

    def _attacked(self, images: Tensor) -> Tensor:
        with Undisturbed(self.model), self.fabric.autocast():
            return hide_objects(self.model, self.criterion, images, self.recipe.adversarial_step)

    def _reduced(self, loss: Loss) -> Loss:
        return Loss(*self._reduce(torch.stack(list(loss)), "mean").cpu())

    def _reduce(self, values: Tensor, how: Literal["mean", "sum"]) -> Tensor:
        reduced = self.fabric.all_reduce(values, reduce_op=how)
        assert isinstance(reduced, Tensor)
        return reduced

    def agreed(self, stop: bool) -> bool:
        """Return whether ``stop`` is true in any of the processes."""
        if self.fabric.world_size == 1:
            return stop
        votes = torch.tensor(float(stop), device=self.fabric.device)
        return bool(self._reduce(votes, "sum") > 0)

    def _count(self, loss: Loss, seconds: float) -> None:
        self.sums.loss = [a + float(b) for a, b in zip(self.sums.loss, loss, strict=True)]
        self.sums.steps += 1
        self.sums.seconds += seconds

    def state(self) -> dict[str, Any]:
        """Return a checkpoint: what ``restore`` needs, and what evaluation and export read."""
        return {
            "detector": self.recipe.detector.to_settings(),
            "classes": list(self.classes),
            "recipe": self.recipe.to_dict(),
            "commit": self.commit,
            "images": len(self.samples),
            "data": self.digest,
            "step": self.step,
            "elapsed": self.elapsed.seconds,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adapters": self.distillation.adapters.state_dict() if self.distillation else {},
            "precision": self.fabric.strategy.precision.state_dict(),
            "sums": asdict(self.sums),
            "history": self.history,
        }

    def restore(self, state: dict[str, Any], replan: bool = False) -> None:
        """Continue from a checkpoint.

        Args:
            state: what ``state`` returned.
            replan: allow another recipe (for example with fewer epochs) or other images. The step
                count stays; an optimizer of another name starts fresh, as with another teacher.

        Raises:
            ValueError: see ``check_continues``, or the teacher is another one without ``replan``.
        """
        check_continues(state, self.recipe, self.classes, len(self.samples), self.digest, replan)
        old = state["recipe"]
        teacher = old.get("distillation", {}).get("teacher", "")
        same_teacher = teacher == self.recipe.distillation.teacher
        if self.distillation and same_teacher:
            own = self.distillation.adapters.state_dict()
            same_teacher = shapes(state["adapters"]) == shapes(own)
            if not same_teacher and not replan:
                raise ValueError(
                    f"the teacher {teacher} is another network than the run began with: give "
                    "--replan or a new --out"
                )
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        if self.distillation and same_teacher:
            self.distillation.adapters.load_state_dict(state["adapters"])
        if old["optimizer"]["name"] == self.recipe.optimizer.name and same_teacher:
            self.optimizer.load_state_dict(state["optimizer"])
        if replan:
            self._take_rates()
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.history = state["step"], list(state["history"])
        self.elapsed = Stopwatch(state.get("elapsed", 0.0))
        self.look_at_clock()
        self.sums = EpochSums(**state["sums"])
        # One part less in checkpoints of earlier versions.
        self.sums.loss += [0.0] * (len(Loss._fields) - len(self.sums.loss))
        self._frozen = None

    def _take_rates(self) -> None:
        """Give the optimizer the recipe's settings: the restored state has those of the old one."""
        fresh = self._make_optimizer()
        for group, new in zip(self.optimizer.param_groups, fresh.param_groups, strict=True):
            # How it computes stays: what it remembers is where that needs it.
            kept = ("params", "fused", "foreach")
            group.update({key: value for key, value in new.items() if key not in kept})
