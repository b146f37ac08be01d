# SPDX-License-Identifier: Apache-2.0
"""From what a user calls a model to a verified file and its card."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.onnx_metadata import MOST_BYTES, check_weights_inside, metadata_of
from compact_yolo_ros.support.error_text import shortened
from compact_yolo_ros.support.files import read_file, sha256_of, version_of
from compact_yolo_ros.support.plain_values import from_plain
from compact_yolo_ros.support.resources import resource_directory
from compact_yolo_ros.support.yaml_files import read_yaml

FOLDERS_VARIABLE = "COMPACT_YOLO_MODELS"
"""Environment variable: folders of the user's own models, like PATH."""


class ModelError(ValueError):
    """The model cannot be found, read or trusted."""


MANIFEST = "manifest.yaml"


@dataclass(frozen=True)
class ManifestEntry:
    """A model of a folder: the name of its file, and the SHA-256 of the file."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file that was found, and checked against the manifest if it is one of ours."""

    path: Path
    card: ModelCard

    @property
    def sha256(self) -> str:
        """Of the file as it is now, in hexadecimal; read once while it stays.

        Raises:
            ModelError: it cannot be read.
        """
        try:
            return sha256_of(self.path, MOST_BYTES)
        except OSError as error:
            raise ModelError(f"cannot read {self.path}: {error.strerror}") from None


def model_names(directory: Path | None = None) -> list[str]:
    """Names of the models that come with the package."""
    return sorted(_manifest(directory or _own_directory()))


def find_model(name_or_path: str, directory: Path | None = None) -> ModelFile:
    """Find a model by its name or by the path of an ONNX file.

    A name is that of a file in a folder of ``FOLDERS_VARIABLE``, else of the package's manifest:
    who has trained a detector of the package again, and names the folder, means that file.

    Args:
        name_or_path: ``yolo_ret_m075``, or a path that ends in ``.onnx``.
        directory: folder with ``manifest.yaml``; the package's own if None.

    Raises:
        ModelError: no such model, unreadable, altered, without a usable card, or with weights in
            another file.
    """
    if name_or_path.endswith(".onnx"):
        path = Path(os.path.expanduser(name_or_path))  # an unknown home folder stays as it is
        if not _is_there(path):
            raise ModelError(f"there is no model file {shortened(path)}")
    else:
        path = _named(name_or_path, directory or _own_directory())
    return _with_card(path)


def shipped_model(name: str, directory: Path | None = None) -> ModelFile:
    """Find a model that comes with the package, whatever the user's folders hold.

    Args:
        name: ``yolo_ret_m075``, for example.
        directory: see ``find_model``.

    Raises:
        ModelError: see ``find_model``.
    """
    directory = directory or _own_directory()
    return _with_card(_shipped(name, directory) or _unknown(name, directory))


def _with_card(path: Path) -> ModelFile:
    try:
        return ModelFile(path, _card(path, version_of(path)))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(str(error)) from None


@lru_cache(maxsize=16)
def _card(path: Path, version: tuple[int, ...]) -> ModelCard:
    """The card of a file, read once while that stays."""
    data = read_file(path, MOST_BYTES)
    card = ModelCard.from_metadata(metadata_of(data, path), str(path))
    check_weights_inside(data, path)
    return card


def _is_there(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        ModelError: the system does not even look, for example because the path is too long.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise ModelError(f"cannot read {shortened(path)}: {error.strerror}") from None


def _own_directory() -> Path:
    try:
        return resource_directory("models")
    except FileNotFoundError as error:
        raise ModelError(str(error)) from None


def _named(name: str, directory: Path) -> Path:
    for folder in filter(None, os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep)):
        path = Path(os.path.expanduser(folder)) / f"{name}.onnx"
        if _is_there(path):
            return path
    return _shipped(name, directory) or _unknown(name, directory)


def _shipped(name: str, directory: Path) -> Path | None:
    """The file of a model of the package; None if it has none of that name."""
    entry = _manifest(directory).get(name)
    return _verified(directory / entry.file, entry.sha256) if entry else None


def _unknown(name: str, directory: Path) -> NoReturn:
    names = ", ".join(sorted(_manifest(directory)))
    raise ModelError(
        f"there is no model '{shortened(name)}': give one of {names}, the "
        f"path of an .onnx file, or have {shortened(name)}.onnx in a folder that "
        f"{FOLDERS_VARIABLE} names"
    )


def _verified(path: Path, sha256: str) -> Path:
    """``path``, if its content is the one the manifest was written for."""
    try:
        digest = sha256_of(path, MOST_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; reinstall the package") from None
    if digest != sha256:
        raise ModelError(
            f"{path} is damaged or was altered (SHA-256 differs): reinstall the package"
        )
    return path


def _manifest(directory: Path) -> dict[str, ManifestEntry]:
    path = directory / MANIFEST
    try:
        return _entries(path, version_of(path))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; reinstall the package") from None
    except ValueError as error:
        raise ModelError(f"{path} cannot be used: {error}; reinstall the package") from None


@lru_cache(maxsize=16)
def _entries(path: Path, version: tuple[int, ...]) -> dict[str, ManifestEntry]:
    """The manifest, read once while its file stays."""
    return read_manifest(path)


def read_manifest(path: Path) -> dict[str, ManifestEntry]:
    """Read the list of a folder's models, by their names; an empty file lists none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not such a list; the message tells why.
    """
    content = read_yaml(path)
    return from_plain(dict[str, ManifestEntry], {} if content is None else content)
