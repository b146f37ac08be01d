# SPDX-License-Identifier: Apache-2.0
"""The TensorRT backend against a double of TensorRT and pycuda (test/doubles): no GPU is involved.

Every test runs as TensorRT 8.6, 10 and 11. The computed numbers come from ONNX Runtime; what is
tested is that the calls are right, and what the package makes of the answers.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from skimage import data
from toy_model import CARD, write_altered, write_quantized, write_toy_model

from compact_yolo_ros.backends import (
    Backend,
    BackendError,
    BackendLost,
    MissingEngine,
    Opened,
    RunOptions,
    choice,
    comparison,
    open_backend,
    open_if_built,
)
from compact_yolo_ros.backends import engine_build as build_module
from compact_yolo_ros.backends.agreement import TOLERANCES
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.backends.engine_build import main as build_engine
from compact_yolo_ros.backends.tensorrt import cuda as cuda_module
from compact_yolo_ros.backends.tensorrt import plan as plan_module
from compact_yolo_ros.backends.tensorrt import run as run_module
from compact_yolo_ros.backends.tensorrt.cache import EngineCache, engine_key
from compact_yolo_ros.backends.tensorrt.inspector import precision_shares
from compact_yolo_ros.backends.tensorrt.plan import BuildProgress
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.sample_images import sample_images
from compact_yolo_ros.ros.diagnostics.report import backend_facts

REAL_MODEL = "yolo_fastest"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy_model(tmp_path_factory.mktemp("models") / "toy.onnx"))


@pytest.fixture(scope="module")
def few_images() -> list[np.ndarray]:
    return sample_images()[:4]


@pytest.fixture(autouse=True)
def _compared_on_few_images(few_images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests here open an engine, which is checked then; four images show a wrong one, too."""
    monkeypatch.setattr(comparison, "sample_images", lambda: few_images)


Open = Callable[..., Backend]


@pytest.fixture
def chosen(trt: Any, toy: str) -> Iterator[Callable[..., Opened]]:
    """Open the toy detector with TensorRT, and say why; closed in the end."""
    backends = []

    def begin(model: str = toy, **arguments: Any) -> Opened:
        found = open_backend(options_of(model, **arguments))
        backends.append(found.backend)
        return found

    yield begin
    for backend in backends:
        backend.close()


@pytest.fixture
def opened(chosen: Callable[..., Opened]) -> Open:
    """Open the toy detector with TensorRT."""
    return lambda *arguments, **options: chosen(*arguments, **options).backend


def options_of(model: str, **arguments: Any) -> RunOptions:
    return RunOptions(model, **{"backend": "tensorrt", **arguments})


def missing(model: str, **arguments: Any) -> str:
    """Why the engine is missing; empty if it is there."""
    found = open_if_built(options_of(model, **arguments))
    if isinstance(found, MissingEngine):
        return found.reason
    found.backend.close()
    return ""


def scene(side: int = 320) -> np.ndarray:
    return cv2.resize(data.astronaut(), (side, side))


def engines(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "compact_yolo_ros" / "engines").glob("*.engine"))


