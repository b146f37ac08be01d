# SPDX-License-Identifier: Apache-2.0
"""Recorded passes. On a CPU a recording runs the network again and copies what it computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from drawn import CLASSES
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision
from small_detector import SMALLEST_YOLO_RET, SmallDetector
from torch import Tensor, nn

from training.loop import cuda_graphs
from training.loop.cuda_graphs import GraphedNetwork, Network, Recording, unchanged
from training.loop.early_copy import early_copy
from training.loop.freezing import set_phase
from training.loop.recipe import Phase, Recipe
from training.loop.trainer import Trainer

RUN = {
    "detector": SMALLEST_YOLO_RET,
    "phases": [{"epochs": 3, "sizes": [64, 96], "mosaic": 0.5}, {"epochs": 2, "sizes": 64}],
    "batch_size": 4,
    "optimizer": {"clip": 10.0},
}

PHASE = {"epochs": 2, "sizes": 64}


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "OFTEN", 3)


class Repeater:
    """Stands in for a GPU's recorder; ``shapes``: what it has recorded."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(
        self, network: Network, parameters: Sequence[nn.Parameter], shape: tuple[int, ...]
    ) -> Recording:
        self.shapes.append(shape)
        images = torch.zeros(shape, dtype=torch.uint8)
        computed = network(images)
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        gradients = {parameter: torch.zeros_like(parameter) for parameter in trained}
        maps = [torch.zeros_like(map_) for map_ in computed]
        slopes = [torch.zeros_like(map_) for map_ in computed]

        def forward() -> None:
            nonlocal computed
            with torch.enable_grad():
                computed = network(images)
            for kept, new in zip(maps, computed, strict=True):
                kept.copy_(new.detach())

        def backward() -> None:
            found = torch.autograd.grad(computed, trained, slopes)
            for parameter, gradient in zip(trained, found, strict=True):
                gradients[parameter].copy_(gradient)

        found = [gradients.get(parameter) for parameter in parameters]
        return Recording(images, maps, slopes, parameters, found, forward, backward)


def trainer(samples, fabric: Fabric | None = None, **changes) -> Trainer:
    return Trainer(Recipe.from_dict({**RUN, **changes}), CLASSES, samples, fabric, workers=0)


def graphed(model: nn.Module, recorder: Repeater) -> GraphedNetwork:
    return GraphedNetwork(model, Precision(), lambda: recorder)


def finish(run: Trainer) -> list[list[float]]:
    """Train to the end; return the parts of every loss."""
    losses: list[list[float]] = []
    while not run.is_over:
        run.train_epoch(lambda loss: bool(losses.append([float(part) for part in loss])))
    return losses


def images(side: int, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)


# Dropout: a replay draws what the network itself would have drawn.
@pytest.mark.parametrize(
    ("count", "changes"),
    [
        (8, {}),
        (8, {"precision": "bf16-mixed"}),
        (8, {"detector": "yolo_fastest", "optimizer": {"name": "sgd"}}),
        (16, {"phases": [{**PHASE, "frozen_blocks": 1}, PHASE]}),
        (16, {"phases": [{**PHASE, "self_adversarial": 0.5}], "fixed_norm": "all"}),
    ],
)
def test_recorded_passes_train_the_same_weights(shapes, count, changes):
    plain, recorded = (trainer(shapes[:count], **changes) for _ in range(2))
    recorder = Repeater()
    recorded.graphs = GraphedNetwork(
        recorded.model, recorded.fabric.strategy.precision, lambda: recorder
    )
    assert finish(plain) == finish(recorded)
    assert recorder.shapes
    for kind in ("model", "average"):
        expected = plain.state()[kind]
        for name, value in recorded.state()[kind].items():
            # The layout of the maps' gradients, and so the order of sums, may be another.
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_a_shape_is_recorded_once_it_has_come_often_the_largest_first():
    recorder = Repeater()
    network = graphed(SmallDetector().train(), recorder)
    network.begin()
    for side in (32, 64, 32, 64):
        assert network(images(side)) is None
    assert network(images(96)) is None, "a shape that came once is not recorded"
    assert network(images(32)) is not None
    assert recorder.shapes == [(2, 64, 64, 3), (2, 32, 32, 3)]
    assert network(images(64)) is not None
    assert len(recorder.shapes) == 2


