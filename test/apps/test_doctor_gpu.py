# SPDX-License-Identifier: Apache-2.0
"""``doctor --gpu`` against the doubles of TensorRT 8.6, 10 and 11, and how it compares outputs."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from power_trees import JETSONS, write
from toy_model import CARD, write_quantized, write_toy_model

from compact_yolo_ros.apps.doctor import all_probes
from compact_yolo_ros.apps.doctor import command as doctor
from compact_yolo_ros.apps.doctor import tensorrt_proof as proof_module
from compact_yolo_ros.apps.doctor.all_probes import DoctorOptions
from compact_yolo_ros.apps.doctor.probe import Finding, Level, Surroundings, ok
from compact_yolo_ros.apps.doctor.tensorrt_proof import proof
from compact_yolo_ros.backends import comparison
from compact_yolo_ros.backends import libraries as installing
from compact_yolo_ros.backends.agreement import TOLERANCES, Agreement, compare
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.backends.tensorrt.run import TensorRTBackend
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.pixels import sample_images as images_module
from compact_yolo_ros.pixels.sample_images import sample_images
from compact_yolo_ros.support.pip import pip_line

Prove = Callable[..., dict[str, Finding]]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "toy.onnx")


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Path) -> Prove:
    """Findings by name, after few and simple images, on an AGX Orin."""
    monkeypatch.setattr(comparison, "sample_images", images_module._generated)
    monkeypatch.setattr(proof_module, "FRAMES", 5)
    monkeypatch.setattr(proof_module, "WARM_UP", 1)
    root = write(tmp_path / "orin", JETSONS["AGX Orin"][0])

    def run(model: str = str(toy)) -> dict[str, Finding]:
        return {finding.name: finding for finding in proof(Surroundings(root, {}), model, tmp_path)}

    return run


def test_a_proof_that_is_killed_leaves_no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_: Surroundings, __: str, folder: Path) -> Iterator[Finding]:
        (folder / "half.engine").write_bytes(bytes(100))
        yield ok("folder", str(folder))
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(proof_module, "proof", killed)
    options = DoctorOptions(Surroundings(Path("/"), {}), "toy", None, 0.0, True)
    (_, place), (_, end) = all_probes._proof(options)
    assert "SIGKILL" in end.found and not Path(place.found).exists()


def test_nowhere_to_build_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    options = DoctorOptions(Surroundings(Path("/"), {}), "toy", None, 0.0, True)
    ((_, found),) = all_probes._proof(options)
    assert (found.level, "set TMPDIR" in found.remedy) == (Level.PROBLEM, True)


def problems(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.level is Level.PROBLEM}


@pytest.mark.slow
@pytest.mark.parametrize("trt", ["8.6.1", "11.4.0"], indirect=True)  # kernels widened, and typed
def test_a_shipped_model_is_proved_in_fp32_and_fp16(
    trt: Any, prove: Prove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "sample_images", lambda: sample_images()[:4])
    # Without its INT8 sibling: the double fuses nothing, so more than half of that stays float.
    alone = shutil.copy(find_model("yolo_fastest").path, tmp_path / "alone.onnx")
    found = prove(str(alone))
    assert problems(found) == set()
    assert "DOUBLE of a GPU, compute capability 8.7, TensorRT " in found["GPU"].found
    assert found["proved"].found.startswith("TensorRT works on this machine")
    for precision in ("fp32", "fp16"):
        assert found[f"{precision} precision"].found == f"the engine computes in {precision}"
        agreeing, _, compared, *_ = found[f"{precision} outputs"].found.split()
        assert int(compared) > 20
        assert int(agreeing) >= TOLERANCES[precision].share * int(compared)
        assert found[f"{precision} CUDA graph"].found.startswith("captured")
        assert "copy_in" in found[f"{precision} time"].found
        assert found[f"{precision} cache"].found.startswith("found again")


def test_its_engines_are_left_to_the_node(trt: Any, prove: Prove, tmp_path: Path) -> None:
    found = prove()
    engines = {path.name for path in (tmp_path / "cache").rglob("*.engine")}
    assert len(engines) == 2
    assert {Path(found[f"{p} kept"].found.split()[-1]).name for p in ("fp32", "fp16")} == engines


def test_an_int8_file_in_the_same_folder_is_proved_too(trt: Any, prove: Prove, toy: Path) -> None:
    write_quantized(toy.with_name("toy_int8.onnx"))
    found = prove()
    assert found["int8 precision"].found == "the engine computes in int8"
    assert problems(found) == set()


def test_a_dla_is_proved_where_there_is_one(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_DLA_CORES", "2")
    found = prove()
    assert "2 DLA cores" in found["GPU"].found
    assert found["fp16 on DLA 0 precision"].level is Level.OK


def test_another_precision_than_requested_is_not_proved(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_ENGINE_PRECISION", "fp32")
    assert problems(prove()) == {"fp16 precision", "not proved"}


@pytest.mark.parametrize(
    ("wrong", "found"),
    [(1, {"fp32", "fp16", "not proved"}), (5, {"fp32 outputs", "fp16 outputs", "not proved"})],
)
def test_wrong_outputs_are_not_proved_and_not_kept(
    trt: Any,
    prove: Prove,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wrong: int,
    found: set[str],
) -> None:
    """All of them, which no engine may have, and one in five."""
    right = TensorRTBackend.run

    def run(self: TensorRTBackend, images: int = 1) -> Any:
        boxes, scores, labels = right(self, images)
        boxes[:, ::wrong] += 20
        return boxes, scores, labels

    monkeypatch.setattr(TensorRTBackend, "run", run)
    assert problems(prove()) == found
    assert list((tmp_path / "cache").rglob("*.engine")) == []


def test_a_build_that_fails_is_a_problem_and_ends_that_engine_only(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_BUILD_FAILS", "1")
    found = prove()
    assert problems(found) == {"fp32", "fp16", "not proved"}
    assert found["fp32"].found.startswith("TensorRT cannot build an engine of toy.onnx")


def test_memory_that_grows_is_a_problem(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    grows = iter(range(10**9, 10**11, 10**9))
    monkeypatch.setattr(Gpu, "memory_in_use", lambda device: next(grows))
    assert problems(prove()) == {"fp32 memory", "fp16 memory", "not proved"}


def test_an_engine_that_is_not_found_again_is_a_problem(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "compact_yolo_ros.backends.tensorrt.cache.EngineCache.load", lambda *_: None
    )
    found = prove()
    assert problems(found) == {"fp32 cache", "fp16 cache", "not proved"}


def test_power_is_read_during_the_run(trt: Any, prove: Prove) -> None:
    power = prove()["fp32 power"]
    assert power.level in (Level.OK, Level.NOTE)
    if power.level is Level.OK:  # five images may end before the first reading
        assert "7.88 W by INA3221" in power.found


def test_a_gpu_that_fails_is_a_problem(
    trt: Any, prove: Prove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_DOUBLE_NO_MEMORY", "1")
    found = prove()
    importlib.import_module("pycuda.driver").violations.clear()  # as in test_tensorrt.py
    assert problems(found) == {"fp32", "fp16", "not proved"}
    assert "out of memory" in found["fp32"].found


def test_without_a_gpu_it_says_what_it_would_need(
    prove: Prove, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(installing, "JETSON_RELEASE", tmp_path / "none")
    found = prove()
    assert problems(found) == {"not proved"}
    assert found["not proved"].remedy == pip_line("tensorrt")
    assert "TensorRT 8.5 to 11 and pycuda" in found["needed"].found


def test_the_command_adds_the_proof_to_its_report(
    trt: Any,
    toy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(proof_module, "FRAMES", 2)
    monkeypatch.setattr(proof_module, "WARM_UP", 0)
    section = all_probes._section
    monkeypatch.setattr(
        all_probes,
        "_section",
        lambda title, *probes, **given: section(title, *probes * (title == "TensorRT"), **given),
    )
    assert doctor.main(["--gpu", "--json", "--model", str(toy)]) == 0
    (findings,) = json.loads(capsys.readouterr().out)["sections"].values()
    assert findings[-1]["name"] == "proved"
    monkeypatch.setenv("CUDA_DOUBLE_NO_DEVICE", "1")
    importlib.import_module("compact_yolo_ros.backends.tensorrt.cuda").gpu.cache_clear()
    assert doctor.main(["--gpu", "--json", "--model", str(toy)]) == 1


# Comparing outputs


K = 12


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes far apart, so that each has only itself for a counterpart."""
    scores = np.sort(draw(arrays.arrays(np.float32, K, elements=st.floats(0.25, 1, width=32))))
    labels = draw(arrays.arrays(np.int32, K, elements=st.integers(0, 4)))
    left = 20 * np.arange(K, dtype=np.float32)
    boxes = np.stack([left, left, left + 15, left + 15], 1)
    return boxes[None], scores[None, ::-1], labels[None]


