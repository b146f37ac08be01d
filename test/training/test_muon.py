# SPDX-License-Identifier: Apache-2.0
"""Muon's step against PyTorch's own for matrices, and against the singular value decomposition."""

import pytest
import torch
from torch import nn

from training.detectors.registry import build
from training.loop import muon, precision
from training.loop.muon import Muon, orthogonal
from training.loop.optimizers import make_optimizer, parameter_groups
from training.loop.recipe import OptimizerSettings

SHAPES = [(24, 24), (16, 40), (40, 16)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_singular_values_become_alike_and_their_vectors_stay(rows, columns):
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, rows, columns), full_matrices=False)
    given = torch.logspace(0, -1.5, min(rows, columns))
    steps = orthogonal(left * given @ right).float()
    # In the vectors of the matrix, the step is a diagonal.
    diagonal = left.mT @ steps @ right.mT
    values = diagonal.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.6 and values.max() < 1.3
    assert (diagonal - torch.diag_embed(values)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("features", "expected"), [({"avx2"}, torch.float32), ({"avx512_bf16"}, torch.bfloat16)]
)
def test_bfloat16_is_used_where_the_processor_has_it(features, expected, monkeypatch):
    monkeypatch.setattr(precision, "processor_features", lambda: frozenset(features))
    muon._fast_type.cache_clear()
    try:
        assert orthogonal(torch.randn(1, 8, 12)).dtype == expected
    finally:
        muon._fast_type.cache_clear()


def moved(parameter, optimizer, steps=4):
    """Return ``parameter`` after some steps with gradients that depend on nothing else."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        shape = parameter.shape
        parameter.grad = torch.randn(shape, generator=generator).to(parameter.dtype)
        optimizer.step()
    return parameter.detach()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_moves_as_with_pytorchs_muon(shape):
    torch.manual_seed(0)
    begin = torch.randn(shape)
    ours, other = nn.Parameter(begin.clone()), nn.Parameter(begin.clone())
    group = {"params": [ours], "lr": 0.02, "weight_decay": 0.1, "orthogonal": True}
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    reference = torch.optim.Muon([other], **settings, adjust_lr_fn="match_rms_adamw")
    found, expected = moved(ours, Muon([group])), moved(other, reference)
    # Both compute in bfloat16, in another order.
    assert (found - expected).norm() < 0.04 * (expected - begin).norm()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_moves_as_the_matrix_of_its_rows(memory_format):
    torch.manual_seed(0)
    begin = torch.randn(8, 3, 3, 3)
    kernel = nn.Parameter(begin.clone(memory_format=memory_format))
    matrix = nn.Parameter(begin.flatten(1).clone())
    results = [
        moved(parameter, Muon([{"params": [parameter], "lr": 0.1, "orthogonal": True}]), steps=1)
        for parameter in (kernel, matrix)
    ]
    assert not results[0].equal(begin)
    # The gradients are drawn in the order of the values: the same for both.
    torch.testing.assert_close(results[0].flatten(1), results[1])


def test_a_step_is_as_large_as_one_of_adamw():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(64, 256, 1, 1))
    before = kernel.detach().clone()
    group = {"params": [kernel], "lr": 1.0, "weight_decay": 0.0, "orthogonal": True}
    step = moved(kernel, Muon([group]), steps=1) - before
    assert step.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.15)


def test_all_other_groups_move_as_with_adamw():
    torch.manual_seed(0)
    begin = torch.randn(32)
    ours, other = nn.Parameter(begin.clone()), nn.Parameter(begin.clone())
    kernel = nn.Parameter(torch.randn(4, 4))
    optimizer = Muon([{"params": [kernel], "orthogonal": True}, {"params": [ours]}], lr=0.01)
    expected = moved(other, torch.optim.AdamW([other], lr=0.01))
    assert moved(ours, optimizer).equal(expected)


def test_kernels_that_connect_channels_have_muon():
    detector = build("yolo_fastest", num_classes=2)
    settings = OptimizerSettings(name="muon", weight_decay=0.1, orthogonal_rate=4.0)
    groups = parameter_groups(detector, settings)
    assert sum(len(group["params"]) for group in groups) == len(list(detector.parameters()))
    rates = set()
    for group in groups:
        for parameter in group["params"]:
            connects = parameter.ndim > 1 and parameter.shape[1] > 1
            assert bool(group.get("orthogonal")) == connects
        rates.add((bool(group.get("orthogonal")), group["peak"]))
    assert rates == {(False, 1e-3), (True, 4e-3)}
    assert isinstance(make_optimizer(detector, settings), Muon)


def test_frozen_parameters_stay():
    kernel, frozen = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4, 4))
    before = frozen.detach().clone()
    moved(kernel, Muon([{"params": [kernel, frozen], "lr": 0.1, "orthogonal": True}]))
    assert frozen.equal(before)


def test_the_rate_of_muon_is_refused_where_nothing_reads_it():
    with pytest.raises(ValueError, match="orthogonal_rate must be above 0, with name: muon"):
        OptimizerSettings(name="adamw", orthogonal_rate=4.0)
