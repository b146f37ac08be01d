# SPDX-License-Identifier: Apache-2.0
"""The CPU backends that are installed here, side by side, and what is said about missing ones.

Tolerance between backends in FP32: 0.05 pixels and 0.001 of score, for the candidates that any
threshold in use would keep.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from skimage import data
from toy_model import CARD, write_toy_model

from compact_yolo_ros.backends import (
    Backend,
    BackendError,
    Opened,
    RunOptions,
    choice,
    open_backend,
)
from compact_yolo_ros.backends import libraries as installing
from compact_yolo_ros.backends.fp16_graph import to_half
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.model.stored_weights import with_plain_weights
from compact_yolo_ros.support.pip import pip_line

ROOT = Path(__file__).parents[2]
REAL_MODEL, SMALL_MODEL = "yolo_ret_m075", "yolo_fastest"
PIXELS, SCORE = 0.05, 1e-3
LOWEST_SCORE = 0.05


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy_model(tmp_path_factory.mktemp("models") / "toy.onnx"))


def open_cpu(name: str, model: str, **arguments: Any) -> Backend:
    if name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
    return opened_on_cpu(name, model, **arguments).backend


def opened_on_cpu(name: str, model: str, **arguments: Any) -> Opened:
    return open_backend(RunOptions(model, backend=name, threads=1, **arguments))


@pytest.mark.parametrize("size", [(224, 224), (320, 320), (416, 416), (320, 256)])
def test_openvino_finds_what_onnx_runtime_finds(size: tuple[int, int]) -> None:
    found_by = open_cpu("openvino", REAL_MODEL, input_sizes=(size,))
    expected_by = open_cpu("onnxruntime", REAL_MODEL, input_sizes=(size,))
    for picture in (data.astronaut(), data.coffee()):
        image = cv2.resize(picture, size)
        found_by.input[0] = expected_by.input[0] = image
        boxes, scores, labels = (part[0] for part in found_by.run())
        wanted_boxes, wanted_scores, wanted_labels = (part[0] for part in expected_by.run())
        kept = wanted_scores > LOWEST_SCORE
        assert kept.any()
        np.testing.assert_allclose(scores[kept], wanted_scores[kept], atol=SCORE)
        np.testing.assert_allclose(boxes[kept], wanted_boxes[kept], atol=PIXELS)
        np.testing.assert_array_equal(labels[kept], wanted_labels[kept])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_contract_of_a_backend(name: str, toy: str) -> None:
    opened = opened_on_cpu(name, toy)
    backend = opened.backend
    assert (backend.name, backend.device, backend.precision) == (name, "CPU", "fp32")
    assert (backend.threads, opened.choice, opened.warning) == (1, "as requested", "")
    assert backend.card == CARD
    assert backend.input.shape == (1, 320, 320, 3) and not backend.input.any()
    backend.input[0, 32:48, 64:80] = (0, 255, 0)
    boxes, scores, labels = backend.run()
    assert (boxes.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int32)
    assert (boxes.shape, scores.shape, labels.shape) == ((1, 300, 4), (1, 300), (1, 300))
    np.testing.assert_allclose(boxes[0, 0], [64, 32, 80, 48])
    assert scores[0, 0] == pytest.approx(1)
    assert CARD.classes[labels[0, 0]] == "green"
    backend.close()
    backend.close()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_path_may_have_any_letters(name: str, toy: str, tmp_path: Path) -> None:
    """Also those that are no UTF-8, as in the name of a home folder in Latin-1."""
    folder = tmp_path / os.fsdecode(b"J\xfcrgen's [own]\n")
    folder.mkdir()
    shutil.copy(toy, folder)
    backend = open_cpu(name, str(folder / Path(toy).name))
    backend.input[0, 32:48, 64:80] = (0, 255, 0)
    np.testing.assert_allclose(backend.run()[0][0, 0], [64, 32, 80, 48])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_batch_runs_with_any_number_of_images_up_to_its_size(name: str, toy: str) -> None:
    backend = open_cpu(name, toy, batch=3)
    backend.input[:] = np.array([64, 128, 255], np.uint8)[:, None, None, None]
    for images in (3, 1, 2):
        scores = backend.run(images)[1]
        expected = np.array([64, 128, 255])[:images] / 255
        np.testing.assert_allclose(scores[:, 0], expected, atol=1e-3)


SIZES = (Size(320, 320), Size(224, 224), Size(416, 256))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_several_sizes_are_open_at_once_and_find_what_each_would_alone(name: str) -> None:
    backend = open_cpu(name, SMALL_MODEL, input_sizes=SIZES)
    assert backend.input.shape == (1, *SIZES[0].shape, 3)
    assert set(backend.sizes) == set(SIZES)
    assert all(seconds > 0 for seconds in backend.sizes.values())
    places = set()
    each_alone = {size: open_cpu(name, SMALL_MODEL, input_sizes=(size,)) for size in SIZES}
    for size in SIZES * 2:
        alone = each_alone[size]
        assert alone.sizes == {size: 0}
        backend.resize(size)
        places.add(backend.input.ctypes.data)
        backend.input[0] = alone.input[0] = cv2.resize(data.astronaut(), size)
        for found, expected in zip(backend.run(), alone.run(), strict=True):
            best = alone.run()[1][0] > LOWEST_SCORE
            np.testing.assert_allclose(found[0][best], expected[0][best], atol=1e-3)
    assert len(places) == len(SIZES)  # taken once


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt"])
def test_a_missing_library_comes_with_the_line_that_installs_it(
    name: str, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    monkeypatch.setattr(installing, "JETSON_RELEASE", tmp_path / "none")
    with pytest.raises(BackendError, match=re.escape(f": {pip_line(name)}")):
        open_backend(RunOptions(toy, backend=name))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt"])
def test_a_broken_library_is_as_good_as_a_missing_one(
    name: str, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text("raise OSError('libx.so.1: wrong ELF class\\nand more')")
    with pytest.raises(BackendError, match=r"cannot be imported \(libx.so.1: wrong ELF class\): "):
        open_backend(RunOptions(toy, backend=name))


def test_on_a_jetson_tensorrt_comes_from_apt(
    toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(installing, "JETSON_RELEASE", tmp_path)
    with pytest.raises(BackendError, match="sudo apt install python3-libnvinfer"):
        open_backend(RunOptions(toy, backend="tensorrt"))


def test_auto_without_tensorrt_is_quiet_unless_there_is_a_gpu(
    toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path / "none",))
    opened = open_backend(RunOptions(toy))
    assert opened.backend.name == "onnxruntime"
    assert opened.choice.startswith("no TensorRT: TensorRT cannot be imported")
    assert opened.warning == ""
    for options in (RunOptions(toy, precision="fp16"), RunOptions(toy, dla_core=0)):
        warning = open_backend(options).warning
        assert warning.startswith("running fp32 on the CPU instead of what was requested: TensorRT")
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path,))
    assert "the GPU is not used: " in open_backend(RunOptions(toy)).warning


def test_auto_warns_of_an_int8_file_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path / "none",))
    path = write_toy_model(tmp_path / "toy_int8.onnx", dataclasses.replace(CARD, precision="int8"))
    opened = open_backend(RunOptions(str(path)))
    assert (opened.backend.name, opened.backend.precision) == ("onnxruntime", "int8")
    assert "slower than its fp32 file" in opened.warning
    assert opened_on_cpu("onnxruntime", str(path)).warning == ""  # as requested


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_memory_stays_as_it_is_after_the_first_images(name: str) -> None:
    backend = open_cpu(name, SMALL_MODEL, input_sizes=((160, 160), (192, 192)))
    sizes = itertools.cycle([Size.square(160)] * 9 + [Size.square(192)])

    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(200):  # the allocator takes a while to have all it needs
        backend.resize(next(sizes))
        backend.run()
    growths = []
    for _ in range(3):
        before = resident_pages()
        for _ in range(200):
            backend.resize(next(sizes))
            backend.run()
        growths.append((resident_pages() - before) * resource.getpagesize())
    # A leak of one set of answers an image is 0.9 to 3 MB each time, and 0 without.
    assert min(growths) < 0.4e6


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_run_that_fails_is_one_sentence(name: str, toy: str) -> None:
    backend: Any = open_cpu(name, toy)
    if name == "openvino":
        backend._tensors = [type(backend._tensors[0])(np.zeros((1, 64, 64, 3), np.uint8))]
    else:
        backend.input = np.zeros((1, 64, 64, 3), np.uint8)  # the toy needs more cells
    with pytest.raises(BackendError, match="^the run failed: [^\n]*$") as failed:
        backend.run()
    assert "src/" not in str(failed.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_batch_for_which_there_is_no_memory_is_one_sentence(name: str, toy: str) -> None:
    with pytest.raises(BackendError, match=r"cannot run .*toy\.onnx: Unable to allocate"):
        open_cpu(name, toy, batch=10**9)


def test_openvino_says_what_is_wrong_and_not_where_it_was_found(toy: str) -> None:
    pytest.importorskip("openvino")
    with pytest.raises(BackendError, match=r"toy.onnx: .*300.*axis dim"):
        open_backend(RunOptions(toy, backend="openvino", input_sizes=((224, 224),)))


SIGNALLED = """
import os, signal, sys
from compact_yolo_ros.backends import RunOptions, open_backend

