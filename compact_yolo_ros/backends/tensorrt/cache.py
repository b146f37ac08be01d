# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines on disk: found again only where and as they were built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.tensorrt.cuda import Gpu
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.support.files import cache_folder, short_name
from compact_yolo_ros.support.trusted_cache import TrustedCache, read_own, require_own, write_own

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

DEFAULT_LIMIT = 2 * 2**30
"""Bytes of engines that are kept; one of a compact detector takes 10 to 50 million."""

RECIPE = 2
"""Raised when this package makes another engine of the same file: those of before are built anew.
Since 2, an engine has been compared with its model."""
REFUSALS_LIMIT = 2**20
"""Bytes of sentences why engines were not kept."""


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
        recipe: of this package.
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
    recipe: int = RECIPE

    @property
    def name(self) -> str:
        """Short, and its own for every key."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        batch, height, width, _ = self.profile
        return f"{short_name(self.model)}-{width}x{height}-b{batch}-{self.precision}-{digest}"

    @property
    def timing_file_name(self) -> str:
        """The timing cache depends on the GPU and TensorRT only, and serves all models."""
        text = "|".join((self.tensorrt, self.cuda, self.gpu, self.compute_capability))
        return f"timing-{hashlib.sha256(text.encode()).hexdigest()[:16]}.cache"

    @property
    def text(self) -> str:
        """All of it in a line."""
        return json.dumps(asdict(self), sort_keys=True)


def engine_key(model: ModelFile, options: RunOptions, trt: Any, device: Gpu) -> EngineKey:
    """What the engine for the first input size depends on, on this machine."""
    return EngineKey(
        model=model.path.stem,
        onnx_sha256=model.sha256,
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
    """A folder of engines, which are code for the GPU: see ``TrustedCache``."""

    def __init__(self, directory: str | Path = "", limit: int = DEFAULT_LIMIT) -> None:
        """Use ``directory``, or the user's own cache folder; keep at most ``limit`` bytes.

        Raises:
            BackendError: a ``~`` stands for a home folder that is not known.
        """
        self.directory = _expanded(Path(directory)) if directory else default_directory()
        self._engines = TrustedCache(self.directory, "engine", limit)
        self._refusals = TrustedCache(self.directory, "refusal", REFUSALS_LIMIT)

    def load(self, key: EngineKey) -> bytes | None:
        """The engine built for ``key``; None if there is none that can be trusted."""
        return self._engines.load(key.name, key.text)

    def store(self, key: EngineKey, plan: bytes) -> Path:
        """Keep an engine; raises OSError if it cannot be written."""
        return self._engines.store(key.name, key.text, plan)

    def load_refusal(self, key: EngineKey) -> str:
        """Why the engine built for ``key`` was not kept; empty if none was built, or it was."""
        return (self._refusals.load(key.name, key.text) or b"").decode(errors="replace")

    def store_refusal(self, key: EngineKey, reason: str) -> None:
        """Remember why an engine is not kept; raises OSError."""
        self._refusals.store(key.name, key.text, reason.encode())

    def refusal_path(self, key: EngineKey) -> Path:
        """The file that remembers it."""
        return self._refusals.path(key.name)

    def require_writable(self) -> None:
        """Raise BackendError if no engine can be kept here: a build would be in vain."""
        try:
            require_own(self.directory)
        except OSError as error:
            raise BackendError(
                f"engines cannot be kept in {self.directory} ({error.strerror})",
                "set engine_cache to another folder",
            ) from None

    def load_timing(self, key: EngineKey) -> bytes:
        """Load the timing cache of earlier builds for this GPU; empty if there is none."""
        return read_own(self.directory / key.timing_file_name) or b""

    def store_timing(self, key: EngineKey, data: bytes) -> None:
        """Keep a serialised timing cache; raises OSError."""
        write_own(self.directory / key.timing_file_name, data)


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
