# SPDX-License-Identifier: Apache-2.0
"""The number format that a network computes in on the CPU, on processors of every kind.

OpenVINO's core is the real one; what it says about the processor and about the opened network is
that of another machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bfloat16_graph import write_rounding
from toy_model import write_quantized

from compact_yolo_ros.backends import BackendError, RunOptions, choice, open_backend
from compact_yolo_ros.backends import openvino as openvino_backend
from compact_yolo_ros.backends.agreement import TOLERANCES, Agreement, compare
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
    for image in sample_images()[::2]:
        letterbox(image, "bgr")
        rounded.input[:] = exact.input
        total += compare(rounded.run(), exact.run(), tolerance)
    assert total.suffices(tolerance)
    assert not (total.pixels < 0.1 and total.score < 0.01)  # it did round
