# SPDX-License-Identifier: Apache-2.0
"""The bundle of the tests on a GPU: what is packed comes out, and what is missing is told."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from toy_model import write_toy_model

FOLDER = Path(__file__).resolve().parents[1] / "gpu"


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


bundle = _loaded("bundle")


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two archives of which one has several blocks, with a program and a link."""
    monkeypatch.setattr(bundle, "BLOCK", 10_000)
    folder = tmp_path / "staged"
    random = np.random.default_rng(0)
    for archive in ("a_tensorrt", "b_python/bin"):
        (folder / archive).mkdir(parents=True)
        (folder / archive / "library").write_bytes(random.bytes(25_000))
    program = folder / "b_python" / "bin" / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (folder / "b_python" / "bin" / "python3").symlink_to("python")
    return folder


@pytest.fixture
def sliced(staged: Path, tmp_path: Path) -> Path:
    blocks = bundle.compress(staged, tmp_path / "out" / "blocks")
    bundle.write_slices(tmp_path / "out", bundle.share_out(blocks, 25_000), blocks)
    return tmp_path / "out"


def join(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "join.py"), "--only-join", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_is_packed_comes_out(sliced: Path, staged: Path, tmp_path: Path) -> None:
    slices = sorted(sliced.glob("slice_*"))
    assert len(slices) > 2
    sizes = [sum(path.stat().st_size for path in one.glob("*.xz")) for one in slices]
    assert max(sizes) <= 25_000
    joined = join(*slices, "--into", tmp_path / "joined", "--", "-k", "words for pytest")
    assert (joined.returncode, joined.stderr) == (0, "")
    for path in staged.rglob("*"):
        copy = tmp_path / "joined" / path.relative_to(staged)
        assert copy.is_symlink() == path.is_symlink()
        assert copy.stat().st_mode == path.stat().st_mode
        assert path.is_dir() or copy.read_bytes() == path.read_bytes()


def test_slices_that_are_missing_or_damaged_are_told(sliced: Path, tmp_path: Path) -> None:
    first = sorted(sliced.glob("slice_*"))[0]
    alone = join(first, "--into", tmp_path / "joined")
    assert alone.returncode == 11
    assert "blocks are missing: carry all slices" in alone.stderr
    block = next(first.glob("*.xz"))
    content = bytearray(block.read_bytes())
    content[-1] ^= 1
    block.unlink()  # it is a link
    block.write_bytes(content)
    damaged = join(*sliced.glob("slice_*"), "--into", tmp_path / "joined")
    assert damaged.returncode == 11
    assert f"{block.name} is damaged" in damaged.stderr


def test_only_what_changed_is_compressed_again(sliced: Path, staged: Path, tmp_path: Path) -> None:
    before = set((sliced / "blocks").iterdir())
    (staged / "b_python" / "bin" / "python").touch()
    bundle.compress(staged, sliced / "blocks")
    assert set((sliced / "blocks").iterdir()) == before
    (staged / "b_python" / "bin" / "python").write_text("#!/bin/bash\n")
    bundle.compress(staged, sliced / "blocks")
    assert len(set((sliced / "blocks").iterdir()) - before) == 1


def test_a_slice_too_small_for_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="give larger slices"):
        bundle.share_out([bundle.Block("a", "b", 11, "")], 10)


def test_an_untrained_network_gets_small_and_keeps_its_shapes(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "toy.onnx")
    model = onnx.load(path)
    kernel = np.random.default_rng(0).random((64, 64, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "kernel"))
    changed = onnx.load_from_string(bundle.with_repeated_kernels(model.SerializeToString()))
    found = {t.name: onnx.numpy_helper.to_array(t) for t in changed.graph.initializer}
    repeated = found.pop("kernel").reshape(-1)
    assert repeated.size == kernel.size
    np.testing.assert_array_equal(repeated[:4096], kernel.reshape(-1)[:4096])
    np.testing.assert_array_equal(repeated[4096:8192], repeated[:4096])
    for tensor in onnx.load(path).graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], onnx.numpy_helper.to_array(tensor))
    onnx.checker.check_model(changed)


def test_without_a_gpu_it_says_so_in_a_sentence() -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [sys.executable, str(FOLDER / "start.py")], capture_output=True, text=True, env=environment
    )
    assert ended.returncode == 10
    (line,) = ended.stderr.splitlines()
    assert line.startswith("No test was run, there is no GPU to test on: ")


@pytest.mark.parametrize(("words", "version"), [(["--rehearse"], "8.5.3.1"), ([], "None")])
def test_a_rehearsal_has_the_double_of_the_bundled_version(
    words: list[str], version: str, tmp_path: Path
) -> None:
    (tmp_path / "a_tensorrt" / "tensorrt-8.5.3.1.dist-info").mkdir(parents=True)
    (tmp_path / "b_python" / "bin").mkdir(parents=True)
    (tmp_path / "b_python" / "bin" / "python3.10").symlink_to(sys.executable)
    (tmp_path / "e_checkout").mkdir()
    program = "import os; print(os.environ.get('TENSORRT_DOUBLE_VERSION'))"
    (tmp_path / "e_checkout" / "program.py").write_text(program)
    (tmp_path / "slices").mkdir()
    for path in (tmp_path / "slices" / "blocks.json", tmp_path / "joined.json"):
        path.write_text("[]")
    command = [sys.executable, FOLDER / "join.py", tmp_path / "slices", "--into", tmp_path]
    command += ["--run", "program.py", *words]
    environment = {n: v for n, v in os.environ.items() if n != "TENSORRT_DOUBLE_VERSION"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.stdout.splitlines()[-1:] == [version], ended.stderr


def test_only_ros_is_taken_of_what_an_environment_has(tmp_path: Path) -> None:
    """That of `make setup` has PyTorch as well, and other versions of what the bundle brings."""
    prefix, packages = tmp_path / ".venv", Path("lib/python3.10/site-packages")
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for name in ("rclpy", "vision_msgs", "rcutils", "compact_yolo_ros", "a_library"):
        (index / name).touch()
    own = ["rclpy", "vision_msgs", "rcutils", "ros_rclpy.libs"]
    others = ["compact_yolo_ros", "torch", "numpy.libs", "numpy-2.2.6.dist-info"]
    for name in own + others:
        (prefix / packages / name).mkdir(parents=True)
        (prefix / packages / name / "content").touch()
    (prefix / "lib" / "librcl.so.1").touch()
    bundle.copy_ros(prefix, tmp_path / "copied")
    found = sorted(path.name for path in (tmp_path / "copied" / packages).iterdir())
    assert found == sorted(own)
    assert (tmp_path / "copied" / packages / "rclpy" / "content").is_file()
    assert (tmp_path / "copied" / "lib" / "librcl.so.1").is_file()
    assert (tmp_path / "copied" / "share" / "ament_index").is_dir()


def test_an_environment_without_ros_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no rclpy or no vision_msgs in "):
        bundle.copy_ros(tmp_path, tmp_path / "copied")
