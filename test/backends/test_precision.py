# SPDX-License-Identifier: Apache-2.0
"""The number format that a network computes in on the CPU, on processors of every kind.

OpenVINO's core is the real one; what it says about the processor and about the opened network is
that of another machine.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bfloat16_graph import write_rounding
from toy_model import write_half, write_quantized

from compact_yolo_ros.backends import BackendError, RunOptions, choice, open_backend
from compact_yolo_ros.backends import onnxruntime as onnxruntime_backend
from compact_yolo_ros.backends import openvino as openvino_backend
from compact_yolo_ros.backends import processor as processor_module
from compact_yolo_ros.backends.agreement import TOLERANCES, Agreement, compare
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images

openvino = pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")

from other_processor import Processor  # noqa: E402


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Gives this machine another processor, and no GPU."""
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path / "none",))

    def build(*abilities: str, computes: str = "") -> Processor:
        made = Processor(*abilities, computes=computes)
        monkeypatch.setattr(openvino_backend, "_core", lambda: made)
        return made

    return build


@pytest.mark.parametrize(
    ("precision", "ability", "hint"), [("bf16", "BF16", "bf16"), ("fp16", "FP16", "f16")]
)
@pytest.mark.parametrize("backend", ["openvino", "auto"])
def test_a_precision_is_computed_where_the_processor_has_it(
    toy: str, processor: Any, precision: str, ability: str, hint: str, backend: str
) -> None:
    core = processor(ability)
    opened = open_backend(RunOptions(toy, backend=backend, precision=precision, threads=1))
    assert (opened.backend.name, opened.backend.precision) == ("openvino", precision)
    assert opened.warning == ""
    (given,) = core.given
    assert (given["INFERENCE_PRECISION_HINT"], given["INFERENCE_NUM_THREADS"]) == (hint, 1)


def test_fp32_is_fp32_where_the_processor_has_everything(
    toy: str, tmp_path: Path, processor: Any
) -> None:
    core = processor("BF16", "FP16")
    quantised = str(write_quantized(tmp_path / "toy_int8.onnx"))
    for model, precision in ((toy, "auto"), (toy, "fp32"), (quantised, "int8")):
        open_backend(RunOptions(model, backend="openvino", precision=precision))
    assert [given["INFERENCE_PRECISION_HINT"] for given in core.given] == ["f32"] * 3


