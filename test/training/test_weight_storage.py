# SPDX-License-Identifier: Apache-2.0
"""Weights in files are float16 behind a Cast, and everything that reads files copes with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from exact_export import export_exactly
from onnx import TensorProto, numpy_helper
from small_detector import SMALLEST_YOLO_RET

from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.backends.openvino import _core
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import find_model
from training import repack
from training.deployment.channel_alignment import align_channels
from training.deployment.onnx_export import deployed_graph, save
from training.deployment.weight_storage import SMALLEST, fits_float16, read_graph, stored
from training.detectors.variant import Variant
from training.quantisation.qdq_graph import find_places, quantise
from training.weights.from_onnx import read_exported

CLASSES = ("a", "b", "c")
DETECTOR = Variant.from_settings(SMALLEST_YOLO_RET)


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    torch.manual_seed(0)
    model = DETECTOR.build(len(CLASSES)).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.rand_like(value) * 0.02)
    return model


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory) -> Path:
    """The detector with its weights as trained (exact.onnx), and as exports store them."""
    path = tmp_path_factory.mktemp("storage")
    grid = detector.grid
    card = ModelCard(
        "exact",
        DETECTOR.name,
        CLASSES,
        320,
        anchors=grid.anchors,
        strides=grid.strides,
        detector_options={k: v for k, v in SMALLEST_YOLO_RET.items() if k != "name"},
    )
    export_exactly(detector, path / "exact.onnx", card)
    save(onnx.load(path / "exact.onnx"), card, path / "stored.onnx")
    return path


def tensors(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def kernels(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The kernels that are constants, by the name of their convolution."""
    values = tensors(model)
    return {
        node.name: values[node.input[1]]
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in values
    }


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (1, 160, 192, 3), np.uint8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"images": images})


def test_a_file_is_smaller_and_computes_nearly_the_same(folder):
    exact, file = onnx.load(folder / "exact.onnx"), onnx.load(folder / "stored.onnx")
    assert file.ByteSize() < 0.7 * exact.ByteSize()
    assert all(kernel.size < SMALLEST for kernel in kernels(file).values())
    np.testing.assert_allclose(run(file)[1], run(exact)[1], atol=0.002)


def test_a_file_is_read_with_the_weights_rounded_and_nothing_else_changed(folder):
    exact, read = onnx.load(folder / "exact.onnx"), read_graph(folder / "stored.onnx")
    assert [n.op_type for n in read.graph.node] == [n.op_type for n in exact.graph.node]
    before, after = tensors(exact), tensors(read)
    assert before.keys() == after.keys()
    for name, value in before.items():
        large = value.ndim == 4 and value.size >= SMALLEST
        expected = value.astype(np.float16).astype(np.float32) if large else value
        np.testing.assert_array_equal(after[name], expected)
    np.testing.assert_array_equal(run(read)[1], run(onnx.load(folder / "stored.onnx"))[1])


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (lambda kernel: kernel, True),
        (lambda kernel: kernel * 0, True),
        (lambda kernel: np.where(np.arange(kernel.size).reshape(kernel.shape) == 9, 1e5, 1), False),
        (lambda kernel: kernel * np.array([1, 1e-8]).reshape(2, 1, 1, 1), False),
        (lambda kernel: np.where(np.arange(kernel.size).reshape(kernel.shape) % 2, 1e-8, 1), True),
    ],
    ids=["plain", "zeros", "overflow", "a channel below the range", "some values below the range"],
)
def test_values_beyond_float16_stay_float32(change, fits):
    kernel = np.random.default_rng(0).normal(0, 1, (2, 5, 3, 3))
    assert fits_float16(change(kernel).astype(np.float32)) is fits


def test_a_kernel_that_does_not_fit_stays_float32(folder):
    model = onnx.load(folder / "exact.onnx")
    name = max(kernels(model), key=lambda name: kernels(model)[name].size)
    (node,) = (node for node in model.graph.node if node.name == name)
    (tensor,) = (t for t in model.graph.initializer if t.name == node.input[1])
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1e-9, tensor.name))
    large = {n for n, kernel in kernels(stored(model)).items() if kernel.size >= SMALLEST}
    assert large == {name}


def test_chosen_kernels_stay_float32(folder):
    model = onnx.load(folder / "exact.onnx")
    large = {n for n, kernel in kernels(model).items() if kernel.size >= SMALLEST}
    kept = {n for n, kernel in kernels(stored(model, ["*p5*"])).items() if kernel.size >= SMALLEST}
    assert kept == {name for name in large if "p5" in name} and kept
    with pytest.raises(ValueError, match=r"no convolution has a name like 'nothing\*'"):
        stored(model, ["nothing*"])


def test_no_vector_is_stored_twice(folder):
    model = read_graph(folder / "stored.onnx")
    places = find_places(model)
    quantised = quantise(model, places, dict.fromkeys(places.tensors, 6.0))
    file = stored(quantised)
    values = [(v.dtype, v.shape, v.tobytes()) for v in tensors(file).values()]
    assert len(values) == len(set(values)) < len(tensors(quantised))
    np.testing.assert_array_equal(run(file)[1], run(quantised)[1])