signal.signal(signal.SIGTERM, lambda number, frame: print("heard"))
options = RunOptions(sys.argv[1], backend=sys.argv[2])
first, second = (open_backend(options).backend for _ in range(2))
first.close()
second.close()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_signals_are_heard_after_the_first_of_two_backends_went_first(name: str, toy: str) -> None:
    open_cpu(name, toy)
    command = [sys.executable, "-c", SIGNALLED, toy, name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


AFFINITIES = """
import os, sys
from compact_yolo_ros.backends import RunOptions, open_backend

backend = open_backend(RunOptions(sys.argv[1], backend=sys.argv[2], threads=2)).backend
backend.run()
allowed = os.sched_getaffinity(0)
print(all(os.sched_getaffinity(int(task)) == allowed for task in os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core only")
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_two_processes_need_not_share_a_core(name: str, toy: str) -> None:
    open_cpu(name, toy)
    command = [sys.executable, "-c", AFFINITIES, toy, name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout == "True\n", ended.stderr


def test_a_cpu_backend_takes_the_file_as_it_is(toy: str) -> None:
    with pytest.raises(BackendError, match="holds fp32 weights, not fp16: set precision to auto"):
        open_cpu("onnxruntime", toy, precision="fp16")


def test_a_detector_changes_its_backend_between_two_images(toy: str) -> None:
    first, second = (
        opened_on_cpu("onnxruntime", toy),
        opened_on_cpu("onnxruntime", toy, input_sizes=((352, 352),)),
    )
    detector = Detector(first)
    image = np.zeros((352, 352, 3), np.uint8)
    image[32:48, 64:80] = 255
    detector.detect(image)
    detector.replace_backend(second)
    assert detector.opened is first  # until the next image
    found = detector.detect(image)
    assert detector.opened is second
    np.testing.assert_allclose(found.boxes[0], [64, 32, 80, 48])
    with pytest.raises(AttributeError):
        first.backend.run()  # it was closed
    detector.replace_backend(opened_on_cpu("onnxruntime", toy))
    detector.close()
    detector.close()
    with pytest.raises(AttributeError):
        second.backend.run()


def test_an_fp16_graph_keeps_its_decoding_in_fp32(tmp_path: Path) -> None:
    model = find_model(REAL_MODEL)
    path = tmp_path / "half.onnx"
    path.write_bytes(to_half(model.path.read_bytes()))
    assert path.stat().st_size < 0.6 * len(with_plain_weights(model.path.read_bytes()))
    assert find_model(str(path)).card == model.card  # metadata survives
    found_by = open_cpu("onnxruntime", str(path))
    expected_by = open_cpu("onnxruntime", REAL_MODEL)
    found_by.input[0] = expected_by.input[0] = cv2.resize(data.astronaut(), (320, 320))
    found, expected = found_by.run(), expected_by.run()
    kept = expected[1][0] > 0.2
    np.testing.assert_allclose(found[0][0, kept], expected[0][0, kept], atol=0.5)
    np.testing.assert_allclose(found[1][0, kept], expected[1][0, kept], atol=0.01)


def test_an_fp16_graph_has_no_infinite_weights(tmp_path: Path) -> None:
    """Each would make NaN of the 0 that a dead channel has; TensorRT takes the nearest, too."""
    model = onnx.load_from_string(with_plain_weights(find_model(REAL_MODEL).path.read_bytes()))
    (name,) = next(node.input[1:2] for node in model.graph.node if node.op_type == "Conv")
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(kernel).copy()
    values[0, 0, 0, :2] = 3.4e6, -3.4e6
    kernel.CopyFrom(onnx.numpy_helper.from_array(values, name))
    half = onnx.load_from_string(to_half(model.SerializeToString()))
    found = next(t for t in half.graph.initializer if t.name == f"{name}_half")
    assert onnx.numpy_helper.to_array(found)[0, 0, 0, :2].tolist() == [65504, -65504]


def test_making_fp16_of_a_damaged_file_is_one_sentence(toy: str) -> None:
    whole = Path(toy).read_bytes()
    shape = b"\x12\x05batch"
    assert shape in whole
    for damaged in (whole.replace(shape, b"\x17\x05batch"), whole[:-30]):
        with pytest.raises(BackendError, match="not an ONNX file, or it is damaged: export it"):
            to_half(damaged)


def test_making_fp16_without_the_onnx_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        BackendError, match=re.escape(f"needs the onnx package: {pip_line('onnx')}")
    ):
        to_half(b"")
