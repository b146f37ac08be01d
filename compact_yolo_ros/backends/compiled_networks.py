# SPDX-License-Identifier: Apache-2.0
"""Networks that OpenVINO has compiled, on disk: to compile one takes up to a second."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.backends.processor import processor_digest
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile
from compact_yolo_ros.support.files import cache_folder, short_name
from compact_yolo_ros.support.trusted_cache import TrustedCache

LIMIT = 128 * 2**20
"""Bytes of networks that are kept; one of a compact detector takes 2 to 8 million."""


@dataclass(frozen=True)
class NetworkKey:
    """Everything that a compiled network depends on.

    Attributes:
        model: file name without ending, for people.
        onnx_sha256: SHA-256 of the ONNX file.
        library: the installed version.
        processor: a digest of what Linux says of it.
        precision: what it computes in, as OpenVINO calls it.
        threads: that compute it.
        size: of the input, for example ``320x256``.
    """

    model: str
    onnx_sha256: str
    library: str
    processor: str
    precision: str
    threads: int
    size: str

    @property
    def name(self) -> str:
        """Short, and its own for every key."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return f"{short_name(self.model)}-{self.size}-{self.precision}-{digest}"

    @property
    def text(self) -> str:
        """All of it in a line."""
        return json.dumps(asdict(self), sort_keys=True)


def network_key(
    model: ModelFile, library: Library, precision: str, threads: int, size: Size
) -> NetworkKey:
    """What a network compiled on this machine depends on."""
    return NetworkKey(
        model=model.path.stem,
        onnx_sha256=model.sha256,
        library=library.installed,
        processor=processor_digest(),
        precision=precision,
        threads=threads,
        size=str(size),
    )


def load(key: NetworkKey) -> bytes | None:
    """A network; None if it was not compiled yet, or cannot be trusted."""
    with suppress(RuntimeError):  # the home folder is not known
        return _networks().load(key.name, key.text)
    return None


def store(key: NetworkKey, network: bytes) -> None:
    """Keep a network where a node has timed; other programs leave nothing in a home folder."""
    with suppress(OSError, RuntimeError):  # without it, only the next change-over takes longer
        if cache_folder("timings").expanduser().is_dir():
            _networks().store(key.name, key.text, network)


def _networks() -> TrustedCache:
    return TrustedCache(cache_folder("networks").expanduser(), "network", LIMIT)