def test_only_some_shapes_are_recorded(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MOST_SHAPES", 1)
    recorder = Repeater()
    network = graphed(SmallDetector().train(), recorder)
    for side in (32, 32, 64, 64):
        network(images(side))
    assert network(images(32)) is None, "its memory went to the larger one"
    assert network(images(64)) is not None
    assert recorder.shapes == [(2, 64, 64, 3)]


def test_recordings_are_dropped_when_something_else_is_trained(shapes):
    model, recorder = trainer(shapes).model, Repeater()
    network = graphed(model, recorder)
    phase = Phase(1, (32,))
    for _ in range(2):  # epochs of one phase
        set_phase(model, phase, "none")
        network.begin()
        for _ in range(3):
            network(images(32))
    assert len(network.recordings) == len(recorder.shapes) == 1
    set_phase(model, replace(phase, frozen_blocks=1), "none")
    network.begin()
    assert not network.recordings
    for _ in range(3):
        network(images(32))
    set_phase(model, replace(phase, frozen_blocks=1), "all")
    network.begin()
    assert not network.recordings


def test_where_recording_fails_the_network_runs_as_it_is(shapes, caplog):
    def failing(*_: object) -> Recording:
        try:
            raise RuntimeError("operation not permitted\nwith details")
        finally:
            raise RuntimeError("the recording is not valid")

    plain, run = trainer(shapes[:8]), trainer(shapes[:8])
    run.graphs = GraphedNetwork(run.model, run.fabric.strategy.precision, lambda: failing)
    assert finish(plain) == finish(run)
    (record,) = caplog.records
    sentence = "Training without CUDA graphs, which is slower: operation not permitted"
    assert record.getMessage() == sentence
    assert run.graphs.failed and not run.graphs.recordings


def test_what_a_recording_changes_is_restored():
    model = SmallDetector().train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with pytest.raises(ValueError), unchanged(model):
        model(torch.rand(2, 3, 64, 64))
        raise ValueError
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert torch.rand(2).equal(expected)


def test_a_cpu_records_nothing_and_copies_nothing(shapes):
    assert trainer(shapes).graphs is None
    values = torch.rand(3)
    assert early_copy(values)() is values


def test_gradients_of_two_passes_are_added_up_without_recordings(shapes):
    phases = [{"epochs": 2, "sizes": 64, "adversarial_weight": 0.5}]
    run, recorder = trainer(shapes, phases=phases), Repeater()
    run.graphs = graphed(run.model, recorder)
    finish(run)
    assert not recorder.shapes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["yolo_ret_m075", "yolo_nano", "micro_yolo", "yolo_fastest"])
def test_a_gpu_replays_what_the_network_computes(shapes, name, precision):
    fabric = Fabric(accelerator="gpu", devices=1, precision=precision)
    run = trainer(shapes, fabric, detector=name, precision=precision)
    assert run.graphs is not None, "the environment allows CUDA graphs"
    set_phase(run.model, run.recipe.phases[0], "none")
    run.graphs.begin()
    batches = [images(side, 4).to(fabric.device) for side in (64, 96, 64, 96, 64, 96, 64, 96)]
    parameters = [*run.model.parameters()]
    network = fabric.setup_module(run.model)
    replayed = 0

    def one_pass(batch: Tensor, replay: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        torch.manual_seed(1)
        maps = run.graphs(batch) if replay else None
        nonlocal replayed
        replayed += maps is not None
        maps = network(cuda_graphs.scaled(batch)) if maps is None else maps
        fabric.backward(sum(map_.square().mean() for map_ in maps))
        gradients = [parameter.grad.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        statistics = [buffer.clone().float() for buffer in run.model.buffers()]
        return [map_.detach().clone() for map_ in maps], gradients, statistics

    for batch in batches:
        state = copy.deepcopy(run.model.state_dict())
        expected = one_pass(batch, replay=False)
        run.model.load_state_dict(state)
        found = one_pass(batch, replay=True)
        for kind, some, others in zip(("maps", "gradients", "norms"), found, expected, strict=True):
            one, other = (torch.cat([t.flatten() for t in ts]) for ts in (some, others))
            gap = float((one - other).norm() / other.norm())
            assert gap < 0.02, f"{kind} differ by {gap}"
        with torch.no_grad():  # a replay follows the weights
            for parameter in parameters:
                parameter.mul_(1.01)
    assert not run.graphs.failed
    assert replayed == 4, "the first two batches of a shape are not recorded"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_trains_alike_with_and_without_graphs(shapes, monkeypatch):
    losses = []
    for switch in ("1", "0"):
        monkeypatch.setenv(cuda_graphs.SWITCH, switch)
        fabric = Fabric(accelerator="gpu", devices=1, precision="bf16-mixed")
        run = trainer(shapes, fabric, precision="bf16-mixed")
        assert (run.graphs is not None) == (switch == "1")
        losses.append(torch.tensor(finish(run)).sum(1))
        assert not run.graphs or (run.graphs.recordings and not run.graphs.failed)
    torch.testing.assert_close(losses[0], losses[1], rtol=0.05, atol=0.01)
