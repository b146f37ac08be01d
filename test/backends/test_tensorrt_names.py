# SPDX-License-Identifier: Apache-2.0
"""The double of TensorRT offers only what NVIDIA's own Python bindings of that version offer.

The bindings are on PyPI (a megabyte), without the libraries behind them. They are loaded with empty
ones in their place: nothing can be computed, but every class tells its methods and parameters.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

import pytest

COMPARE = Path(__file__).resolve().parents[1] / "doubles" / "compare_tensorrt.py"
BINDINGS = {
    "8.6.1": "tensorrt_bindings==8.6.1",
    "10.3.0": "tensorrt_cu12_bindings==10.3.0",
    "11.4.0": "tensorrt_cu12_bindings==11.4.0.106",
}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)

JOINED = Path(os.environ.get("COMPACT_YOLO_GPU_BUNDLE", "/nonexistent"))
"""A folder that test/gpu/join.py has made, with the whole TensorRT 8.5.3 (JetPack 5.1 has 8.5)."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the bindings' wheels are x86-64"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="empty libraries are made with gcc"),
]


def bindings(requirement: str, folder: Path) -> Path:
    """Download and unpack the bindings; the folder of their tensorrt.so."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "-d", str(folder), requirement], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"{requirement} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder / "tensorrt_bindings"


def empty_libraries(major: str, folder: Path) -> None:
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for name in LIBRARIES:
        library = f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library)]
        subprocess.run(["gcc", *flags, str(source)], check=True)


@pytest.mark.parametrize("version", BINDINGS)
def test_the_double_offers_nothing_that_the_real_bindings_do_not(
    version: str, tmp_path: Path
) -> None:
    module = bindings(BINDINGS[version], tmp_path)
    empty_libraries(version.partition(".")[0], tmp_path)
    path = os.pathsep.join([str(tmp_path), os.environ.get("LD_LIBRARY_PATH", "")])
    compare(module, version, LD_LIBRARY_PATH=path)


def test_the_double_offers_nothing_that_the_installed_tensorrt_does_not() -> None:
    """As on a Jetson, where apt installs it; no GPU is needed."""
    found = find_spec("tensorrt")
    if found is None or not found.origin or Path(found.origin).parent == COMPARE.parent:
        pytest.skip("TensorRT is not installed here")
    compare(Path(found.origin).parents[1], version_of("tensorrt"))


@pytest.mark.skipif(not JOINED.is_dir(), reason="COMPACT_YOLO_GPU_BUNDLE names no joined bundle")
def test_the_whole_tensorrt_8_is_imported_without_a_driver() -> None:
    modules = [JOINED / part for part in ("a_tensorrt", "c_site", "e_checkout")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(JOINED / "b_python" / "lib"),
        "PYTHONPATH": os.pathsep.join(map(str, modules)),
        "TENSORRT_DOUBLE_VERSION": "8.5.3",
    }
    python = JOINED / "b_python" / "bin" / "python3.10"
    said = subprocess.run([python, "-c", IMPORT], env=environment, capture_output=True, text=True)
    assert (said.returncode, said.stdout.split()) == (0, ["8.5.3.1", "True"]), said.stderr
    compared = [python, COMPARE, modules[0]]
    done = subprocess.run(compared, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


IMPORT = """
from compact_yolo_ros.backends.tensorrt.library import library
trt = library()
print(trt.__version__, isinstance(trt.Logger(trt.Logger.WARNING), trt.ILogger))
"""


def compare(folder: Path, version: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, str(COMPARE), str(folder)],
        env={**os.environ, **environment, "TENSORRT_DOUBLE_VERSION": version},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
