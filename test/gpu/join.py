# SPDX-License-Identifier: Apache-2.0
"""Put the slices of ``bundle.py`` together, and run the tests on this machine's GPU.

    python3 join.py FOLDER_OF_SLICES --into gpu_tests [-- more words for pytest]
    python3 join.py FOLDER_OF_SLICES --into gpu_tests --run test/benchmarks/node.py -- latency

It needs Python 3.8 and nothing else. The exit code is that of the tests (0: all passed, 1: some
failed), 10 if this machine has no GPU that can be used, or 11 if the slices are not complete.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

INCOMPLETE = 11
"""Exit code if a block is missing or damaged."""


def main() -> int:
    """Join, unless that was done before, and run the tests."""
    parser = argparse.ArgumentParser("join", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("slices", type=Path, nargs="+", help="slices, or a folder of them")
    parser.add_argument("--into", type=Path, default=Path("gpu_tests"), help="[gpu_tests]")
    parser.add_argument("--only-join", action="store_true", help="run nothing")
    parser.add_argument("--rehearse", action="store_true", help="with doubles instead of a GPU")
    parser.add_argument(
        "--run", default="test/gpu/start.py", help="another script, or a module, of the checkout"
    )
    own, more = _divided(sys.argv[1:])
    given = parser.parse_args(own)
    folder = given.into.resolve()
    began = monotonic()
    try:
        join(given.slices, folder)
    except (OSError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        print(f"join: the bundle cannot be used: {error}", file=sys.stderr)
        return INCOMPLETE
    print(f"join: {folder} is complete after {monotonic() - began:.0f} s", flush=True)
    return 0 if given.only_join else run(folder, given.run, more, given.rehearse)


def _divided(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before "--", which are ours, and those behind it, which are pytest's."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def join(places: list[Path], folder: Path) -> None:
    """Expand every archive into a folder, unless the same bundle is there already.

    Raises:
        OSError, ValueError: a block is missing or damaged.
    """
    files = {path.name: path for place in places for path in place.rglob("*.xz")}
    lists = {path.read_text() for place in places for path in place.rglob("blocks.json")}
    if len(lists) != 1:
        raise ValueError(f"there are {len(lists)} lists of blocks (blocks.json), not one")
    (listed,) = lists
    done = folder / "joined.json"
    if done.is_file() and done.read_text() == listed:
        return
    blocks = json.loads(listed)
    missing = [block["name"] for block in blocks if block["name"] not in files]
    if missing:
        raise ValueError(f"{len(missing)} of {len(blocks)} blocks are missing: carry all slices")
    for archive in dict.fromkeys(block["archive"] for block in blocks):
        own = [block for block in blocks if block["archive"] == archive]
        _expand([(files[block["name"]], block["sha256"]) for block in own], folder)
    done.write_text(listed)


def _expand(blocks: list[tuple[Path, str]], folder: Path) -> None:
    safe = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        stream = io.BufferedReader(_Stream(pool, blocks))
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extractall(folder, **safe)


class _Stream(io.RawIOBase):
    """The content of blocks, one behind the other; some are expanded ahead."""

    def __init__(self, pool: ThreadPoolExecutor, blocks: list[tuple[Path, str]]) -> None:
        self._pool = pool
        self._later = deque(blocks)
        self._begun: deque = deque()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def,override]
        while not self._rest and (self._begun or self._later):
            while self._later and len(self._begun) <= (os.cpu_count() or 1):
                self._begun.append(self._pool.submit(_content, *self._later.popleft()))
            self._rest = memoryview(self._begun.popleft().result())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _content(path: Path, sha256: str) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} is damaged")
    return lzma.decompress(data)


def run(folder: Path, program: str, words: list[str], rehearse: bool) -> int:
    """Run a program with the Python and the libraries of the bundle; return its exit code."""
    python, checkout, ros = folder / "b_python", folder / "e_checkout", folder / "d_ros"
    given = [Path(os.environ["LD_LIBRARY_PATH"])] if os.environ.get("LD_LIBRARY_PATH") else []
    packages = ros / "lib" / "python3.10" / "site-packages"
    libraries = [python / "lib", ros / "lib", *sorted(packages.glob("*.libs")), *given]
    modules = [folder / "a_tensorrt", folder / "c_site", checkout, packages]
    if rehearse:
        modules.insert(0, checkout / "test" / "doubles")
    environment = {
        **(_as_bundled(modules) if rehearse else {}),
        **{name: text for name, text in os.environ.items() if not name.startswith("PYTHON")},
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PYTHONPATH": os.pathsep.join(map(str, modules)),
        "PYTHONNOUSERSITE": "1",
        "AMENT_PREFIX_PATH": str(ros),
    }
    for name, part in (("ZOO", "d_zoo"), ("PICTURES", "d_pictures")):
        if (folder / part).is_dir():
            environment.setdefault(f"COMPACT_YOLO_GPU_{name}", str(folder / part))
    environment.setdefault("COMPACT_YOLO_GPU_REPORT", str(Path("out/gpu").resolve()))
    what = [str(checkout / program)] if program.endswith(".py") else ["-m", program]
    command = [str(python / "bin" / "python3.10"), *what, *words]
    return subprocess.run(command, cwd=checkout, env=environment).returncode


def _as_bundled(modules: list[Path]) -> dict[str, str]:
    """What makes the double of TensorRT offer what the version in the bundle does."""
    wheels = [wheel.stem for folder in modules for wheel in folder.glob("tensorrt-*.dist-info")]
    return {"TENSORRT_DOUBLE_VERSION": wheels[0].split("-")[1]} if wheels else {}


if __name__ == "__main__":
    sys.exit(main())
