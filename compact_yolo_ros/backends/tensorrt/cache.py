# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines on disk: found again only where and as they were built."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.support.files import (
    cache_folder,
    open_regular,
    remove_unfinished,
    replacing,
    require_writable,
)

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

FORMAT = b"compact_yolo_ros engine 1\n"
DEFAULT_LIMIT = 2 * 2**30
"""Bytes of engines that are kept; one of a compact detector takes 10 to 50 million."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on; if one of these differs, it is another engine.

    Attributes:
        model: file name without ending, for people.
        onnx_sha256: SHA-256 of the ONNX file.
        tensorrt: its version.
        cuda: version that pycuda was built with.
        gpu: name of the GPU.
        compute_capability: for example ``8.7``.
        precision: requested number format.
        profile: shape of the largest input, (batch, height, width, 3).
        dla_core: -1 without DLA.
    """

    model: str
    onnx_sha256: str
    tensorrt: str
    cuda: str
    gpu: str
    compute_capability: str
    precision: str
    profile: tuple[int, int, int, int]
    dla_core: int

    @property
    def file_name(self) -> str:
        """Short, and its own for every key."""
        digest = hashlib.sha256(self._text()).hexdigest()[:16]
        batch, height, width, _ = self.profile
        return f"{self.model}-{width}x{height}-b{batch}-{self.precision}-{digest}.engine"

    @property
    def timing_file_name(self) -> str:
        """The timing cache depends on the GPU and TensorRT only, and serves all models."""
        text = "|".join((self.tensorrt, self.cuda, self.gpu, self.compute_capability))
        return f"timing-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cache"

    def _text(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    def header(self, plan: bytes) -> bytes:
        """First three lines of an engine file: format, key, SHA-256 of the plan."""
        digest = hashlib.sha256(plan).hexdigest().encode()
        return FORMAT + self._text() + b"\n" + digest + b"\n"


def engine_key(model: ModelFile, options: RunOptions, trt: Any, device: Gpu) -> EngineKey:
    """What the engine for the first input size depends on, on this machine."""
    return EngineKey(
        model=model.path.stem,
        onnx_sha256=hashlib.sha256(model.path.read_bytes()).hexdigest(),
        tensorrt=trt.__version__,
        cuda=device.cuda,
        gpu=device.name,
        compute_capability=device.compute_capability,
        precision=options.precision,
        profile=largest_shape(options),
        dla_core=options.dla_core,
    )


def largest_shape(options: RunOptions) -> tuple[int, int, int, int]:
    """Shape of the largest input at the first size, (N, H, W, 3)."""
    return (options.batch, *options.sizes[0].shape, 3)


class EngineCache:
    """A folder of engines. Those used longest ago go first when it grows beyond its limit.

    An engine is code for the GPU, so a file is used only if it belongs to this user (or root),
    nobody else may write it, its key is the wanted one and its content is undamaged.
    """

    def __init__(self, directory: str | Path = "", limit: int = DEFAULT_LIMIT) -> None:
        """Use ``directory``, or the user's own cache folder; keep at most ``limit`` bytes.

        Raises:
            BackendError: a ``~`` stands for a home folder that is not known.
        """
        self.directory = _expanded(Path(directory)) if directory else default_directory()
        self._limit = limit

    def load(self, key: EngineKey) -> bytes | None:
        """The engine built for ``key``; None if there is none that can be trusted."""
        path = self.directory / key.file_name
        data = _read_own(path)
        if data is None:
            return None
        parts = data.split(b"\n", 3)
        plan = parts[-1]
        if len(parts) != 4 or data[: len(data) - len(plan)] != key.header(plan):
            return None
        with suppress(OSError):  # it may be read-only, or another process's to remove
            os.utime(path, follow_symlinks=False)  # used now: it goes last
        return plan

    def store(self, key: EngineKey, plan: bytes) -> Path:
        """Keep an engine; raises OSError if it cannot be written."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / key.file_name
        _write(path, key.header(plan) + plan)
        self._shrink(path)
        return path

    def require_writable(self) -> None:
        """Raise BackendError if no engine can be kept here: a build would be in vain."""
        try:
            require_writable(self.directory, mode=0o700)
        except OSError as error:
            raise BackendError(
                f"engines cannot be kept in {self.directory} ({error.strerror})",
                "set engine_cache to another folder",
            ) from None

    def load_timing(self, key: EngineKey) -> bytes:
        """Load the timing cache of earlier builds for this GPU; empty if there is none."""
        return _read_own(self.directory / key.timing_file_name) or b""

    def store_timing(self, key: EngineKey, data: bytes) -> None:
        """Keep a serialised timing cache; raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self.directory / key.timing_file_name, data)

    def _shrink(self, newest: Path) -> None:
        """Remove the engines used longest ago until the rest fits; ``newest`` stays."""
        remove_unfinished(self.directory, seconds=3600)
        with suppress(FileNotFoundError):  # another process tidies up at the same time
            entries = [(path.stat(), path) for path in self.directory.glob("*.engine")]
            total = sum(entry.st_size for entry, _ in entries)
            for entry, path in sorted(entries, key=lambda pair: pair[0].st_mtime_ns):
                if total > self._limit and path != newest:
                    path.unlink()
                    total -= entry.st_size


def default_directory() -> Path:
    """The user's folder of engines, under XDG_CACHE_HOME; raises BackendError."""
    return _expanded(cache_folder("engines"))


def _expanded(directory: Path) -> Path:
    try:
        return directory.expanduser()
    except RuntimeError:
        raise BackendError(
            f"engines cannot be kept in {directory}, that home folder is not known",
            "set engine_cache to another folder",
        ) from None


def _read_own(path: Path) -> bytes | None:
    """A file's content, if nobody but this user and root can have written it."""
    try:
        with open_regular(path, os.O_NOFOLLOW) as file:
            facts = os.fstat(file.fileno())
            foreign = facts.st_uid not in (os.getuid(), 0)
            if foreign or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return None
            return file.read()
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_bytes(data)