def test_it_returns_what_onnx_runtime_returns(opened: Open) -> None:
    gpu, cpu = opened(REAL_MODEL), opened(REAL_MODEL, backend="onnxruntime", threads=1)
    for image in (scene(), np.full((320, 320, 3), 90, np.uint8), scene()[::-1]):
        gpu.input[0] = cpu.input[0] = image
        for found, expected in zip(gpu.run(), cpu.run(), strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_an_engine_with_labels_outside_of_the_classes_is_refused(
    opened: Open, tmp_path: Path
) -> None:
    path = write_altered(tmp_path / "odd.onnx", "labels", "Add", np.asarray(np.int32(7)))
    with pytest.raises(BackendError, match="labels from 7 to 9, but its card names 3 classes"):
        opened(path)


def test_the_input_is_page_locked_memory_allocated_once(opened: Open) -> None:
    backend = opened()
    before = backend.input.ctypes.data
    answers = [backend.run()[0].ctypes.data for _ in range(3)]
    assert backend.input.ctypes.data == before
    assert len(set(answers)) == 1


def test_nothing_is_allocated_after_opening(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = tuple(map(Size.square, (288, 320, 416)))
    backend = opened(input_sizes=sizes, batch=2)
    driver = importlib.import_module("pycuda.driver")
    assert len(driver.streams) == 1
    with monkeypatch.context() as closed:
        for name in ("pagelocked_empty", "mem_alloc", "Stream", "Event"):
            closed.delattr(driver, name)
        for size in sizes:
            backend.resize(size)
            for images in (1, 2):
                backend.run(images)


def test_a_detector_finds_the_same_squares_with_it(trt: Any, toy: str) -> None:
    detector = Detector.open(options_of(toy), selection=Selection(score_threshold=0.9))
    image = np.zeros((480, 640, 3), np.uint8)
    image[80:112, 160:192] = (255, 0, 0)
    np.testing.assert_allclose(
        detector.detect(image, "rgb").boxes, [[160, 80, 192, 112]], atol=1e-3
    )
    detector.close()


def test_it_is_opened_in_one_thread_and_run_and_closed_in_others(trt: Any, toy: str) -> None:
    backend = open_backend(options_of(toy)).backend
    backend.input[0] = 255
    scores = []
    for work in (lambda: scores.append(backend.run()[1][0, 0]), backend.close):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(60)
    assert scores == [pytest.approx(1.0, abs=1e-3)]


def test_the_gpu_is_known_for_its_power_once_it_is_opened(trt: Any, opened: Open) -> None:
    assert cuda_module.opened_gpu() is None
    opened()
    gpu = cuda_module.opened_gpu()
    assert gpu is not None and gpu.bus_id == "0000:AF:00.0"


def test_no_context_stays_behind_on_the_calling_thread(trt: Any, opened: Open) -> None:
    opened().run()
    driver = importlib.import_module("pycuda.driver")
    with pytest.raises(driver.LogicError):
        driver.mem_alloc(1)


@pytest.mark.parametrize(("given", "used"), [(None, "LAZY"), ("EAGER", "EAGER")])
def test_kernels_are_loaded_when_they_are_needed_unless_the_user_says_otherwise(
    opened: Open, trt: Any, monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
) -> None:
    """The driver reads it when it is initialised."""
    monkeypatch.setenv("CUDA_MODULE_LOADING", given or "")
    if given is None:
        monkeypatch.delenv("CUDA_MODULE_LOADING")
    driver = importlib.import_module("pycuda.driver")
    seen, begin = [], driver.init
    monkeypatch.setattr(
        driver, "init", lambda: seen.append(os.environ.get("CUDA_MODULE_LOADING")) or begin()
    )
    opened()
    assert seen and set(seen) == {used}


def test_the_parts_of_a_run_are_timed(opened: Open) -> None:
    backend = opened()
    backend.run()
    assert set(backend.device_times) == {"copy_in", "compute", "copy_out"}
    assert all(seconds > 0 for seconds in backend.device_times.values())


@pytest.mark.parametrize("size", [Size(320, 320), Size(416, 416), Size(384, 288)])
def test_each_size_has_an_engine_of_its_own(opened: Open, tmp_path: Path, size: Size) -> None:
    assert opened(input_sizes=(size,)).input.shape == (1, *size.shape, 3)
    opened(input_sizes=((352, 352),))
    assert len(engines(tmp_path)) == 2


def test_several_sizes_are_open_at_once_with_an_engine_each(
    opened: Open, tmp_path: Path, toy: str
) -> None:
    sizes = tuple(map(Size.square, (320, 288, 416)))
    opened(input_sizes=sizes[:1])
    reason = missing(toy, input_sizes=sizes)
    assert reason.startswith("there is no engine yet for toy.onnx on ")
    assert reason.endswith(" at 288x288")
    backend = opened(input_sizes=sizes)
    assert set(backend.sizes) == set(sizes)
    assert len(engines(tmp_path)) == 3
    for side, _ in sizes * 2:
        backend.resize(Size.square(side))
        assert backend.input.shape == (1, side, side, 3)
        backend.input[0] = 0
        backend.input[0, side - 16 :, side - 16 :] = 255
        boxes, scores, _ = backend.run()
        np.testing.assert_allclose(boxes[0, 0], [side - 16, side - 16, side, side])
        assert scores[0, 0] == pytest.approx(1, abs=1e-3)


def test_a_batch_runs_with_any_number_of_images_up_to_its_size(opened: Open) -> None:
    backend = opened(batch=3)
    backend.input[:] = np.array([64, 128, 255], np.uint8)[:, None, None, None]
    for images in (3, 1, 2):
        boxes, scores, labels = backend.run(images)
        assert len(boxes) == len(scores) == len(labels) == images
        expected = np.array([64, 128, 255])[:images] / 255
        np.testing.assert_allclose(scores[:, 0], expected, atol=1e-3)
    with pytest.raises(BackendError, match="does not take 0 images"):
        backend.run(0)


@pytest.mark.parametrize("model", ["toy", REAL_MODEL])
def test_fp16_is_made_from_an_fp32_file_and_found_in_the_engine(
    chosen: Callable[..., Opened], toy: str, model: str
) -> None:
    path = toy if model == "toy" else model
    as_half, as_single = chosen(path, precision="fp16"), chosen(path)
    half, single = as_half.backend, as_single.backend
    assert (half.precision, as_half.warning) == ("fp16", "")
    assert (single.precision, as_single.warning) == ("fp32", "")
    half.input[0] = single.input[0] = scene()
    best = single.run()[1][0] > 0.2
    for found, expected in zip(half.run(), single.run(), strict=True):
        np.testing.assert_allclose(found[0, best], expected[0, best], atol=0.5, rtol=0.02)


def test_decoding_stays_fp32_where_tensorrt_may_choose(
    opened: Open, trt: Any, tmp_path: Path
) -> None:
    opened(REAL_MODEL, precision="fp16", input_sizes=((160, 160),))
    plan = engines(tmp_path)[0].read_bytes().partition(trt.PLAN_MARK)[2]
    facts = json.loads(plan.partition(b"\n")[0])
    if trt.MAJOR >= 10:  # the graph says it
        assert not facts["exact"]
        return
    assert {"boxes", "scores"} <= set(facts["exact"])
    assert not any("/detector/" in name for name in facts["exact"])


def test_fp32_is_not_tf32(opened: Open, tmp_path: Path) -> None:
    opened()
    (engine,) = engines(tmp_path)
    assert b'"flags": []' in engine.read_bytes()  # the builder flags, in the double's plan


def test_kernels_of_libraries_that_are_absent_are_left_out(
    opened: Open, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_is_loadable", lambda name: name == "libcudnn")
    opened()
    own, cudnn = 0b11000, 0b00100
    wanted = own | cudnn if trt.MAJOR == 8 else 0b11111  # later versions use their own only
    assert f'"sources": {wanted}'.encode() in engines(tmp_path)[0].read_bytes()


@pytest.mark.parametrize("trt", ["8.5.3"], indirect=True)
@pytest.mark.parametrize(("capability", "rules"), [("9.0", True), ("8.7", True), ("7.2", False)])
def test_tensorrt_8_5_tries_few_convolutions_and_compiles_none(
    trt: Any,
    opened: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    rules: bool,
) -> None:
    monkeypatch.setattr(cuda_module.gpu(), "compute_capability", capability)
    monkeypatch.setattr(plan_module, "_is_loadable", lambda name: True)
    opened()
    content = engines(tmp_path)[0].read_bytes()
    assert b'"sources": 15' in content  # all but JIT_CONVOLUTIONS
    assert (b'"ENABLE_TACTIC_HEURISTIC"' in content) == rules


def test_an_int8_file_gives_an_int8_engine(chosen: Callable[..., Opened], tmp_path: Path) -> None:
    found = chosen(str(write_quantized(tmp_path / "toy_int8.onnx")))
    assert (found.backend.precision, found.warning) == ("int8", "")


@pytest.mark.parametrize("trt", ["8.5.3", "8.6.1"], indirect=True)
def test_bounds_of_a_clip_before_a_quantizer_are_no_steps(trt: Any) -> None:
    """TensorRT 8.5.3 took them for steps, on a GPU: the engine found nothing."""
    options = options_of("yolo_ret_m075_int8", input_sizes=(Size(224, 224),))
    with closing(open_backend(options).backend) as backend:
        exact = options.change(backend="onnxruntime")
        with closing(open_backend(exact).backend) as reference:
            found = compare_on_samples(backend, reference, TOLERANCES["fp32"])
    assert found.compared > 20 and found.suffices(TOLERANCES["fp32"])


def test_an_int8_file_that_cannot_be_made_into_an_engine_is_named(
    opened: Open, trt: Any, tmp_path: Path
) -> None:
    """Not as a driver that is too old, which the lines of TensorRT would say."""
    path = write_quantized(tmp_path / "toy_int8.onnx")
    model = onnx.load(path)
    (scale,) = (tensor for tensor in model.graph.initializer if tensor.name == "scale")
    kernel = onnx.numpy_helper.from_array(np.zeros((2, 2), np.int8), "kernel")
    kernel.dims[0] = 3
    node = onnx.helper.make_node("DequantizeLinear", ["kernel", scale.name], ["unread"])
    model.graph.initializer.append(kernel)
    model.graph.node.append(node)
    path.write_bytes(model.SerializeToString())
    if int(trt.__version__.partition(".")[0]) >= 10:
        return  # it takes INT8 constants as they are
    sentence = "toy_int8.onnx cannot be made into an engine: the constant kernel has other values"
    with pytest.raises(BackendError, match=sentence):
        opened(str(path))


def test_an_engine_that_answers_otherwise_than_its_model_is_refused_and_not_built_again(
    opened: Open, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of TensorRT 8.5 in INT8, which found nothing on a GPU."""
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", "1")
    sentence = (
        r"the fp16 engine that TensorRT built of yolo_fastest\.onnx is wrong: it has 0 of the \d+ "
        r"candidates above 0\.1 that ONNX Runtime finds in sample images: set backend to onnx.*"
    )
    with pytest.raises(BackendError, match=sentence):
        opened(REAL_MODEL, precision="fp16")
    assert not engines(tmp_path)
    assert "no engine yet" in missing(REAL_MODEL, precision="fp16")
    monkeypatch.delenv("TENSORRT_DOUBLE_WRONG")
    with monkeypatch.context() as unbuilt:
        unbuilt.setattr(run_module, "build_plan", None)
        with pytest.raises(BackendError, match=f"{sentence}; to build .* remove ") as refused:
            opened(REAL_MODEL, precision="fp16")
    Path(str(refused.value).rpartition("remove ")[2]).unlink()
    opened(REAL_MODEL, precision="fp16")
    assert len(engines(tmp_path)) == 1


REFUSED, RIGHT = Size.square(288), Size.square(320)


@pytest.mark.parametrize("sizes", [(REFUSED, RIGHT), (RIGHT, REFUSED)])
def test_a_size_whose_engine_is_refused_runs_on_the_cpu_and_the_others_on_the_gpu(
    chosen: Callable[..., Opened],
    toy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sizes: tuple[Size, Size],
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", "288")
    wanted: dict[str, Any] = {"precision": "fp16", "input_sizes": sizes, "batch": 2, "in_flight": 2}
    for _ in range(2):  # built, and opened again
        found = chosen(toy, **wanted)
        assert found.warning.startswith(
            "running on the CPU at 288x288: the fp16 engine that TensorRT built of toy.onnx is "
        )
        assert [engine.name[:12] for engine in engines(tmp_path)] == ["toy-320x320-"]
        backend = found.backend
        assert (backend.name, set(backend.sizes)) == ("tensorrt", set(sizes))
        assert not np.isfinite(backend.sizes[REFUSED])  # no way down for a governor
        for size, precision in ((REFUSED, "fp32"), (RIGHT, "fp16")) * 2:
            backend.resize(size)
            assert (backend.precision, backend.input.shape) == (precision, (2, *size.shape, 3))
            corners = 16, size.width - 16
            for corner in corners:  # two runs under way
                backend.input[0] = 0
                backend.input[0, corner - 16 : corner, corner - 16 : corner] = 255
                backend.start(1)
            for corner in corners:
                boxes, scores, _ = backend.finish()
                np.testing.assert_allclose(boxes[0, 0], [corner - 16] * 2 + [corner] * 2)
                assert scores[0, 0] > 0.9
                assert set(backend.device_times) == {"copy_in", "compute", "copy_out"}
                assert backend.device_times["compute"] > 0
    assert not missing(toy, **wanted)


def test_a_refused_engine_is_no_reason_to_wait_for_others(
    chosen: Callable[..., Opened], toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size that is refused does not hide that another one is missing."""
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", "288")
    with pytest.raises(BackendError, match="is wrong"):
        chosen(toy, input_sizes=(REFUSED,))
    assert missing(toy, input_sizes=(REFUSED,)).endswith(" at 288x288")
    assert missing(toy, input_sizes=(REFUSED, RIGHT)).endswith(" at 320x320")


@pytest.mark.parametrize("wrong", ["1", "8"])
def test_an_engine_that_is_wrong_for_one_number_of_images_is_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", wrong)
    with pytest.raises(BackendError, match="is wrong"):
        opened(REAL_MODEL, batch=8, input_sizes=((160, 160),))


def test_an_engine_whose_objects_no_sample_shows_is_taken(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "sample_images", lambda: [scene() * 0])
    opened()
    assert len(engines(tmp_path)) == 1


def test_a_precision_that_was_not_reached_is_told(
    chosen: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_ENGINE_PRECISION", "fp32")
    found = chosen(precision="fp16")
    assert found.backend.precision == "fp32"
    assert found.warning == "fp16 was requested, but 100% of the engine's values are fp32"


def test_precision_is_weighed_by_values_and_understood_in_either_wording() -> None:
    def layer(*outputs: tuple[str, list[int]]) -> str:
        tensors = [
            f'{{"Dimensions": {size}, "Format/Datatype": "{said}"}}' for said, size in outputs
        ]
        return f'{{"Name": "x", "Outputs": [{", ".join(tensors)}]}}'

    layers = [
        layer(("Channel major FP16 format where channel % 8 == 0", [1, 60, 10, 10])),
        layer(("Half", [1, 30, 10, 10]), ("UInt8", [1, 999, 10, 10]), ("Int32", [7])),
        layer(("Row major linear FP32", [1, 5, 10, 10]), ("Float", [1, 5, 10, 10])),
        '"a layer without detail"',
    ]
    shares = precision_shares(f'{{"Layers": [{", ".join(layers)}], "Bindings": []}}')
    assert shares == {"fp16": 0.9, "fp32": 0.1}
    assert precision_shares('{"Layers": [{"Name": "x", "Weights": nan') == {}
    assert precision_shares('{"Layers": ["a\nb", {"Outputs": [{"Format/Datatype": "Half"}]}]}') == {
        "fp16": 1
    }


def test_precision_is_weighed_by_weights_where_the_shapes_may_vary() -> None:
    """In the words of TensorRT 8.5.3 for an engine of one to eight images."""
    unknown = [
        {"Name": "x", "Dimensions": [-1, 32, 8, 8], "Format/Datatype": "N/A due to dynamic shapes"}
    ]
    layers = [
        {"LayerType": "Shuffle", "Outputs": unknown},
        {
            "LayerType": "CaskConvolution",
            "Outputs": unknown,
            "Weights": {"Type": "Half", "Count": 900},
        },
        {
            "LayerType": "CaskConvolution",
            "Outputs": unknown,
            "Weights": {"Type": "Float", "Count": 100},
        },
    ]
    assert precision_shares(json.dumps({"Layers": layers})) == {"fp16": 0.9, "fp32": 0.1}
    told = {"Dimensions": [9, 32, 8, 8], "Format/Datatype": "Row major linear FP32"}
    layers[0]["Outputs"] = [told]
    assert precision_shares(json.dumps({"Layers": layers})) == {"fp32": 1.0}, "outputs count first"
    layers[0]["Outputs"] = [{**told, "Dimensions": [1]}]
    assert precision_shares(json.dumps({"Layers": layers})) == {"fp16": 0.9, "fp32": 0.1}


@pytest.mark.parametrize(
    "layers",
    [
        None,
        [{"Outputs": None}],
        [{"Outputs": ["boxes"]}],
        [{"Outputs": [{"Format": "Half", "Dimensions": ["N", 300]}]}],
        [{"Weights": {"Type": "Half", "Count": None}}],
    ],
)
def test_a_report_in_another_form_says_nothing(layers: Any) -> None:
    """As a later version may write it: the engine works all the same."""
    assert precision_shares(json.dumps({"Layers": layers})) == {}


def test_an_inspector_that_fails_with_the_shapes_is_asked_without_them(
    chosen: Callable[..., Opened], trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trt.EngineInspector.get_engine_information

    def told(inspector: Any, format: Any) -> str | None:
        if inspector.execution_context is not None:
            return None
        inspector.execution_context = object()
        return asked(inspector, format)

    monkeypatch.setattr(trt.EngineInspector, "get_engine_information", told)
    found = chosen(precision="fp16")
    assert (found.backend.precision, found.warning) == ("fp16", "")


def test_a_file_of_another_precision_is_refused(opened: Open) -> None:
    with pytest.raises(BackendError, match="holds fp32 weights, not int8: set precision to auto"):
        opened(precision="int8")


def test_the_second_start_finds_the_engine(
    opened: Open, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no engine yet for toy.onnx on DOUBLE of a GPU" in missing(toy)
    opened()
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_FAILS", "1")
    assert not missing(toy)
    (engine,) = engines(tmp_path)
    assert engine.stat().st_mode & 0o077 == 0


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"something else entirely"),
        lambda path: path.chmod(0o666),
    ],
    ids=["damaged", "cut off", "empty", "foreign", "writable by others"],
)
def test_an_engine_file_that_cannot_be_trusted_is_built_anew(
    opened: Open, toy: str, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    opened()
    (engine,) = engines(tmp_path)
    whole = engine.read_bytes()
    spoil(engine)
    assert missing(toy)
    opened()
    assert engine.read_bytes() == whole
    assert not missing(toy)


def test_an_engine_that_tensorrt_refuses_is_built_anew(opened: Open, trt: Any, toy: str) -> None:
    model = find_model(toy)
    options = options_of(toy).resolved(model.card)
    key = engine_key(model, options, trt, cuda_module.gpu())
    EngineCache().store(key, b"undamaged, but no plan")
    assert missing(toy)
    opened()
    assert not missing(toy)


def test_another_gpu_needs_another_engine(
    opened: Open, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened()
    monkeypatch.setenv("CUDA_DOUBLE_NAME", "another GPU")
    cuda_module.gpu.cache_clear()
    assert missing(toy)
    assert opened().device == "another GPU"
    assert len(engines(tmp_path)) == 2


def test_a_changed_model_needs_another_engine(opened: Open, toy: str, tmp_path: Path) -> None:
    path = tmp_path / "toy.onnx"
    path.write_bytes(Path(toy).read_bytes())
    opened(str(path))
    card = dataclasses.replace(CARD, notes="trained a day longer")
    write_toy_model(path, card)
    assert missing(str(path))


def test_a_model_that_is_overwritten_while_its_engine_is_built_is_no_wrong_engine(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an export to the same place: a build takes minutes."""
    path, other = tmp_path / "toy.onnx", tmp_path / "other.onnx"
    before = write_toy_model(path).read_bytes()
    write_altered(other, "boxes", "Add", np.array(100, np.float32))
    build_plan = run_module.build_plan

    def overwriting(*arguments: Any) -> bytes:
        plan = build_plan(*arguments)
        path.write_bytes(other.read_bytes())
        return plan

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(run_module, "build_plan", overwriting)
        with pytest.raises(ModelError, match="toy.onnx has been overwritten while its engine was"):
            opened(str(path))
    assert not engines(tmp_path)
    path.write_bytes(before)
    opened(str(path))  # it was not remembered as wrong
    assert len(engines(tmp_path)) == 1


def test_an_engine_that_cannot_be_kept_still_runs(
    chosen: Callable[..., Opened], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    found = chosen()
    assert "cannot be kept" in found.warning
    found.backend.run()


def test_what_tensorrt_learnt_is_kept_for_the_next_build(opened: Open, tmp_path: Path) -> None:
    opened()
    (timing,) = (tmp_path / "cache").rglob("timing-*.cache")
    learnt = timing.read_bytes()
    opened(input_sizes=((352, 352),))
    assert timing.read_bytes().startswith(learnt)
    assert len(timing.read_bytes()) > len(learnt)
    timing.write_bytes(b"not a timing cache")  # it is only ignored
    opened(input_sizes=((416, 416),))


def test_progress_is_told_where_tensorrt_tells_it(
    trt: Any, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float | None] = []

    class Progress(BuildProgress):
        def __setattr__(self, name: str, value: float | None) -> None:
            seen.append(value)
            super().__setattr__(name, value)

    model = find_model(toy)
    found = open_tensorrt(model, options_of(toy).resolved(model.card), progress=Progress())
    assert isinstance(found, Opened)
    found.backend.close()
    if trt.MAJOR < 10:
        assert seen == [None]
    else:
        assert seen[1:] == sorted(seen[1:])
        assert seen[-1] == 1.0
        assert len(set(seen)) > 8


def test_phases_of_one_name_do_not_end_the_build(trt: Any) -> None:
    if trt.MAJOR < 10:
        pytest.skip("TensorRT 8 tells no progress")
    progress = BuildProgress()
    monitor = plan_module._monitor(trt, progress)
    monitor.phase_start("all", None, 2)
    for _ in range(2):
        monitor.phase_start("timing", "all", 4)
    for _ in range(2):
        monitor.phase_finish("timing")
    assert monitor.step_complete("timing", 3)
    assert progress.fraction is not None and progress.fraction < 1
    monitor.phase_finish("all")
    assert progress.fraction == 1


def test_a_failed_build_is_one_sentence(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_FAILS", "1")
    with pytest.raises(BackendError, match="TensorRT cannot build an engine of toy.onnx"):
        opened()


def test_a_graph_that_tensorrt_cannot_read_is_named(opened: Open, tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes().replace(b"AveragePool", b"AveragePoof"))
    with pytest.raises(BackendError, match="TensorRT cannot read cut.onnx: .*AveragePoof"):
        opened(str(path))


def test_a_full_gpu_is_one_sentence(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DOUBLE_NO_MEMORY", "1")
    with pytest.raises(BackendError, match="the GPU failed: .*out of memory"):
        opened()


@pytest.mark.parametrize("name", ["Builder", "Runtime"])
def test_a_tensorrt_that_does_not_find_cuda_is_one_sentence_and_the_cpu_works(
    opened: Open,
    chosen: Callable[..., Opened],
    trt: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    opened()  # both need the library, the second one the engine
    sizes = ((352, 352),) if name == "Builder" else ()

    def fail(logger: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, name, fail)
    with pytest.raises(BackendError, match=r"TensorRT does not work .*nullptr\): .*the driver"):
        opened(input_sizes=sizes)
    found = chosen(backend="auto", input_sizes=sizes)
    assert found.backend.name == "onnxruntime"
    assert "no TensorRT: TensorRT does not work" in found.choice


def test_what_failed_to_open_is_freed_in_its_context(
    opened: Open, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = importlib.import_module("pycuda.driver")
    before = len(driver.memory)
    monkeypatch.setattr(trt.IExecutionContext, "execute_async_v3", lambda *arguments: False)
    failures = []

    def fail() -> None:
        try:
            opened()
        except BackendError as error:
            failures.append(error)

    thread = threading.Thread(target=fail, daemon=True)
    thread.start()
    thread.join(60)
    assert len(driver.memory) == before  # although the exception is still held
    assert "could not run the engine" in str(failures)


def test_a_closed_backend_can_still_be_told_of(trt: Any, toy: str) -> None:
    found = open_backend(options_of(toy))
    found.backend.close()
    assert backend_facts(found)["input_size"] == "320x320"


def test_a_gpu_that_fails_in_a_run_is_one_sentence(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened()
    with monkeypatch.context() as failing:
        failing.setenv("CUDA_DOUBLE_LOST", "1")
        with pytest.raises(
            BackendLost, match="failed: cuGraphLaunch failed: CUDA_ERROR_LAUNCH_FAILED"
        ):
            backend.run()
    backend.run()


def test_a_dla_is_used_as_asked(opened: Open, toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="no DLA core 0: TensorRT .* sees 0 here: set dla_core"):
        opened(precision="fp16", dla_core=0)
    monkeypatch.setenv("TENSORRT_DOUBLE_DLA_CORES", "2")
    with pytest.raises(BackendError, match="DLA does not compute in fp32: set precision to fp16"):
        opened(dla_core=1)
    backend = opened(precision="fp16", dla_core=1, batch=2)
    assert backend.device == "DOUBLE of a GPU, DLA 1"
    assert not missing(toy, precision="fp16", dla_core=1, batch=2)
    with pytest.raises(BackendError, match="onnxruntime has no DLA"):
        opened(backend="onnxruntime", dla_core=0)


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_dla_runs_any_number_of_images_up_to_its_batch(
    opened: Open, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    """Its engine takes the whole batch only: what is in the other places is not answered."""
    monkeypatch.setenv("TENSORRT_DOUBLE_DLA_CORES", "1")
    backend = opened(precision="fp16", dla_core=0, batch=3, in_flight=in_flight)
    grey = np.array([64, 128, 255])
    backend.input[:] = grey[:, None, None, None]
    for images in (1, 2, 3, 1):
        boxes, scores, labels = backend.run(images)
        assert len(boxes) == len(scores) == len(labels) == images
        np.testing.assert_allclose(scores[:, 0], grey[:images] / 255, atol=1e-2)
        assert backend.device_times["compute"] > 0
    backend.start(2)
    assert [len(part) for part in backend.finish()] == [2, 2, 2]
    for images in (0, 4):
        with pytest.raises(BackendError, match=f"does not take {images} images"):
            backend.run(images)


def test_a_detector_answers_each_group_of_images_on_a_dla(
    trt: Any, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_DLA_CORES", "1")
    options = options_of(toy, precision="fp16", dla_core=0, batch=3)
    with closing(Detector.open(options)) as detector:
        image = np.zeros((320, 320, 3), np.uint8)
        image[32:48, 64:80] = 255
        expected = detector.detect(image)
        np.testing.assert_allclose(expected.boxes, [[64, 32, 80, 48]], atol=0.1)
        for images in (1, 2, 3, 4):
            answers = detector.answer_together([DecodedImage(image, "bgr")] * images)
            found = [detector.conclude(answer) for answer in answers]
            assert [each.boxes.tobytes() for each in found] == [expected.boxes.tobytes()] * images


def test_auto_takes_it_and_says_why(chosen: Callable[..., Opened]) -> None:
    found = chosen(backend="auto")
    assert (found.backend.name, found.warning) == ("tensorrt", "")
    assert found.choice == "the fastest that works here"
    assert chosen().choice == "as requested"


def test_auto_without_a_working_gpu_falls_back_and_warns_if_one_is_there(
    chosen: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_DOUBLE_NO_DEVICE", "1")
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path,))
    found = chosen(backend="auto", precision="fp16")
    assert (found.backend.name, found.backend.precision) == ("onnxruntime", "fp32")
    assert "no TensorRT: CUDA finds no GPU" in found.choice
    assert "the GPU is not used: CUDA finds no GPU" in found.warning
    with pytest.raises(BackendError, match="CUDA finds no GPU .*: check the driver"):
        chosen(backend="tensorrt")


def test_a_version_that_is_too_old_is_named(
    opened: Open, trt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt, "__version__", "8.2.1.8")
    with pytest.raises(BackendError, match="TensorRT 8.2.1.8 is too old: 8.5 or later"):
        opened()


def test_build_engine_leaves_engines_that_the_node_finds(
    opened: Open, trt: Any, toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build_engine(["--model", toy, "--precision", "fp16", "--input-size", "320", "352"]) == 0
    said = capsys.readouterr().out
    assert "toy 320x320 is ready in fp16 on DOUBLE of a GPU" in said
    assert "toy 352x352 is ready in fp16" in said
    assert len(engines(tmp_path)) == 2
    assert not missing(toy, precision="fp16", input_sizes=((352, 352),))


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        ("TENSORRT_DOUBLE_WRONG", "the fp16 engine that TensorRT built of toy.onnx is wrong"),
        ("TENSORRT_DOUBLE_BUILD_FAILS", "TensorRT cannot"),
    ],
)
def test_build_engine_builds_the_other_sizes_if_one_cannot_be_built(
    opened: Open,
    toy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    switch: str,
    reason: str,
) -> None:
    monkeypatch.setenv(switch, "352")
    sizes = ["--input-size", "352x352", "320x320", "288x288"]
    assert build_engine(["--model", toy, "--precision", "fp16", *sizes]) == 1
    said = capsys.readouterr()
    assert "toy 320x320 is ready" in said.out and "toy 288x288 is ready" in said.out
    assert f"build_engine: 352x352: {reason}" in said.err
    assert len(engines(tmp_path)) == 2


def test_engines_of_several_sizes_are_of_one_file(opened: Open, tmp_path: Path) -> None:
    toy = write_toy_model(tmp_path / "toy.onnx")

    def overwrite(line: str) -> None:
        if "320x320 is ready" in line:
            write_toy_model(toy, dataclasses.replace(CARD, parameters=1))

    options = RunOptions(str(toy), precision="fp16", input_sizes=((320, 320), (352, 352)))
    with pytest.raises(ModelError, match="toy.onnx has been overwritten"):
        build_module.build_engines(options, overwrite)


def test_build_engine_means_the_same_folder_as_the_node(
    opened: Open, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build_engine(["--model", toy, "--engine-cache", "~/engines"]) == 0
    assert not missing(toy, engine_cache="~/engines")


def test_build_engine_tells_how_far_it_is(
    trt: Any, toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_module, "PERIOD", 0.05)
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_SECONDS", "0.5")
    assert build_engine(["--model", toy]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("building")]
    assert len(lines) > 2
    assert ("%" in lines[-1]) == (trt.MAJOR >= 10)


def test_nothing_is_built_that_cannot_be_kept(
    opened: Open,
    toy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(run_module, "build_plan", None)
    assert build_engine(["--model", toy, "--engine-cache", str(tmp_path / "file")]) == 1
    sentence = f"engines cannot be kept in {tmp_path / 'file'} (File exists): set engine_cache to"
    assert sentence in capsys.readouterr().err


def test_an_engine_that_was_not_kept_is_none(
    opened: Open, toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(cache: EngineCache, key: object, plan: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EngineCache, "store", full)
    assert build_engine(["--model", toy]) == 1
    assert "cannot be kept for next time: [Errno 28] No space left" in capsys.readouterr().err


def test_ctrl_c_ends_build_engine_at_once(
    trt: Any, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_SECONDS", "900")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(trt.__file__).parent), *sys.path]))
    command = [sys.executable, "-m", "compact_yolo_ros.backends.engine_build", "--model", toy]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as build:
        assert build.stdout is not None
        build.stdout.readline()  # it is building
        build.send_signal(signal.SIGINT)
        _, said = build.communicate(timeout=30)
    assert build.returncode == -signal.SIGINT
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--batch", "0"], "a batch of 0 images"),
        (["--precision", "int8"], "holds fp32 weights, not int8"),
        (["--model", "nowhere.onnx"], "there is no model file"),
    ],
)
def test_build_engine_explains_what_is_wrong(
    trt: Any, toy: str, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert build_engine(["--model", toy, *arguments]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("build_engine: ")]
    assert sentence in line