def test_the_given_graph_is_not_changed(folder):
    model = onnx.load(folder / "exact.onnx")
    before = model.SerializeToString()
    stored(model)
    assert model.SerializeToString() == before


# What rewrites graphs works on files as they are stored


def test_a_stored_file_is_read_back_into_its_detector(detector, folder):
    read, _ = read_exported(folder / "stored.onnx")
    for name, value in tensors(deployed_graph(read)).items():
        np.testing.assert_array_equal(value, tensors(read_graph(folder / "stored.onnx"))[name])


def test_a_stored_file_is_quantised(folder):
    model = read_graph(folder / "stored.onnx")
    places = find_places(model)
    convolutions, expected = len(kernels(model)), len(places.convolutions)
    assert convolutions == sum(node.op_type == "Conv" for node in model.graph.node)
    assert expected == convolutions - 6, "two of the channel attention in each of three maps"
    quantised = quantise(model, places, dict.fromkeys(places.tensors, 6.0))
    types = {name: value.dtype for name, value in tensors(quantised).items()}
    assert sum(name.endswith("_steps") for name in types) == expected
    assert all(types[name] == np.int8 for name in types if name.endswith("_steps"))


def test_a_stored_file_becomes_an_fp16_graph_without_casts_of_constants(folder):
    half = onnx.load_from_string(to_half((folder / "stored.onnx").read_bytes()))
    constants = tensors(half)
    assert not any(n.op_type == "Cast" and n.input[0] in constants for n in half.graph.node)
    assert all(kernel.dtype == np.float16 for kernel in kernels(half).values())
    assert len(kernels(half)) == len(kernels(onnx.load(folder / "exact.onnx")))


def test_the_channels_of_a_stored_file_can_be_aligned(folder):
    model = read_graph(folder / "stored.onnx")
    aligned = align_channels(model, 32)
    assert aligned.ByteSize() > model.ByteSize()
    np.testing.assert_allclose(run(aligned)[1], run(model)[1], atol=1e-5)


def test_onnx_runtime_computes_the_casts_when_it_opens_a_file(folder, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(folder / "stored.onnx"), options, providers=["CPUExecutionProvider"]
    )
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    assert not any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)


def test_openvino_computes_the_casts_when_it_opens_a_file(folder):
    pytest.importorskip("openvino")
    core = _core()  # a second core would leave a trap for the next signal
    compiled = {}
    for name in ("exact", "stored"):
        model = core.read_model(str(folder / f"{name}.onnx"))
        model.reshape({"images": [1, 160, 160, 3]})
        operations = core.compile_model(model, "CPU").get_runtime_model().get_ops()
        compiled[name] = [op.get_rt_info()["layerType"].astype(str) for op in operations]
    assert sorted(compiled["stored"]) == sorted(compiled["exact"])


# The command


@pytest.fixture
def models(folder, tmp_path) -> Path:
    """A folder of models with its manifest, as models/ is."""
    shutil.copy(folder / "exact.onnx", tmp_path / "exact.onnx")
    (tmp_path / "manifest.yaml").write_text("other: {file: other.onnx, sha256: '0'}\n")
    return tmp_path


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["repack", *map(str, arguments)])
    return repack.main()


def test_a_file_is_repacked_in_place_with_page_and_manifest(models, folder, monkeypatch):
    card = find_model(str(models / "exact.onnx")).card
    assert command(monkeypatch, models / "exact.onnx") == 0
    assert (models / "exact.onnx").read_bytes() == (folder / "stored.onnx").read_bytes()
    assert find_model("exact", models).card == card  # by the digest in the manifest
    assert "other" in yaml.safe_load((models / "manifest.yaml").read_text())
    assert "fp32 (kernels stored as float16)" in (models / "exact.md").read_text()
    assert command(monkeypatch, models / "exact.onnx") == 0
    assert (models / "exact.onnx").read_bytes() == (folder / "stored.onnx").read_bytes()


def test_a_file_for_other_tools_has_plain_weights(models, folder, monkeypatch):
    out = models / "plain.onnx"
    source = folder / "stored.onnx"
    assert command(monkeypatch, source, "--storage", "float32", "--out", out) == 0
    assert onnx.load(out) == read_graph(source)
    assert not out.with_suffix(".md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.txt"], "--out x.txt must end in .onnx"),
        (["exact.onnx", "--out", "x.onnx"], "--out is one file: give one model"),
        (["--storage", "float32"], "give a file to write as --out"),
        (
            ["--storage", "float32", "--out", "x.onnx", "--keep", "*"],
            "--keep goes with --storage float16",
        ),
        (["--keep", "nothing*"], "no convolution has a name like 'nothing*'"),
        (["gone.onnx"], "there is no model file gone.onnx"),
    ],
)
def test_what_cannot_be_repacked_gives_one_sentence(
    arguments, message, models, monkeypatch, capsys
):
    monkeypatch.chdir(models)
    assert command(monkeypatch, "exact.onnx", *arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
