# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from exact_export import export_exactly
from small_detector import SMALLEST_YOLO_RET
from torch import nn

from compact_yolo_ros.backends import RunOptions
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from compact_yolo_ros.model.sizes import Size
from training.deployment import publishing
from training.deployment.model_card import card_of, read_words, stated, to_markdown, weights_digest
from training.deployment.onnx_export import BareNetwork, export_bare, fused
from training.deployment.predictor import CANDIDATES, Predictor
from training.deployment.publishing import enter_in_manifest
from training.detectors.variant import Variant
from training.export import main
from training.loop.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CARD = ModelCard("toy", "yolo_ret_m075", ("a", "b", "c"), 320)
MEASURED = {"AP50 c": 0.6, "AP50 a": 0.4, "AP": 0.25, "AP50": 0.5, "AP50 b": 0.5}
SIZES = [(224, 224), (320, 320), (416, 416), (256, 416)]


def noise(batch: int, height: int, width: int) -> np.ndarray:
    """Blurred noise: all frequencies, like a picture."""
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 200, (batch, height // 16, width // 16, 3))
    fine = rng.integers(0, 56, (batch, height, width, 3))
    return (coarse.repeat(16, 1).repeat(16, 2) + fine).astype(np.uint8)


@pytest.fixture(scope="module")
def detector() -> nn.Module:
    """Random weights, statistics of real maps: candidates differ as in a trained network."""
    torch.manual_seed(4)
    model = Variant.from_settings(SMALLEST_YOLO_RET).build(3).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        model(torch.from_numpy(noise(4, 160, 160)).permute(0, 3, 1, 2) / 255)
        for head in model.heads:
            head.weight.mul_(0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models")
    export_exactly(detector, path / "toy.onnx", CARD)
    export_bare(detector, path / "bare.onnx")
    return path


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


@pytest.mark.parametrize("height, width", SIZES)
def test_onnx_answers_as_pytorch(detector, folder, height, width):
    """Scores to 1e-4; boxes to 1e-4 of the input's longer side and of their own; labels exactly.

    Candidates whose scores are closer than the tolerance may change places, so every candidate is
    looked up among the expected ones.
    """
    images = noise(1, height, width)
    boxes, scores, labels = (a[0] for a in run(folder / "toy.onnx", images))
    predicted = Predictor(detector)(torch.from_numpy(images))
    expected_boxes, expected_scores, expected_labels = (t[0].numpy() for t in predicted)
    np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-4)
    size = (expected_boxes[:, 2:] - expected_boxes[:, :2]).max(1)
    error = np.abs(boxes[:, None] - expected_boxes).max(2) / (1e-4 * (max(height, width) + size))
    error = np.maximum(error, np.abs(scores[:, None] - expected_scores) / 1e-4)
    error[labels[:, None] != expected_labels] = np.inf
    # the last few may have swapped with candidates that were cut off
    inside = scores > scores[-1] + 1e-4
    assert inside.sum() > 200
    assert error.min(1)[inside].max() < 1


def test_the_contract_of_the_file(folder):
    graph = onnx.load(folder / "toy.onnx").graph
    described = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert described == {
        "images": ("UINT8", ["batch", "height", "width", 3]),
        "boxes": ("FLOAT", ["batch", CANDIDATES, 4]),
        "scores": ("FLOAT", ["batch", CANDIDATES]),
        "labels": ("INT32", ["batch", CANDIDATES]),
    }


def test_the_graph_is_one_that_tensorrt_reads(folder):
    model = onnx.load(folder / "toy.onnx")
    assert [o.version for o in model.opset_import if not o.domain] == [17]
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {
        "GatherND",
        "ScatterND",
        "NonZero",
        "Pow",
        "If",
        "Loop",
        "BatchNormalization",
    }


def test_every_image_of_a_batch_is_its_own(folder):
    images = noise(3, 160, 224)
    together = run(folder / "toy.onnx", images)
    for number in range(3):
        alone = run(folder / "toy.onnx", images[number : number + 1])
        np.testing.assert_allclose(together[1][number], alone[1][0], atol=1e-5)


def test_the_smallest_input_has_enough_candidates(folder):
    boxes, scores, _ = run(folder / "toy.onnx", noise(1, 160, 160))
    assert boxes.shape == (1, CANDIDATES, 4)
    assert (np.diff(scores[0]) <= 0).all()


def test_the_bare_network_is_the_network(detector, folder):
    images = torch.rand(1, 3, 160, 192)
    expected = BareNetwork(detector)(images).numpy()
    (rows,) = run(folder / "bare.onnx", images.numpy())
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-3)


def test_fusing_leaves_the_original_alone(detector):
    before = weights_digest(detector.state_dict())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused(detector).modules())
    assert weights_digest(detector.state_dict()) == before


def test_the_detector_of_the_package_opens_it(folder):
    detector = Detector.open(
        RunOptions(str(folder / "toy.onnx"), input_sizes=(Size.square(160),), threads=1)
    )
    assert detector.card == CARD
    found = detector.detect(noise(1, 112, 208)[0])
    assert (found.boxes >= 0).all() and (found.boxes[:, 2] <= 208).all()