@given(expected=outputs(), order=st.permutations(range(K)))
def test_the_order_of_candidates_does_not_matter(expected: Any, order: list[int]) -> None:
    found = tuple(part[:, order] for part in expected)
    assert compare(found, expected, TOLERANCES["fp32"]) == Agreement(K, K)


@given(
    expected=outputs(),
    row=st.integers(0, K - 1),
    wrong=st.sampled_from(["box", "score", "label"]),
    much=st.booleans(),
)
def test_a_difference_counts_if_it_is_beyond_the_tolerance(
    expected: Any, row: int, wrong: str, much: bool
) -> None:
    tolerance = TOLERANCES["fp16"]
    boxes, scores, labels = (part.copy() for part in expected)
    factor = 1.5 if much else 0.5
    if wrong == "box":
        boxes[0, row, 2] += factor * tolerance.pixels
    elif wrong == "score":
        scores[0, row] -= factor * tolerance.score
    else:
        labels[0, row] += much
    found = compare((boxes, scores, labels), expected, tolerance)
    assert found.agreeing == K - much
    assert found.suffices(tolerance) == (not much)
    if wrong == "box" and not much:
        assert found.pixels == pytest.approx(0.25, abs=1e-4)


def test_nothing_to_compare_shows_nothing() -> None:
    empty = (np.zeros((1, 3, 4)), np.full((1, 3), 0.05), np.zeros((1, 3)))
    found = compare(empty, empty, TOLERANCES["int8"])
    assert found == Agreement()
    assert not found.suffices(TOLERANCES["int8"])


def test_an_fp16_file_is_proved_as_it_is(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "half.onnx", replace(CARD, precision="fp16"))
    names = [engine.name for engine in proof_module.engines(find_model(str(path)), 2)]
    assert names == ["fp16"]
    shutil.copy(write_toy_model(tmp_path / "x.onnx"), tmp_path / "half_int8.onnx")
    names = [engine.name for engine in proof_module.engines(find_model(str(path)), 0)]
    assert names == ["fp16", "int8"]
