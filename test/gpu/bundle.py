# SPDX-License-Identifier: Apache-2.0
"""Pack all that the tests on a GPU need, in slices, for a machine that has no network.

    python test/gpu/bundle.py bundle --python ~/python3.10 --zoo zoo --pictures street
    # carry the folders bundle/slice_* there, then
    python3 slice_01/join.py . --into gpu_tests

The other machine needs an NVIDIA driver, a Python 3.8 or later, glibc as new as that of --python,
and libstdc++. The tests run on the Python that the bundle brings, because TensorRT's wheels are
made for one version of Python: TensorRT 8.5.3 for 3.10. NVIDIA's licence of TensorRT does not
allow everybody to pass it on: the bundle is for your own machines.

TensorRT's library of plugins is replaced by an empty one, which no network of this package misses:
it would want cuBLAS and cuDNN, which are as large as TensorRT itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compact_yolo_ros.support.protobuf import read_fields, write_field  # noqa: E402

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PACKAGE = "compact_yolo_ros"
"""The checkout is tested, not what is installed."""
BLOCK = 32 * 2**20
"""Bytes of an archive that are compressed, and later expanded, as one piece."""
NOT_NEEDED = (
    "test", "idlelib", "lib2to3", "tkinter", "_tkinter*", "ensurepip", "turtledemo", "config-*",
    "site-packages", "__pycache__", "*.a",
)  # fmt: skip
"""Parts of Python's own library."""
OF_THE_SYSTEM = ("libc.", "libm.", "libdl.", "libpthread.", "librt.", "libutil.", "ld-linux")
"""glibc has to be the other machine's own."""
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Fields of ONNX's ModelProto, GraphProto and TensorProto."""
REPEATED = 16 * 2**10
"""Bytes of a constant of an untrained network that are kept."""
PLUGINS = "int initLibNvInferPlugins(void *logger, const char *name) { return 1; }\n"


@dataclass(frozen=True)
class Block:
    """A piece of an archive, compressed.

    Attributes:
        name: of the file in a slice.
        archive: the folder that it is a piece of, in the order of the pieces.
        size: bytes of the file.
        sha256: of the file.
    """

    name: str
    archive: str
    size: int
    sha256: str


def main(arguments: list[str] | None = None) -> int:
    """Write the slices; return 1 with a sentence if something is missing."""
    given = _parse(arguments)
    try:
        with TemporaryDirectory(prefix="gpu_bundle_") as folder:
            stage(Path(folder), given)
            blocks = compress(Path(folder), given.out / "blocks", given.preset)
        slices = share_out(blocks, given.slice_mib * 2**20)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    write_slices(given.out, slices, blocks)
    print(f"{len(slices)} slices, {sum(b.size for b in blocks) / 2**20:.0f} MiB, in {given.out}")
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bundle", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder; compressed blocks in it are used again")
    parser.add_argument("--python", type=Path, required=True, help="prefix of a Python 3.10")
    parser.add_argument("--tensorrt", default="8.5.3.1", help="version, or path of a wheel")
    parser.add_argument("--pycuda", default="2026.1", help="version, or path of a wheel")
    parser.add_argument("--cuda", type=Path, default="/usr/local/cuda", help="for pycuda's build")
    parser.add_argument("--zoo", type=Path, help="folder of training.export_zoo")
    parser.add_argument("--pictures", type=Path, help="labelled set: images/val and labels/val")
    parser.add_argument(
        "--ros", type=Path, help="prefix with ROS 2's wheels and vision_msgs for Python 3.10"
    )
    parser.add_argument("--slice-mib", type=int, default=60, help="largest slice [60]")
    parser.add_argument("--preset", type=int, default=6, help="of xz: 1 is five times as fast [6]")
    return parser.parse_args(arguments)


def stage(folder: Path, given: argparse.Namespace) -> None:
    """Put everything into a folder; what changes seldom has names that come first."""
    python = given.python.expanduser() / "bin" / "python3.10"
    if not python.is_file():
        raise ValueError(f"there is no {python}: give the prefix of a Python 3.10")
    with TemporaryDirectory(prefix="gpu_wheels_") as wheels:
        _install(python, folder / "a_tensorrt", [_tensorrt(python, given.tensorrt, Path(wheels))])
        _without_plugins(folder / "a_tensorrt" / "tensorrt")
        pycuda = _pycuda(python, given.pycuda, given.cuda, Path(wheels))
        _install(python, folder / "c_site", ["-r", str(REQUIREMENTS), pycuda], dependencies=True)
    copy_python(given.python.expanduser(), folder / "b_python")
    _copy_checkout(folder / "e_checkout")
    if given.ros:
        copy_ros(given.ros.expanduser(), folder / "d_ros")
    if given.zoo:
        _copy(given.zoo, folder / "d_zoo", ["*.onnx"])
        for path in (folder / "d_zoo").iterdir():
            path.write_bytes(with_repeated_kernels(path.read_bytes()))
    if given.pictures:
        wanted = ["data.yaml", "images/val/*", "labels/val/*"]
        _copy(given.pictures, folder / "d_pictures", wanted)


