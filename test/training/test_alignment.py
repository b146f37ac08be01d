# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from training.deployment.channel_alignment import BLOCK, BLOCK_BEFORE, align_channels
from training.detectors.blocks import SqueezeExcite

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Odd(nn.Module):
    """Odd widths in everything that detectors do with channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 3, 2, padding=1)
        self.expand = nn.Conv2d(7, 25, 1)
        self.depthwise = nn.Conv2d(25, 25, 3, padding=1, groups=25)
        self.attend = SqueezeExcite(25, 3)
        self.project = nn.Conv2d(25, 7, 1, bias=False)
        self.left, self.right = nn.Conv2d(7, 5, 1), nn.Conv2d(7, 11, 1)
        self.join = nn.Conv2d(5 + 11, 7, 1)
        self.side = nn.Conv2d(7, 18, 1)
        self.grouped = nn.Conv2d(18, 12, 3, padding=1, groups=6)
        self.head = nn.Conv2d(7 + 18 + 9, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.stem(x), 0.1)
        y = functional.relu6(self.depthwise(functional.relu6(self.expand(x))))
        x = x + self.project(self.attend(y))
        x = x + self.join(torch.cat((self.left(x), self.right(x)), 1))
        side = self.side(functional.max_pool2d(x, 2))
        half = side[:, 9:]
        grouped = self.grouped(side).mean(1, keepdim=True)
        large = functional.interpolate(torch.cat((side, half), 1), scale_factor=2.0)
        return self.head(torch.cat((x, large * 0.5), 1)) + functional.interpolate(
            grouped, scale_factor=2.0
        )


def exported(module: nn.Module, path: Path) -> onnx.ModelProto:
    images = torch.zeros(1, 3, 32, 32)
    # Without gradients, as the exporter does it: channel attention has another form with them.
    module = module.eval().requires_grad_(False)
    torch.onnx.export(module, (images,), path, dynamo=False, opset_version=17)
    return onnx.load(path)


def outputs(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def widths(model: onnx.ModelProto) -> list[int]:
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return [len(tensors[n.input[1]]) for n in model.graph.node if n.op_type == "Conv"]


@pytest.fixture
def model(tmp_path) -> onnx.ModelProto:
    torch.manual_seed(0)
    return onnxslim.slim(exported(Odd(), tmp_path / "odd.onnx"))


@pytest.mark.parametrize("block", [BLOCK, BLOCK_BEFORE])
def test_function_stays_the_same(model, block):
    images = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    aligned = align_channels(model, block)
    onnx.checker.check_model(aligned, full_check=True)
    np.testing.assert_allclose(outputs(aligned, images), outputs(model, images), atol=1e-5)


def test_inner_widths_are_multiples_but_for_maps_that_others_read(model):
    # sliced: 18; grouped: 12; concatenated with a slice: 7; the output: 5
    before, after = widths(model), widths(align_channels(model, 16))
    assert before == [7, 25, 25, 3, 25, 7, 5, 11, 7, 18, 12, 5]
    assert after == [7, 32, 32, 16, 32, 7, 16, 16, 7, 18, 12, 5]


def test_the_given_model_is_not_changed(model):
    before = model.SerializeToString()
    align_channels(model)
    assert model.SerializeToString() == before


def test_aligned_widths_stay(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU6(), nn.Conv2d(32, 5, 1))
    model = exported(module, tmp_path / "even.onnx")
    assert widths(align_channels(model)) == widths(model) == [32, 5]


def test_a_shared_weight_is_widened_for_each_reader(tmp_path):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 5, 1)
    module = nn.Sequential(nn.Conv2d(3, 5, 1), conv, nn.ReLU(), conv, nn.ReLU(), conv)
    model = exported(module, tmp_path / "shared.onnx")
    images = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    aligned = align_channels(model)
    assert widths(aligned) == [8, 8, 8, 5]
    np.testing.assert_allclose(outputs(aligned, images), outputs(model, images), atol=1e-6)
