# SPDX-License-Identifier: Apache-2.0
"""INT8 after training: ranges, Q/DQ graphs, what they cost."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from drawn import CLASSES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper
from small_detector import small_detector
from torch import nn

from compact_yolo_ros.backends import BackendError, RunOptions, open_backend
from compact_yolo_ros.backends.openvino import _core
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from training import quantise as command
from training.deployment.onnx_export import export
from training.quantisation import calibration
from training.quantisation.calibration import Histogram, letterboxed, observe
from training.quantisation.qdq_graph import find_places, kernel_scales, quantise, raw_maps
from training.quantisation.sensitivity import sensitivities

CARD = ModelCard("small", "small", CLASSES, 160, gmacs={"160": 0.1}, recipe="Not trained.")


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    export(small_detector(), path, CARD)
    return path


@pytest.fixture(scope="module")
def quantised(exported, shapes) -> onnx.ModelProto:
    model = onnx.load(exported)
    places = find_places(model)
    histograms = observe(model, places.tensors, letterboxed(shapes, (160, 192), "letterbox"))
    return quantise(model, places, {name: h.largest for name, h in histograms.items()})


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": images})


def test_the_graph_follows_the_rules_of_tensorrt(quantised):
    graph = quantised.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    assert [o.version for o in quantised.opset_import if not o.domain] == [17]
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zeros = constants[node.input[2]]
            assert zeros.dtype == np.int8 and not zeros.any(), "only symmetric grids"
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[1]].shape == (), "one scale a map"
            # an operator between a convolution and its activation would part them
            assert producers[node.input[0]].op_type != "Conv"
    small_maps, others = [], []
    for node in graph.node:
        if node.op_type == "Conv":
            kernel = producers.get(node.input[1])
            (others if kernel is not None else small_maps).append(node)
            if kernel is None:
                continue
            steps, scales = constants[kernel.input[0]], constants[kernel.input[1]]
            assert steps.dtype == np.int8
            assert len(scales) == len(steps), "one scale an output channel"
            assert producers[node.input[0]].op_type == "DequantizeLinear"
            assert all(constants[name].dtype == np.float32 for name in node.input[2:])
    assert len(others) == 7
    assert len(small_maps) == 3, "channel attention and what reads a concatenation stay float"


def test_decoding_stays_float(quantised):
    for name in raw_maps(quantised):
        readers = [node.op_type for node in quantised.graph.node if name in node.input]
        assert readers and "QuantizeLinear" not in readers


def test_kernels_are_within_half_a_step(exported, quantised):
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(exported).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    kernels = [name.removesuffix("_steps") for name in after if name.endswith("_kernel_steps")]
    assert len(kernels) == 7
    for name in kernels:
        scales = after[f"{name}_scales"].reshape(-1, 1, 1, 1)
        error = np.abs(after[f"{name}_steps"] * scales - before[name])
        assert (error <= scales * 0.501).all()
        used = before[name].any((1, 2, 3))  # the exporter widens with zeros
        largest = np.abs(after[f"{name}_steps"][used]).reshape(used.sum(), -1).max(1)
        if before[name].shape[1] < 4:
            depthwise = before[name].shape[1] == 1
            assert (largest == (127 if depthwise else 64)).all(), "all that is safe is used"
        else:
            assert (largest > 64).any() and (largest >= 63).all()


def assert_nothing_saturates(steps: np.ndarray) -> None:
    """No sum of two products is beyond 16 bits, whatever the unsigned map.

    As processors without VNNI add them (AVX2's vpmaddubsw in Intel's manual). The worst map is 255
    where a value has the sign of the sum, and 0 elsewhere. Depthwise convolutions add none.
    """
    if steps.shape[1] == 1:
        return
    steps = steps.astype(np.int64)
    places = steps.shape[1]
    if places < 4:  # any two values of an output channel
        steps = steps.reshape(len(steps), -1, 1, 1)
        pairs = [(a, b) for a in range(steps.shape[1]) for b in range(a)]
    else:
        pairs = [(a, b) for a in range(places) for b in range(a // 4 * 4, a)]
    for a, b in pairs:
        for sign in (-1, 1):
            products = sum(255 * np.maximum(sign * steps[:, place], 0) for place in (a, b))
            assert products.max() <= np.iinfo(np.int16).max


def test_no_pair_of_products_saturates_16_bits(quantised):
    after = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    kernels = [values for name, values in after.items() if name.endswith("_kernel_steps")]
    assert len(kernels) == 7
    for steps in kernels:
        assert_nothing_saturates(steps)


VALUES = st.floats(-2, 2, width=32) | st.sampled_from([0.5, 1.0, -1.0, 1e-30, 127.5, -1e9])


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 2)).flatmap(
        lambda shape: arrays(np.float32, (*shape, 1), elements=VALUES)
    )
)
def test_no_kernel_can_saturate(kernel):
    scales = kernel_scales(kernel).reshape(-1, 1, 1, 1)
    steps = np.rint(kernel / scales)
    assert np.abs(steps).max() <= 127
    assert_nothing_saturates(steps)


def one_convolution(steps: np.ndarray, groups: int) -> onnx.ModelProto:
    """A convolution of 20 x 20 whole numbers, rounded to 8 bits, with a kernel of whole numbers."""
    side, inputs = steps.shape[2], steps.shape[1] * groups
    constants = {
        "one": np.float32(1),
        "zero": np.int8(0),
        "steps": steps,
        "scales": np.ones(len(steps), np.float32),
        "zeros": np.zeros(len(steps), np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["map"]),
        helper.make_node("DequantizeLinear", ["steps", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["map", "kernel"], ["raw"], group=groups, pads=[side // 2] * 4),
        helper.make_node("Relu", ["raw"], ["y"]),
    ]
    shape = [1, inputs, 20, 20]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("shape", [(16, 16, 1, 1), (16, 8, 3, 3), (16, 1, 5, 5)])
@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["all of one size", "of any size"])
def test_openvino_adds_without_saturation_on_this_processor(shape, spread):
    """The sums of the largest maps, as whole numbers in 64 bits have them."""
    pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
    rng = np.random.default_rng(0)
    kernel = (1 + spread * rng.normal(size=shape)).astype(np.float32)
    steps = np.rint(kernel / kernel_scales(kernel).reshape(-1, 1, 1, 1)).astype(np.int8)
    groups = 16 if shape[1] == 1 else 1
    core, model = _core(), one_convolution(steps, groups)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", exact)
    for sign in (127, -128):
        maps = np.full((1, shape[1] * groups, 20, 20), sign, np.float32)
        maps[..., ::3] = 0
        wide = nn.functional.conv2d(
            torch.from_numpy(maps).double(),
            torch.from_numpy(steps).double(),
            padding=shape[2] // 2,
            groups=groups,
        )
        np.testing.assert_array_equal(compiled(maps)[0], wide.clamp(min=0).numpy())


def test_openvino_computes_what_the_graph_says(exported, quantised, shapes, tmp_path):
    """Against the Q/DQ nodes executed one by one, on processors with and without VNNI."""
    pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
    path = tmp_path / "quantised.onnx"
    command.save(quantised, replace(CARD, precision="int8"), path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    runs = RunOptions(str(path), backend="openvino", threads=1, input_sizes=(Size.square(160),))
    backend = open_backend(runs).backend
    backend.input[0] = cv2.resize(shapes[3].image, (160, 160))
    _, scores, _ = backend.run()
    _, expected, _ = session.run(["boxes", "scores", "labels"], {"images": backend.input})
    np.testing.assert_allclose(scores, expected, atol=0.01)
    assert expected.max() > 0.1


@pytest.mark.parametrize("size", [(160, 160), (192, 256)])
def test_detections_are_close_to_those_of_the_float_model_at_any_size(
    exported, quantised, shapes, size
):
    image = cv2.resize(shapes[3].image, size[::-1])[None]
    for a, b in zip(run(quantised, image), run(onnx.load(exported), image), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if a.dtype == np.float32 and a.ndim == 2:
            np.testing.assert_allclose(a, b, atol=0.1)
            assert np.abs(a - b).max() > 1e-5, "it is quantised"


def test_skipped_convolutions_stay_float(exported, shapes):
    model = onnx.load(exported)
    everything, fewer = find_places(model), find_places(model, ["*block*", "*deepest*"])
    left = set(everything.convolutions) - set(fewer.convolutions)
    assert len(left) == 4 and all("block" in name or "deepest" in name for name in left)
    with pytest.raises(ValueError, match="'nothing\\*'"):
        find_places(model, ["nothing*"])


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=1), min_size=1, max_size=8))
def test_a_histogram_does_not_depend_on_the_order_of_values(parts):
    grown = Histogram()
    for part in parts:
        grown.add(np.array(part, np.float32))
    values = np.abs(np.concatenate([np.array(part, np.float32) for part in parts]))
    assert grown.largest == values.max() <= grown.range
    places = np.arange(len(grown.counts) + 1) / len(grown.counts) * grown.range
    expected = np.cumsum(np.histogram(values, places)[0])
    found = np.cumsum(grown.counts)
    assert found[-1] == len(values)
    # a value at the end of a bin may be in the next one
    assert (found[:-1] <= expected[1:]).all() and (expected[:-1] <= found[1:]).all()


def test_methods_balance_rounding_and_saturation():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 100_000).astype(np.float32)
    values[0] = 40
    histogram = Histogram()
    histogram.add(values)
    assert calibration.largest(histogram) == 40
    assert calibration.percentile(histogram, 0.99) == pytest.approx(2.576, abs=0.1)
    assert 2.5 < calibration.entropy(histogram) < 20

    def error(top: float) -> float:
        step = top / 127
        return float(((np.rint(values / step).clip(-128, 127) * step - values) ** 2).mean())

    chosen = calibration.least_squares(histogram)
    assert error(chosen) < 1.05 * min(error(top) for top in np.linspace(2, 40, 200))


def test_a_channel_without_a_kernel_keeps_its_bias(shapes, tmp_path):
    """ONNX Runtime rounds biases to 32 bits, in steps of the map's scale times the kernel's."""
    detector = small_detector()
    detector.block.expand.norm.weight.data[0] = 1e-12
    detector.block.expand.norm.bias.data[0] = 5.0
    export(detector, tmp_path / "dead.onnx", CARD)
    model = onnx.load(tmp_path / "dead.onnx")
    (node,) = (n for n in model.graph.node if n.op_type == "Conv" and "block.expand" in n.name)
    places, images = find_places(model), list(letterboxed(shapes[:2], (160,), "letterbox"))
    ranges = {name: h.largest for name, h in observe(model, places.tensors, images).items()}
    raw, expected = (
        calibration.open_session(m, node.output).run(node.output, {"images": images[0]})[0]
        for m in (quantise(model, places, ranges), model)
    )
    np.testing.assert_allclose(raw[:, 0], expected[:, 0], rtol=0.01)


def test_the_layer_with_the_widest_map_is_the_most_sensitive(shapes, tmp_path):
    """A channel a thousand times as large as its neighbours takes all the steps."""
    detector = small_detector()
    detector.down.norm.weight.data[0] *= 1000
    detector.down.norm.bias.data[0] *= 1000
    detector.block.expand.conv.weight.data[:, 0] /= 1000
    detector.block.residual = False
    export(detector, tmp_path / "wide.onnx", CARD)
    model = onnx.load(tmp_path / "wide.onnx")
    places = find_places(model)
    images = list(letterboxed(shapes[:2], (160,), "letterbox"))
    ranges = {name: h.largest for name, h in observe(model, places.tensors, images).items()}
    errors = sensitivities(model, places.convolutions, ranges, images)
    assert set(errors) == set(places.convolutions)
    assert "block.expand" in next(iter(errors))


@pytest.fixture(scope="module")
def data(shapes, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    for number, sample in enumerate(shapes[:8]):
        split = "val" if number % 2 else "train"
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        image = cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(root / f"images/{split}/{number}.png"), image)
        side = image.shape[0]
        rows = np.column_stack(
            (
                sample.labels,
                (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2 / side,
                (sample.boxes[:, 2:] - sample.boxes[:, :2]) / side,
            )
        )
        np.savetxt(root / f"labels/{split}/{number}.txt", rows, "%g")
    description = {"names": list(CLASSES), "train": "images/train", "val": "images/val"}
    (root / "data.yaml").write_text(yaml.safe_dump(description))
    return root / "data.yaml"


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_command_makes_a_file_that_the_node_opens(
    precision, exported, data, tmp_path, monkeypatch, shapes
):
    out = tmp_path / f"small_{precision}.onnx"
    arguments = ["--model", exported, "--precision", precision, "--data", data, "--out", out]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments)])
    assert command.main() == 0
    card = find_model("small_" + precision, tmp_path).card  # by the manifest
    assert (card.precision, card.name, card.classes) == (precision, out.stem, CLASSES)
    assert card.ap.keys() == {"160"} and 0 <= card.ap["160"]["AP50"] <= 1
    both = precision == "int8" and find_spec("openvino")
    runtimes = {"openvino", "onnxruntime"} if both else set()
    assert card.ap_by_runtime.keys() == runtimes
    assert all(figures.keys() == {"160"} for figures in card.ap_by_runtime.values())
    if runtimes:
        assert card.ap == card.ap_by_runtime["openvino"]
        assert "run by" in out.with_suffix(".md").read_text()
    assert f"{precision} made of small (fp32)" in card.recipe and "AP50 of small" in card.notes
    assert f", {precision}, " in out.with_suffix(".md").read_text()
    assert out.stat().st_size < exported.stat().st_size
    detector = Detector.open(
        RunOptions(str(out), backend="onnxruntime", precision=precision, threads=1)
    )
    original = Detector.open(RunOptions(str(exported), backend="onnxruntime", threads=1))
    assert detector.backend.card.precision == precision
    detector.detect(shapes[0].image, "rgb")
    original.detect(shapes[0].image, "rgb")
    scores, expected = detector.backend.run()[1], original.backend.run()[1]
    np.testing.assert_allclose(scores, expected, atol=0.1 if precision == "int8" else 0.005)
    in_fp32 = RunOptions(str(out), backend="onnxruntime", precision="fp32", threads=1)
    if precision == "int8":
        with pytest.raises(BackendError, match="holds int8 weights, not fp32"):
            Detector.open(in_fp32)
    else:  # weights alone say nothing of what is computed in
        assert Detector.open(in_fp32).backend.precision == "fp32"


@pytest.mark.parametrize("only", [True, False])
def test_a_network_that_was_made_for_a_rectangle_is_measured_there(
    only, data, tmp_path, monkeypatch
):
    """As darknet networks and adopted ones; the figures are on the page of the card, too."""
    own = {"default_size": 192, "default_height": 160, "fixed_size": only, "gmacs": {"224": 1.0}}
    model, out = tmp_path / "wide.onnx", tmp_path / "wide_fp16.onnx"
    export(small_detector(), model, replace(CARD, name="wide", **own))
    arguments = ["--model", model, "--precision", "fp16", "--data", data, "--out", out]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments)])
    assert command.main() == 0
    expected = {"192x160"} if only else {"192x160", "224"}
    assert find_model(str(out)).card.ap.keys() == expected
    page = out.with_suffix(".md").read_text()
    assert "| 192x160 | - | 0." in page and "| 224 | 1.000 |" in page
    assert ("; 192 x 160 only\n" in page) == only


def test_the_most_sensitive_stay_float_while_too_much_is_lost(
    exported, data, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "small_int8.onnx"
    arguments = ["--model", exported, "--data", data, "--out", out, "--largest-loss", -101]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments), "--skip", "*deepest*"])
    monkeypatch.setattr(command, "LEFT_FLOAT", (0, 2))
    assert command.main() == 0
    assert "not less than -101" in capsys.readouterr().err
    float_kernels = [
        node.name
        for node in onnx.load(out).graph.node
        if node.op_type == "Conv" and node.input[1].endswith("_kernel")
    ]
    assert len(float_kernels) == 6, "channel attention, what reads a concatenation, and three"
    recipe = find_model(str(out)).card.recipe
    assert sum(name in recipe for name in float_kernels) == 2 and "float: *deepest*, " in recipe


@pytest.mark.parametrize("images", [1, 5, 96, 97, 190, 1000])
def test_pictures_of_the_calibration_are_spread_over_the_split(images):
    places = command.spread_places(images, 96)
    assert len(places) == len(set(places)) == min(images, 96)
    gaps = np.diff([-1, *places, images])
    assert gaps.max() - gaps[1:-1].min(initial=gaps.max()) <= np.ceil(images / 96)


def test_the_size_that_loses_most_counts():
    """A node may be run at every size of the card, and the governor runs several."""
    before = {"224": {"AP50": 0.78}, "320": {"AP50": 0.842}, "416": {"AP50": 0.818}}
    after = {"224": {"AP50": 0.79}, "320": {"AP50": 0.840}, "416": {"AP50": 0.791}}
    assert command.largest_loss(before, after) == (pytest.approx(2.7), "416")


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--split", "test"], "data.yaml has no split 'test'"),
        (["--skip", "*tail*"], "no quantised convolution has a name like '*tail*'"),
        (["--out", "small"], "--out small must end in .onnx"),
        (["--precision", "fp16", "--skip", "*deepest*"], "--skip goes with --precision int8"),
        (["--precision", "fp16", "--split", "val"], "--split goes with --precision int8"),
        (["--largest-loss", "nan"], "--largest-loss must be a number"),
    ],
)
def test_a_wrong_option_is_reported_before_the_source_is_measured(
    options, sentence, exported, data, tmp_path, monkeypatch, capsys
):
    def measured(*_):
        raise AssertionError("measuring takes minutes")

    monkeypatch.setattr(command, "measure", measured)
    monkeypatch.setenv("COMPACT_YOLO_MODELS", str(exported.parent))
    arguments = ["--model", exported.stem, "--data", data, "--out", tmp_path / "out.onnx"]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments), *options])
    assert command.main() == 1
    assert sentence in capsys.readouterr().err


def test_images_without_objects_cannot_measure_ap(exported, data, tmp_path, monkeypatch, capsys):
    empty = tmp_path / "empty"
    shutil.copytree(data.parent, empty)
    for file in (empty / "labels" / "val").iterdir():
        file.write_text("")
    arguments = ["--model", exported, "--data", empty / "data.yaml", "--out", tmp_path / "x.onnx"]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments)])
    assert command.main() == 1
    assert "data.yaml: no image of 'val' shows an object" in capsys.readouterr().err


def test_a_file_is_not_quantised_twice(exported, data, tmp_path, monkeypatch, capsys):
    half = tmp_path / "half.onnx"
    model = onnx.load(exported)
    command.save(model, ModelCard("half", "small", CLASSES, 160, precision="fp16"), half)
    arguments = ["--model", half, "--data", data, "--out", tmp_path / "out.onnx"]
    monkeypatch.setattr(sys, "argv", ["quantise", *map(str, arguments)])
    assert command.main() == 1
    assert "is fp16 already: give the fp32 file" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()