def _tensorrt(python: Path, given: str, wheels: Path) -> str:
    """The wheel, downloaded if a version is given."""
    if given.endswith(".whl"):
        return given
    _pip(python, "download", "--no-deps", "-d", str(wheels), f"tensorrt=={given}")
    return str(next(wheels.glob("tensorrt-*.whl")))


def _without_plugins(package: Path) -> None:
    """Replace the library of plugins, whose libraries the other machine need not have."""
    for library in package.glob("libnvinfer_plugin.so.*"):
        library.unlink()
        _compile(PLUGINS, library, soname=library.name)


def _pycuda(python: Path, given: str, cuda: Path, wheels: Path) -> str:
    """The wheel, built without a driver if a version is given."""
    if given.endswith(".whl"):
        return given
    if not (cuda / "include" / "cuda.h").is_file():
        raise ValueError(f"there is no CUDA toolkit in {cuda}: give --cuda, or a wheel of pycuda")
    home = wheels / "home"
    home.mkdir()
    _compile("int nothing;\n", home / "libcuda.so", soname="libcuda.so.1")
    settings = {
        "CUDA_ROOT": str(cuda),
        "CUDA_INC_DIR": [str(cuda / "include")],
        "CUDADRV_LIB_DIR": [str(home)],
        "CUDA_ENABLE_CURAND": False,
    }
    lines = [f"{name} = {value!r}\n" for name, value in settings.items()]
    (home / ".aksetup-defaults.py").write_text("".join(lines))
    environment = {
        "HOME": str(home),
        "CPATH": str(cuda / "include"),
        "LDFLAGS": "-Wl,--no-as-needed",  # the empty libcuda.so has nothing that is needed
    }
    _pip(python, "wheel", "--no-deps", "-w", str(wheels), f"pycuda=={given}", **environment)
    return str(next(wheels.glob("pycuda-*.whl")))


def _install(python: Path, folder: Path, wanted: list[str], dependencies: bool = False) -> None:
    words = [] if dependencies else ["--no-deps"]
    _pip(python, "install", "--no-compile", *words, "--target", str(folder), *wanted)


def _pip(python: Path, *words: str, **environment: str) -> None:
    command = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, env={**os.environ, **environment})