def test_what_openvino_computes_in_is_read_back(toy: str, processor: Any) -> None:
    processor("BF16", computes="f32")
    with pytest.raises(BackendError, match="^OpenVINO computes in f32, not in bf16: set precision"):
        open_backend(RunOptions(toy, backend="openvino", precision="bf16"))
    processor("BF16", computes="bf16")
    with pytest.raises(BackendError, match="^OpenVINO computes in bf16, not in f32: "):
        open_backend(RunOptions(toy, backend="openvino"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_processor_without_it_is_one_sentence(toy: str, processor: Any, precision: str) -> None:
    core = processor("WINOGRAD")  # AVX-512, on which OpenVINO would emulate bfloat16
    with pytest.raises(BackendError) as refused:
        open_backend(RunOptions(toy, backend="openvino", precision=precision))
    sentence = f"this processor does not compute in {precision}"
    assert str(refused.value) == f"{sentence}: set precision to auto"
    opened = open_backend(RunOptions(toy, precision=precision))
    assert (opened.backend.name, opened.backend.precision) == ("onnxruntime", "fp32")
    assert opened.warning.startswith("running fp32 on the CPU instead of what was requested: ")
    assert opened.warning.endswith(sentence)
    assert core.given == []


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_quantised_file_is_not_converted(tmp_path: Path, processor: Any, precision: str) -> None:
    processor("BF16", "FP16")
    quantised = str(write_quantized(tmp_path / "toy_int8.onnx"))
    with pytest.raises(BackendError, match=f"holds int8 weights, not {precision}: set precision"):
        open_backend(RunOptions(quantised, backend="openvino", precision=precision))


@pytest.fixture
def half(tmp_path: Path) -> str:
    return str(write_half(tmp_path / "toy_fp16.onnx"))


@pytest.mark.parametrize(
    ("ability", "precision", "hint", "computed"),
    [
        ("WINOGRAD", "auto", "f32", "fp32"),
        ("WINOGRAD", "fp16", "f32", "fp32"),
        ("WINOGRAD", "fp32", "f32", "fp32"),
        ("FP16", "auto", "f16", "fp16"),
        ("FP16", "fp16", "f16", "fp16"),
        ("FP16", "fp32", "f32", "fp32"),
        ("BF16", "bf16", "bf16", "bf16"),
        ("BF16", "auto", "f32", "fp32"),
    ],
)
def test_an_fp16_file_is_reported_in_what_openvino_computes(
    half: str, processor: Any, ability: str, precision: str, hint: str, computed: str
) -> None:
    core = processor(ability)
    opened = open_backend(RunOptions(half, backend="openvino", precision=precision))
    assert core.given[-1]["INFERENCE_PRECISION_HINT"] == hint
    assert opened.backend.precision == computed
    told = "fp16 was requested, but openvino computes in fp32 here" if precision == "fp16" else ""
    assert opened.warning == (told if computed == "fp32" else "")


def test_an_fp16_file_in_bfloat16_needs_a_processor_that_has_it(half: str, processor: Any) -> None:
    processor("WINOGRAD")
    with pytest.raises(BackendError, match="this processor does not compute in bf16: set precisi"):
        open_backend(RunOptions(half, backend="openvino", precision="bf16"))


@pytest.mark.parametrize("has_half", [False, True])
def test_an_fp16_file_is_reported_in_what_onnx_runtime_computes(
    half: str, monkeypatch: pytest.MonkeyPatch, has_half: bool
) -> None:
    """Only its kernels for ARM processors with FP16 compute in it."""
    monkeypatch.setattr(onnxruntime_backend, "computes_half", lambda: has_half)
    options = RunOptions(half, backend="onnxruntime")
    assert open_backend(options).backend.precision == ("fp16" if has_half else "fp32")
    told = open_backend(options.change(precision="fp16")).warning
    assert told == ("" if has_half else "fp16 was requested, but onnxruntime computes in fp32 here")
    single = options.change(precision="fp32")
    if has_half:
        with pytest.raises(BackendError, match="holds fp16 weights, not fp32: set precision"):
            open_backend(single)
    else:
        assert open_backend(single).backend.precision == "fp32"
    with pytest.raises(BackendError, match="holds fp16 weights, not bf16: set precision to auto"):
        open_backend(options.change(precision="bf16"))


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_an_fp16_file_runs_with_auto(half: str, processor: Any, precision: str) -> None:
    processor("WINOGRAD")
    opened = open_backend(RunOptions(half, precision=precision))
    assert (opened.backend.precision, opened.warning) == ("fp32", "")


@pytest.mark.parametrize(
    ("lines", "is_there"),
    [
        ("flags\t\t: fpu avx512_fp16 amx_fp16", False),  # ONNX Runtime has no kernels for them
        ("Features\t: fp asimd evtstrm aes crc32", False),
        ("Features\t: fp asimd evtstrm fphp asimdhp cpuid", True),
        ("", False),
    ],
)
def test_processors_with_fp16_are_known(
    monkeypatch: pytest.MonkeyPatch, lines: str, is_there: bool
) -> None:
    monkeypatch.setattr(processor_module, "kernel_text", lambda path: f"processor\t: 0\n{lines}\n")
    processor_module.computes_half.cache_clear()
    assert processor_module.computes_half() == is_there
    processor_module.computes_half.cache_clear()


def test_onnx_runtime_has_no_kernels_for_fp16_on_x86(half: str, tmp_path: Path) -> None:
    """It converts the weights, and computes in FP32."""
    if platform.machine() != "x86_64":
        pytest.skip("for x86-64")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(half, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    halves = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    assert not [node for node in graph.node if halves.intersection(node.input)]


def test_this_machine_computes_in_fp32(toy: str) -> None:
    """As OpenVINO itself says of the network that was opened."""
    core = openvino_backend._core()
    network = core.compile_model(toy, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert network.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert open_backend(RunOptions(toy, backend="openvino")).backend.precision == "fp32"


@pytest.mark.parametrize("name", ["yolo_fastest", "yolo_ret_m075"])
def test_rounding_to_bfloat16_is_within_its_tolerance(name: str, tmp_path: Path) -> None:
    rounding = write_rounding(tmp_path / "rounding.onnx", name)
    exact, rounded = (
        open_backend(RunOptions(model, backend="onnxruntime")).backend for model in (name, rounding)
    )
    letterbox = Letterbox(exact.input[0], exact.card.resize)
    tolerance, total = TOLERANCES["bf16"], Agreement()
    for image in sample_images():
        letterbox(image, "bgr")
        rounded.input[:] = exact.input
        total += compare(rounded.run(), exact.run(), tolerance)
    assert total.suffices(tolerance)
    assert not (total.pixels < 0.1 and total.score < 0.01)  # it did round


class Fixed:
    """A backend that finds the same box in every image."""

    def __init__(self, side: int, right: float) -> None:
        self.card = find_model("yolo_fastest").card
        self.input = np.zeros((1, side, side, 3), np.uint8)
        boxes, scores = np.float32([[[0, 0, right, 9]]]), np.float32([[0.9]])
        self.run = lambda images=1: (boxes, scores, np.int32([[0]]))


@pytest.mark.parametrize(
    ("side", "difference", "agrees"),
    [(160, 0.4, True), (160, 0.6, False), (320, 0.6, False), (1280, 1.9, True), (1280, 2.1, False)],
)
def test_boxes_of_a_larger_input_may_differ_by_more(
    side: int, difference: float, agrees: bool
) -> None:
    """In FP16 only 0.6 of the default model's boxes were within half a pixel at 1280 x 1280."""
    exact, half = Fixed(side, 100), Fixed(side, 100 + difference)
    found = compare_on_samples(half, exact, TOLERANCES["fp16"])  # type: ignore[arg-type]
    assert found.compared > 0
    assert found.agreeing == found.compared * agrees