def test_the_manifest_names_the_file_and_its_digest(folder):
    enter_in_manifest(folder / "toy.onnx")
    enter_in_manifest(folder / "bare.onnx")
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    assert set(manifest) == {"toy", "bare"}
    assert manifest["toy"]["file"] == "toy.onnx" and len(manifest["toy"]["sha256"]) == 64


def test_two_exports_at_once_are_both_entered(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.onnx").write_bytes(b"")
    (tmp_path / "manifest.yaml").write_text("{}")
    read, second = (
        publishing.read_manifest,
        Thread(target=enter_in_manifest, args=(tmp_path / "b.onnx",)),
    )

    def read_slowly(path):
        entries = read(path)
        if not second.ident:
            second.start()
            second.join(0.3)  # without a lock it is done by now
        return entries

    monkeypatch.setattr(publishing, "read_manifest", read_slowly)
    enter_in_manifest(tmp_path / "a.onnx")
    second.join()
    assert set(yaml.safe_load((tmp_path / "manifest.yaml").read_text())) == {"a", "b"}


def test_a_card_counts_measures_and_quotes(detector, tmp_path):
    (tmp_path / "words.yaml").write_text("licence: MIT,\n  as claimed\n")
    words = read_words(tmp_path / "words.yaml")
    checkpoint = {
        "detector": SMALLEST_YOLO_RET,
        "classes": ["a", "b", "c"],
        "average": detector.state_dict(),
    }
    card = card_of(
        "toy", detector, checkpoint, words, {size: MEASURED for size in ("224", "320", "416")}
    )
    assert card.licence == "MIT, as claimed"
    assert card.gmacs.keys() == {"224", "320", "416"}
    assert ModelCard.from_json(card.to_json()) == card
    page = to_markdown(card, 1_000_000)
    assert "MIT, as claimed" in page and "| 0.250 | 0.500 | 0.400 | 0.500 | 0.600 |" in page
    piped = replace(card, classes=("a|b", *card.classes[1:]))
    assert "| input | GMAC | AP | AP50 | AP50 a\\|b |" in to_markdown(piped, 1_000_000)
    (tmp_path / "words.yaml").write_text("author: me")
    with pytest.raises(ValueError, match="licence"):
        read_words(tmp_path / "words.yaml")


def test_a_card_omits_figures_that_could_not_be_measured(detector):
    checkpoint = {"detector": SMALLEST_YOLO_RET, "classes": list("abc"), "average": {}}
    scores = stated(MEASURED | {"AP": 0.25049, "AP50 b": math.nan})
    assert scores == {"AP50 c": 0.6, "AP50 a": 0.4, "AP": 0.25, "AP50": 0.5}
    card = card_of("toy", detector, checkpoint, {}, dict.fromkeys(("224", "320", "416"), scores))
    assert "| 0.250 | 0.500 | 0.400 | - | 0.600 |" in to_markdown(card, 1_000_000)
    json.loads(card.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    by_runtime = {name: card.ap for name in ("openvino", "onnxruntime")}
    written = replace(card, ap_by_runtime=by_runtime)
    page = to_markdown(written, 1)
    assert page == to_markdown(ModelCard.from_json(written.to_json()), 1)


def test_unusable_options_end_in_a_sentence(detector, tmp_path, monkeypatch):
    content = {"detector": SMALLEST_YOLO_RET, "classes": list("abc")}
    save_checkpoint(tmp_path / "x.pt", content | {"average": detector.state_dict()})
    (tmp_path / "data.yaml").write_text("names: [a, c, b]\nval: images/val\n")
    (tmp_path / "empty.yaml").write_text("names: [a, b, c]\nval: images/val\n")
    (tmp_path / "images/val").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/val/1.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "words.yaml").write_text("notes: [")
    command = ["export", "--weights", str(tmp_path / "x.pt"), "--out", str(tmp_path / "x.onnx")]
    for option, value, message in (
        ("--data", "data.yaml", "have different classes"),  # in another order
        ("--data", "empty.yaml", "empty.yaml: no image of .val. shows an object"),
        ("--words", "words.yaml", "words.yaml cannot be read: it is not YAML"),
        ("--default-size", "333", "input size 333 is not usable"),
        ("--out", "best.pt", "--out best.pt must end in .onnx"),
        ("--words", "--bare", "--words is for the card, which --bare leaves out"),
        ("--default-size", "416 --bare", "--default-size is for the card, which --bare leaves out"),
    ):
        value = str(tmp_path / value) if value.endswith("yaml") else value
        value = "words.yaml --bare" if value == "--bare" else value
        monkeypatch.setattr("sys.argv", [*command, option, *value.split(" ")])
        with pytest.raises(SystemExit, match=message):
            main()
    assert not (tmp_path / "x.onnx").exists()


def test_shipped_models_are_what_their_cards_say():
    manifest = yaml.safe_load((ROOT / "models/manifest.yaml").read_text())
    assert "yolo_ret_m075" in manifest
    for entry in manifest.values():
        path = ROOT / "models" / entry["file"]
        assert path.stat().st_size < 10e6
        properties = {p.key: p.value for p in onnx.load(path).metadata_props}
        card = ModelCard.from_metadata(properties, str(path))
        assert path.with_suffix(".md").read_text() == to_markdown(card, path.stat().st_size)
        assert json.loads(properties[METADATA_KEY])["licence"]
