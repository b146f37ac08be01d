# SPDX-License-Identifier: Apache-2.0
"""Training for INT8: the detector rounds as its Q/DQ graph does."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn import CLASSES
from kinds import KINDS
from small_detector import small_detector
from torch import nn

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.card import ModelCard
from training.data.batch import collate
from training.deployment.model_card import card_of
from training.deployment.onnx_export import BareNetwork, export, export_bare
from training.detectors.registry import build
from training.quantisation.quantisation_aware import OBSERVED, Rounding, is_prepared, plain, prepare

CARD = ModelCard("small", "small", CLASSES, 160, precision="int8")


@pytest.fixture
def images(shapes) -> torch.Tensor:
    pictures = collate(shapes[:6]).images.permute(0, 3, 1, 2) / 255
    return nn.functional.interpolate(pictures, (160, 160))


@pytest.fixture
def prepared(images) -> nn.Module:
    model = small_detector()
    prepare(model)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def open_session(model: onnx.ModelProto, outputs: list[str]) -> onnxruntime.InferenceSession:
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    options = onnxruntime.SessionOptions()
    # its optimisations round biases to integers too, which neither side here does
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_the_exported_graph_rounds_as_the_model_does(prepared, shapes, tmp_path):
    """Every rounded map and the raw map: equal but for values between two steps."""
    pixels = np.stack([shapes[0].image, shapes[1].image]).repeat(2, 1).repeat(2, 2)[:, :160, :160]
    rounded: dict[str, torch.Tensor] = {}
    for name, rounding in prepared.roundings.items():
        rounding.register_forward_hook(
            lambda _, __, output, name=name: rounded.update({name: output.clone()})
        )
    with torch.no_grad():
        (raw,) = prepared(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * (1 / 255))
    export(prepared, tmp_path / "small.onnx", CARD)
    model = onnx.load(tmp_path / "small.onnx")
    reads = {
        node.name.removeprefix("detector.").removesuffix(".1"): node.input[0]
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[0].endswith("_quantised")
    }
    head = next(n.output[0] for n in model.graph.node if n.name == "detector.head")
    found = open_session(model, [*reads.values(), head]).run(
        [*reads.values(), head], {"images": pixels}
    )
    assert len(reads) == 8
    maps = dict(zip(reads, found, strict=False))
    for name, rounding in prepared.roundings.items():
        for reader in rounding.readers:
            mine = rounded[name].numpy()
            theirs = maps[reader][:, : mine.shape[1]]  # the exporter widens with zeros
            steps = np.abs(theirs - mine) / rounding.scale.item()
            assert steps.max() < 1.01, reader
            assert (steps > 0.01).mean() < 1e-3, reader
    assert np.abs(found[-1] - raw.numpy()).mean() < 1e-3


def test_scales_of_the_file_are_the_learnt_ones(prepared, tmp_path):
    with torch.no_grad():
        for number, rounding in enumerate(prepared.roundings.values()):
            rounding.log_range.fill_(0.1 * number)
    export(prepared, tmp_path / "small.onnx", CARD)
    constants = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(tmp_path / "small.onnx").graph.initializer
    }
    scales = sorted(float(v) for name, v in constants.items() if name.endswith("_scale"))
    expected = [float(r.scale.detach()) for r in prepared.roundings.values()]
    np.testing.assert_allclose(scales, sorted(expected), rtol=1e-6)
    detector = Detector.open(
        RunOptions(str(tmp_path / "small.onnx"), backend="onnxruntime", precision="int8", threads=1)
    )
    detector.detect(np.zeros((90, 120, 3), np.uint8))


def test_training_repairs_bad_ranges(prepared, images):
    """Ranges a third of what they should be, and kernels that must make up for the rest."""
    with torch.no_grad():
        (wanted,) = plain(prepared)(images)
        for rounding in prepared.roundings.values():
            rounding.seen.fill_(OBSERVED)
            rounding.log_range.sub_(1.1)
    others = [p for name, p in prepared.named_parameters() if not name.startswith("roundings")]
    optimizer = torch.optim.Adam(
        [{"params": prepared.roundings.parameters(), "lr": 0.05}, {"params": others, "lr": 0.001}]
    )
    losses = []
    for _ in range(25):
        loss = ((prepared.train()(images)[0] - wanted) ** 2).mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(r.log_range.grad is not None for r in prepared.roundings.values())


def test_a_residual_sum_reads_what_the_convolution_reads(images):
    """A map that a module returns is rounded once, for all its readers."""
    model = small_detector()
    prepare(model)
    readers = sorted(rounding.readers for rounding in model.roundings.values())
    assert ("block.expand",) in readers and ("head",) in readers
    assert len(readers) == 8 and not any("attend" in name for (name,) in readers)
    private = {r.readers[0] for r in model.roundings.values() if r.private}
    assert private == {"stem", "head"}, "the picture and the concatenation"


def test_only_kernels_are_rounded_before_the_first_batch(images, tmp_path):
    model = small_detector()
    names = set(model.state_dict())
    (before,) = model(images)
    prepare(model)
    assert names < set(model.state_dict()) and not model.training
    with torch.no_grad():
        (after,) = model(images)
        (back,) = plain(model)(images)
    torch.testing.assert_close(back, before)
    assert 0 < (after - before).abs().max() < 0.2 * before.abs().max()
    with pytest.raises(ValueError, match="has not been trained"):
        export(model, tmp_path / "small.onnx", CARD)


def test_the_bare_network_rounds_as_the_model_does(prepared, images, tmp_path):
    export_bare(prepared, tmp_path / "bare.onnx")
    session = open_session(onnx.load(tmp_path / "bare.onnx"), [])
    (rows,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        rounded, exact = (BareNetwork(m)(images).numpy() for m in (prepared, plain(prepared)))
    assert np.abs(rows - rounded).mean() < 0.2 * np.abs(exact - rounded).mean()


def test_norms_keep_their_statistics_and_copies_their_own_ranges(prepared, images):
    twin = copy.deepcopy(prepared)
    before = {k: v.clone() for k, v in prepared.state_dict().items() if "running" in k}
    with torch.no_grad():
        twin.train()(images * 3)
    for key, value in before.items():
        torch.testing.assert_close(twin.state_dict()[key], value)
    ranges = [[r.log_range.item() for r in m.roundings.values()] for m in (prepared, twin)]
    assert ranges[0] != ranges[1], "hooks of a copy belong to the copy"
    assert is_prepared(twin) and not is_prepared(plain(twin))
    assert not any(isinstance(module, Rounding) for module in plain(twin).modules())


def test_the_card_says_int8_and_counts_what_the_detector_has(prepared):
    checkpoint = {"detector": "small", "classes": CLASSES, "average": prepared.state_dict()}
    card = card_of("small", prepared, checkpoint, {}, {})
    fresh = card_of("small", plain(prepared), checkpoint, {}, {})
    assert (card.precision, fresh.precision) == ("int8", "fp32")
    assert (card.parameters, card.gmacs) == (fresh.parameters, fresh.gmacs)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_detector_can_be_prepared(name):
    model = build(name, num_classes=3).eval()
    prepare(model)
    with torch.no_grad():
        maps = model.train()(torch.rand(1, 3, 160, 160))
    assert all(torch.isfinite(m).all() for m in maps)
    assert all(rounding.seen for rounding in model.roundings.values())
