# SPDX-License-Identifier: Apache-2.0
"""The authors' Keras checkpoints of YOLO-ReT: a file as their code makes it, run by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from training.loop.checkpoint import load_detector
from training.weights.import_yolo_ret import main, read

h5py = pytest.importorskip("h5py")
CLASSES, HIDDEN = 2, {32: 512, 16: 256, 8: 128}
OUTPUTS = 3 * (5 + CLASSES)
STAGES = [(16, 1, 1), (24, 2, 2), (24, 3, 2), (48, 4, 2), (72, 3, 1), (120, 3, 2)]


class Authors:
    """Layers as Keras makes and numbers them; ``take`` calls of one run make, of another use."""

    def __init__(self) -> None:
        self.rng, self.values, self.counts = np.random.default_rng(0), {}, {}

    def name(self, kind: str, given: str = "") -> str:
        if given:
            return given
        # a number that is left out is that of a layer that the network does not use
        number = self.counts[kind] = self.counts.get(kind, 4) + 1 + (kind == "conv2d")
        return f"{kind}_{number}"

    def conv(self, x, outputs, k=1, stride=1, depthwise=False, bias=False, given=""):
        layer = self.name("depthwise_conv2d" if depthwise else "conv2d", given)
        inputs = x.shape[1]
        shape = (k, k, inputs, 1) if depthwise else (k, k, inputs, outputs)
        fan = k * k * (1 if depthwise else inputs)
        weight = self.rng.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)
        self.values[f"{layer}/{layer}/{'depthwise_' if depthwise else ''}kernel:0"] = weight
        kernel = torch.from_numpy(weight).permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        shift = None
        if bias:
            shift = torch.from_numpy(self.rng.normal(0, 0.1, outputs).astype(np.float32))
            self.values[f"{layer}/{layer}/bias:0"] = shift.numpy()
        if k > 1:
            side = k // 2
            x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (side,) * 4)
        return F.conv2d(x, kernel, shift, stride, groups=inputs if depthwise else 1)

    def norm(self, x, given=""):
        layer, n = self.name("batch_normalization", given), x.shape[1]
        mean, variance = self.rng.normal(0, 0.1, n), self.rng.uniform(0.5, 2, n)
        gamma, beta = self.rng.uniform(0.8, 1.2, n), self.rng.normal(0, 0.1, n)
        named = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
        for key, value in named.items():
            self.values[f"{layer}/{layer}/{key}:0"] = value.astype(np.float32)
        gamma, beta, mean, variance = (
            torch.from_numpy(v.astype(np.float32)) for v in (gamma, beta, mean, variance)
        )
        return F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)

    def unit(self, x, outputs, given=("", ""), act=True, **how):
        y = self.norm(self.conv(x, outputs, given=given[0], **how), given[1])
        return y.clamp(0, 6) if act else y

    def lite(self, x, hidden, outputs):
        x = self.unit(x, hidden)
        x = F.silu(self.norm(self.conv(x, hidden, 3, depthwise=True)))
        y = F.silu(self.conv(x.mean((2, 3), keepdim=True), hidden // 4, bias=True))
        x = x * self.conv(y, hidden, bias=True).sigmoid()
        return self.unit(x, outputs, act=False)

    def backbone(self, x):
        x = self.unit(x, 24, ("Conv1", "bn_Conv1"), k=3, stride=2)
        block, maps, reached = 0, {}, 2
        for channels, repeats, first in STAGES:
            for repeat in range(repeats):
                p, y = f"block_{block}" if block else "expanded_conv", x
                names = {part: (f"{p}_{part}", f"{p}_{part}_BN") for part in
                         ("expand", "depthwise", "project")}  # fmt: skip
                if block:
                    y = self.unit(y, 6 * x.shape[1], names["expand"])
                stride = 1 if repeat else first
                y = self.unit(y, 0, names["depthwise"], k=3, stride=stride, depthwise=True)
                y = self.unit(y, channels, names["project"], act=False)
                x, block = (x + y if repeat else y), block + 1
            reached *= first
            maps[reached] = x
        return maps

    def run(self, images):
        """yolov3_body of the authors, with FPN and PANet."""
        s = self.backbone(images)
        four = [self.conv(s[32], 48), self.conv(s[16], 48), self.conv(s[8], 48)]
        four.append(self.conv(F.max_pool2d(s[4], 4), 48))
        alpha = self.rng.uniform(0.5, 1.5, 4).astype(np.float32)
        self.values["weighted_sum_7/weighted_sum_7/alpha:0"] = alpha
        four[0], four[2] = F.interpolate(four[0], scale_factor=2), F.max_pool2d(four[2], 2)
        z = sum(float(a) * m for a, m in zip(alpha, four, strict=True))
        z = self.unit(self.unit(z, 48, k=5, depthwise=True), 96)
        s5 = torch.cat((s[32], F.max_pool2d(z, 2)), 1)
        s4, s3 = torch.cat((s[16], z), 1), torch.cat((s[8], F.interpolate(z, scale_factor=2)), 1)
        c1 = self.lite(s5, 512, OUTPUTS)
        x = self.unit(c1, 256, ("block_20_conv", "block_20_BN"))
        c2 = self.lite(torch.cat((F.interpolate(x, scale_factor=2), s4), 1), 256, OUTPUTS)
        x = self.unit(c2, 128, ("block_24_conv", "block_24_BN"))
        c3 = self.lite(torch.cat((F.interpolate(x, scale_factor=2), s3), 1), 128, OUTPUTS)
        x = self.lite(c3, 128, OUTPUTS)
        y3 = self.conv(x, OUTPUTS)
        x = self.lite(torch.cat((F.max_pool2d(self.unit(x, 128), 2), c2), 1), 256, OUTPUTS)
        y2 = self.conv(x, OUTPUTS)
        x = self.lite(torch.cat((F.max_pool2d(self.unit(x, 256), 2), c1), 1), 512, OUTPUTS)
        return [y3, y2, self.conv(x, OUTPUTS)]


@torch.no_grad()
def test_a_checkpoint_of_the_authors_computes_the_same(tmp_path: Path, capsys) -> None:
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    authors, source, out = Authors(), tmp_path / "theirs.h5", tmp_path / "ours.pt"
    expected = authors.run(images)
    with h5py.File(source, "w") as file:
        for name, value in authors.values.items():
            file[name] = value
    (tmp_path / "names.txt").write_text("a\nb\n\n")
    command = ["--source", str(source), "--classes", str(tmp_path / "names.txt")]
    assert main([*command, "--out", str(out)]) == 0
    assert "uneven: true}, 2 classes" in capsys.readouterr().out
    detector, content = load_detector(out)
    assert content["classes"] == ["a", "b"]
    for ours, theirs in zip(detector(images), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)

    (tmp_path / "names.txt").write_text("a\n\nb\n")
    assert main([*command, "--out", str(out)]) == 1
    assert "names.txt must have the name of a class on each line" in capsys.readouterr().err

    with pytest.raises(ValueError, match=r"theirs.h5 is no yolo_ret_m14 of 2 classes: Conv1"):
        read("yolo_ret_m14", source, 2)
    with pytest.raises(
        ValueError, match=r"is no yolo_ret_m075 of 3 classes: conv2d_\d+/kernel has"
    ):
        read("yolo_ret_m075", source, 3)
    with h5py.File(source, "a") as file:
        file["conv2d_99/conv2d_99/kernel:0"] = np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match="there is no place for conv2d_99"):
        read("yolo_ret_m075", source, 2)
    with h5py.File(source, "a") as file:
        del file["batch_normalization_9"], file["conv2d_99"]
    with pytest.raises(ValueError, match="no yolo_ret_m075 of 2 classes"):
        read("yolo_ret_m075", source, 2)
