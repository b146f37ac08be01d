# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawn import CLASSES
from small_detector import SMALLEST_YOLO_RET

from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from training.deployment.channel_alignment import BLOCK, BLOCK_BEFORE, align_channels
from training.deployment.model_card import card_of
from training.deployment.onnx_export import deployed_graph, save
from training.deployment.predictor import Predictor
from training.detectors.blocks import ConvNormAct
from training.detectors.interface import Detector
from training.detectors.registry import DETECTORS, build
from training.detectors.variant import Variant
from training.loop.checkpoint import save_checkpoint
from training.loop.recipe import Recipe
from training.loop.trainer import Trainer
from training.weights import from_onnx
from training.weights.from_onnx import measure_norms, read_exported
from training.weights.origin import Origin, read_origin
from training.weights.other_classes import start_from, summary
from training.weights.starting import OTHER_GRID, start

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "yolo_ret_m075.onnx"
OLD = ("ball", "disc", "square")


def shaken(detector: str | Variant, classes: int) -> torch.nn.Module:
    """A detector whose values are all different, as after training."""
    model = Variant.parse(str(detector)).build(classes).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.02)
    return model


def rows(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Maps as (level, cell and anchor, values), for one image."""
    with torch.no_grad():
        maps = model(images)
    depth = 5 + model.num_classes
    return torch.cat([m.permute(0, 2, 3, 1).reshape(-1, depth) for m in maps])


# yolo_ret passes maps of the head's width on, so that classes are channels of its neck too; with
# three classes these maps are 24 channels wide, as some of its backbone's are.
@pytest.mark.parametrize("detector", ["yolo_ret_m075", "yolo_fastest", "tiny_yolov2"])
def test_reordered_classes_only_reorder_the_output(detector):
    old, images = shaken(detector, 3), torch.rand(1, 3, 64, 64)
    new = build(detector, num_classes=3).eval()
    left = start_from(
        new, Variant.parse(detector), old.state_dict(), OLD, ("square", "ball", "disc")
    )
    assert left == []
    order = [0, 1, 2, 3, 4, 5 + 2, 5 + 0, 5 + 1]
    torch.testing.assert_close(rows(new, images), rows(old, images)[:, order])


@pytest.mark.parametrize("detector", ["yolo_fastest", "yolov4_tiny_3l"])
def test_detections_of_shared_classes_stay_the_same(detector):
    old, images = shaken(detector, 3), torch.rand(1, 3, 64, 64)
    new = build(detector, num_classes=4).eval()
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    assert (
        start_from(
            new, Variant.parse(detector), old.state_dict(), OLD, ("cone", "square", "x", "ball")
        )
        == []
    )
    before, after = rows(old, images), rows(new, images)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    torch.testing.assert_close(after[:, [6, 8]], before[:, [5 + 2, 5 + 0]])
    head = next(name for name in fresh if name.endswith("head32.weight") or "head32" in name)
    kept = new.state_dict()[head].reshape(3, 9, -1)[:, [5, 7]]
    assert kept.equal(fresh[head].reshape(3, 9, -1)[:, [5, 7]]), "unknown classes start fresh"


def test_values_that_do_not_fit_are_listed_and_the_rest_is_copied():
    old = shaken("yolo_ret_m075", 2).state_dict()
    del old["heads.0.weight"]
    old["backbone.stem.conv.weight"] = torch.zeros(3, 3, 3, 3)
    new = build("yolo_ret_m075", num_classes=2)
    left = start_from(new, Variant.parse("yolo_ret_m075"), old, CLASSES, CLASSES)
    assert left == ["backbone.stem.conv.weight", "heads.0.weight"]
    assert "heads.0.weight" in summary(left, [])
    many = [f"neck.{i}" for i in range(20)]
    assert summary(many, ["x", "y"]) == "Not copied, fresh: 20 of neck, outputs of x, y."
    assert summary([], []) == "All weights were copied."
    assert new.state_dict()["heads.1.weight"].equal(old["heads.1.weight"])


def test_weights_of_another_detector_are_refused():
    state = build("yolo_fastest", num_classes=2).state_dict()
    with pytest.raises(ValueError, match="another detector"):
        start_from(
            build("tiny_yolov2", num_classes=2),
            Variant.parse("tiny_yolov2"),
            state,
            CLASSES,
            CLASSES,
        )


def outputs_of_file(path: Path, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


@pytest.fixture(scope="module", autouse=True)
def numbered_once() -> Iterator[None]:
    """What files of one detector are read by takes an export, and is made once for all of them."""
    known: dict[tuple[str, int], onnx.ModelProto] = {}
    number = from_onnx._numbered

    def once(detector: Detector, card: ModelCard) -> onnx.ModelProto:
        key = card.detector_text, len(card.classes)
        if key not in known:
            known[key] = number(detector, card)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(from_onnx, "_numbered", once)
        yield


@pytest.fixture(scope="module")
def shipped() -> tuple[torch.nn.Module, ModelCard]:
    return read_exported(SHIPPED)


def test_the_shipped_model_is_read_back_exactly(shipped):
    images = np.random.default_rng(0).integers(0, 256, (1, 160, 192, 3), np.uint8)
    boxes, scores, _ = outputs_of_file(SHIPPED, images)
    with torch.no_grad():
        found = Predictor(shipped[0])(torch.from_numpy(images))
    np.testing.assert_allclose(found[1].numpy(), scores, atol=1e-5)
    np.testing.assert_allclose(found[0].numpy()[0, :5], boxes[0, :5], atol=0.01)


def test_an_exported_detector_is_read_back_and_no_other_graph(tmp_path, monkeypatch):
    variant, path = Variant.from_settings(SMALLEST_YOLO_RET), tmp_path / "x.onnx"
    written = shaken(variant, 3)
    content = {"detector": SMALLEST_YOLO_RET, "classes": list(OLD), "average": {}}
    images, sizes = torch.rand(2, 3, 64, 96), set()
    for block in (BLOCK_BEFORE, BLOCK):
        with monkeypatch.context() as patch:
            aligned = partial(align_channels, block=block)
            patch.setattr("training.deployment.onnx_export.align_channels", aligned)
            save(deployed_graph(written), card_of("x", written, content, {}, {}), path)
        sizes.add(path.stat().st_size)
        detector_read, card = read_exported(path)
        assert Variant.parse(card.detector_text) == variant
        torch.testing.assert_close(rows(detector_read, images), rows(written, images))
    assert len(sizes) == 2
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [f"{name}_" for name in node.output]
    onnx.save(model, path)
    with pytest.raises(ValueError, match="not written by this exporter"):
        read_exported(path)


def test_measured_norms_leave_the_function_as_it_is(shipped):
    detector = copy.deepcopy(shipped[0])
    images = torch.rand(4, 3, 64, 64)
    before = rows(detector, images)
    measure_norms(detector, images)
    torch.testing.assert_close(rows(detector, images), before, atol=1e-3, rtol=1e-3)
    # And with the norms following these very images: what training starts from.
    torch.testing.assert_close(rows(detector.train(), images), before, atol=0.1, rtol=0.1)


def test_a_kernel_does_not_grow_from_training_to_training_where_its_input_is_0():
    """Its norm divides by the root of eps alone, so that each training could multiply it by 300."""
    unit = ConvNormAct(3, 3, 3, groups=3).eval()
    with torch.no_grad():
        unit.conv.weight[1] = 3e6
    images = torch.rand(4, 3, 16, 16)
    images[:, 1] = 0
    before, kernel = unit(images), unit.folded()[0]
    measure_norms(unit, images)
    torch.testing.assert_close(unit(images), before)
    torch.testing.assert_close(unit.folded()[0], kernel)
    with torch.no_grad():
        unit.norm.weight += 0.01  # a few steps of a training
    torch.testing.assert_close(unit.folded()[0], kernel, rtol=0.1, atol=0)


def test_a_foreign_onnx_file_is_refused(tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="not a model file"):
        read_exported(path)


def test_a_run_starts_from_an_fp16_file_with_its_rounded_weights(shipped, tmp_path):
    path = tmp_path / "half.onnx"
    half = onnx.load_from_string(to_half(SHIPPED.read_bytes()))
    entry = next(entry for entry in half.metadata_props if entry.key == METADATA_KEY)
    entry.value = replace(ModelCard.from_json(entry.value), precision="fp16").to_json()
    onnx.save(half, path)
    rounded = read_exported(path)[0].state_dict()
    for name, values in shipped[0].state_dict().items():
        expected = values.half().to(values.dtype)
        torch.testing.assert_close(rounded[name], expected, rtol=1e-3, atol=1e-6)


def test_a_run_starts_from_a_checkpoint_or_a_model_of_other_classes(
    shipped, shapes, tmp_path, monkeypatch
):
    monkeypatch.setattr("training.weights.origin.read_exported", {SHIPPED: shipped}.__getitem__)
    old = shaken("yolo_ret_m075", 3)
    content = {"detector": "yolo_ret_m075", "classes": list(OLD), "average": old.state_dict()}
    save_checkpoint(tmp_path / "old.pt", content)
    recipe = Recipe.from_dict({"phases": [{"epochs": 1, "sizes": 64}]})
    all_known, unknown = "All weights were copied.", "Not copied, fresh: outputs of disc, square."
    for path, text in ((tmp_path / "old.pt", all_known), (SHIPPED, unknown)):
        trainer = Trainer(recipe, CLASSES, shapes, workers=0)
        assert start(trainer, read_origin(str(path), Variant.parse("yolo_ret_m075"))) == text
        begun = trainer.average.model.state_dict()
        assert all(v.equal(begun[k]) for k, v in trainer.model.state_dict().items())
    anchors = [[[side, side]] * 3 for side in (10, 40, 90)]
    own = {"name": "yolo_ret_m075", "grid": {"anchors": anchors}}
    recipe = Recipe.from_dict({"detector": own, "phases": [{"epochs": 1, "sizes": 64}]})
    trainer = Trainer(recipe, CLASSES, shapes, workers=0)
    told = start(trainer, read_origin(str(tmp_path / "old.pt"), recipe.detector))
    assert told == f"{all_known} {OTHER_GRID}"
    with pytest.raises(
        ValueError,
        match="the recipe trains yolo_nano, which is not the same with more or fewer channels: "
        "give --detector yolo_ret_m075",
    ):
        read_origin(str(SHIPPED), Variant.parse("yolo_nano"))


def test_what_is_not_copied_keeps_a_fresh_norm(shapes):
    """Statistics of a fresh kernel with a scale that undoes them would be no norm at all."""
    detector = Variant.parse("{name: yolov4_tiny, width: 0.1}")
    recipe = Recipe.from_dict(
        {"phases": [{"epochs": 1, "sizes": 64}], "detector": detector.to_settings()}
    )
    trainer = Trainer(recipe, CLASSES, shapes, workers=0)
    state = shaken(detector, len(CLASSES)).state_dict()
    del state["backbone.down.conv.weight"], state["backbone.down.norm.weight"]
    del state["backbone.down.norm.running_var"]
    start(trainer, Origin(detector, CLASSES, state, folded=True))
    norms = {name: m.norm for name, m in trainer.model.named_modules() if hasattr(m, "norm")}
    assert norms["backbone.down"].weight.eq(1).all()
    assert norms["backbone.down"].running_var.eq(1).all()
    known = state["backbone.stem.norm.running_var"]
    assert not norms["backbone.stem"].running_var.isclose(known).any(), "it is measured"


def test_a_run_starts_from_a_model_by_its_name(monkeypatch):
    read = []
    monkeypatch.setattr(
        "training.weights.origin.read_exported", lambda path: read.append(path) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        read_origin("yolo_ret_m075", Variant.parse("yolo_ret_m075"))
    assert [path.resolve() for path in read] == [SHIPPED]


def test_every_detector_puts_its_classes_last_where_they_share_a_dimension():
    # What start_from relies on: only a concatenation in YOLO-ReT's neck mixes them with others.
    for name in DETECTORS:
        with torch.device("meta"):
            detector = build(name, num_classes=2)
            small, large = detector.state_dict(), build(name, num_classes=3).state_dict()
            per_cell = detector.grid.per_cell
        shared = [
            key
            for key in small
            for a, b in zip(small[key].shape, large[key].shape, strict=True)
            if a != b and a != 7 * per_cell
        ]
        assert all(key in ("neck.q4.0.conv.weight", "neck.q5.0.conv.weight") for key in shared)