def _compile(source: str, library: Path, soname: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{soname}", "-o"]
    subprocess.run([*command, str(library)], input=source, text=True, check=True)


def copy_python(prefix: Path, folder: Path) -> None:
    """Copy a Python without its tests and packages, and with the libraries that it loads."""
    skipped = shutil.ignore_patterns(
        *NOT_NEEDED, "__pycache__", "*.a", "site-packages", "_tkinter*"
    )
    shutil.copytree(prefix / "lib" / "python3.10", folder / "lib" / "python3.10", ignore=skipped)
    (folder / "bin").mkdir()
    shutil.copy(prefix / "bin" / "python3.10", folder / "bin" / "python3.10")
    loaded = [folder / "bin" / "python3.10", *folder.rglob("*.so")]
    for found in sorted({file for binary in loaded for file in _libraries(binary)}):
        shutil.copy(found, folder / "lib" / found.name)


def _libraries(binary: Path) -> Iterator[Path]:
    """The files that the dynamic linker loads for a program or library."""
    listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        _, arrow, found = line.partition(" => ")
        path = Path(found.partition(" (")[0])
        if arrow and path.is_file() and not path.name.startswith(OF_THE_SYSTEM):
            yield path


def copy_ros(prefix: Path, folder: Path) -> None:
    """Copy ROS 2's libraries and Python packages, and nothing else that is installed there.

    What Python packages of ROS import besides is in ``requirements.txt``. Headers and static
    libraries stay behind: nothing is compiled there.
    """
    packages = prefix / "lib" / "python3.10" / "site-packages"
    if not (packages / "rclpy").is_dir() or not (packages / "vision_msgs").is_dir():
        raise ValueError(f"there is no rclpy or no vision_msgs in {packages}")
    skipped = shutil.ignore_patterns("*.a", "*.h", "*.hpp", "cmake", "include", "__pycache__")
    (folder / "lib").mkdir(parents=True)
    for library in sorted((prefix / "lib").glob("*.so*")):
        shutil.copy(library, folder / "lib" / library.name)
    shutil.copytree(prefix / "share", folder / "share", ignore=skipped)
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    listed = [packages / name.name for name in index.iterdir() if name.name != PACKAGE]
    for package in sorted([*listed, *packages.glob("ros_*.libs")]):
        if package.is_dir():
            shutil.copytree(package, folder / package.relative_to(prefix), ignore=skipped)


def _copy_checkout(folder: Path) -> None:
    """Copy the files that git knows, as they are now, and note the commit."""
    git = ["git", "-C", str(ROOT)]
    names = subprocess.run([*git, "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    commit = [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    said = subprocess.run(commit, capture_output=True, text=True, check=True).stdout
    (folder / ".commit").write_text(said)


def with_repeated_kernels(data: bytes) -> bytes:
    """Return an ONNX file whose large constants repeat their first values.

    What was not trained is random, which cannot be compressed. It is as fast with these.
    """
    return _rewritten(data, GRAPH, lambda graph: _rewritten(graph, INITIALIZER, _repeated))


def _repeated(tensor: bytes) -> bytes:
    def fill(values: bytes) -> bytes:
        return (values[:REPEATED] * (len(values) // REPEATED + 1))[: len(values)]

    return _rewritten(tensor, RAW_DATA, fill)


def _rewritten(message: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Change every field of a number in a protobuf message."""
    return b"".join(
        write_field(number, change(bytes(field.content)))
        if field.number == number
        else field.encoded
        for field in read_fields(message)
    )


def _copy(source: Path, folder: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in sorted(source.glob(pattern)):
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    if not folder.is_dir():
        raise ValueError(f"{source} has nothing of {', '.join(patterns)}")


def compress(folder: Path, kept: Path, preset: int = 6) -> list[Block]:
    """Archive every folder in it and compress the pieces; those in ``kept`` are used again."""
    kept.mkdir(parents=True, exist_ok=True)
    blocks: list[Block] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, TemporaryDirectory() as place:
        path = Path(place) / "archive.tar"
        for archive in sorted(folder.iterdir()):
            write_archive(archive, path)
            piece = partial(_compressed, path, archive.name, kept, preset)
            blocks += pool.map(piece, range(0, path.stat().st_size, BLOCK))
    return blocks


def write_archive(folder: Path, path: Path) -> None:
    """Write a folder as a tar file, the same for the same content."""
    with tarfile.open(path, "w") as archive:
        for item in sorted(folder.rglob("*")):
            archive.add(item, item.relative_to(folder.parent), False, filter=_plain)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without times and owners, which change from build to build."""
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _compressed(path: Path, archive: str, kept: Path, preset: int, place: int) -> Block:
    """The piece of an archive that begins at a byte."""
    with path.open("rb") as file:
        file.seek(place)
        piece = file.read(BLOCK)
    found = kept / f"{hashlib.sha256(piece).hexdigest()[:32]}.xz"
    if not found.is_file():
        unfinished = found.with_suffix(".unfinished")
        unfinished.write_bytes(lzma.compress(piece, preset=preset))
        unfinished.replace(found)
    data = found.read_bytes()
    return Block(found.name, archive, len(data), hashlib.sha256(data).hexdigest())


def share_out(blocks: Iterable[Block], limit: int) -> list[list[Block]]:
    """The blocks in few slices of at most so many bytes: the largest first, where there is room."""
    slices: list[list[Block]] = [[]]
    for block in sorted(blocks, key=lambda block: -block.size):
        if block.size > limit:
            raise ValueError(f"a block has {block.size} bytes: give larger slices")
        for slice_ in slices:
            if sum(other.size for other in slice_) + block.size <= limit:
                slice_.append(block)
                break
        else:
            slices.append([block])
    return slices


def write_slices(out: Path, slices: list[list[Block]], blocks: list[Block]) -> None:
    """Write folders of blocks, each with the list of all blocks and the joiner."""
    for old in out.glob("slice_*"):
        shutil.rmtree(old)
    for number, slice_ in enumerate(slices, 1):
        folder = out / f"slice_{number:02}"
        folder.mkdir()
        for name in {block.name for block in slice_}:
            os.link(out / "blocks" / name, folder / name)
        (folder / "blocks.json").write_text(json.dumps([asdict(block) for block in blocks]))
        shutil.copy(Path(__file__).with_name("join.py"), folder / "join.py")


if __name__ == "__main__":
    sys.exit(main())
