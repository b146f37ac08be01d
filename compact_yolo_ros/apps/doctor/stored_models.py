# SPDX-License-Identifier: Apache-2.0
"""The model store: whether its files are there and have the checksums of the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.model.store import (
    FOLDERS_VARIABLE,
    ModelError,
    ModelFile,
    find_model,
    model_names,
    shipped_model,
)
from compact_yolo_ros.support.error_text import shortened

REINSTALL = "install the package again, and source the workspace"


def own_models(around: Surroundings) -> Iterator[Finding]:
    """Report the models that come with the package, and compare their checksums."""
    try:
        names = model_names()
    except ModelError as error:
        yield problem("models", str(error), REINSTALL)
        return
    for name in names:
        try:
            model = shipped_model(name)
        except ModelError as error:
            yield problem(name, str(error), REINSTALL)
        else:
            yield ok(name, f"{_described(model)}, checksum right: {model.path}")


def user_models(around: Surroundings) -> Iterator[Finding]:
    """Report the models in the folders that the user has named."""
    for folder in filter(None, around.environment.get(FOLDERS_VARIABLE, "").split(os.pathsep)):
        path = Path(os.path.expanduser(folder))
        try:
            files = sorted(file for file in path.iterdir() if file.suffix == ".onnx")
        except OSError as error:
            found = f"the folder {shortened(path)} cannot be read: {error.strerror}"
            yield problem(FOLDERS_VARIABLE, found, "correct the variable, or open the folder")
            continue
        if not files:
            yield note(FOLDERS_VARIABLE, f"{path} holds no .onnx file", "correct the variable")
        for file in files:
            try:
                model = find_model(str(file))
            except ModelError as error:
                yield problem(file.stem, str(error), "export it again, or move it elsewhere")
            else:
                yield ok(file.stem, f"{_described(model)}: {file}{_replaced(file)}")


def _replaced(file: Path) -> str:
    """Whether a file is what a name of the package's models stands for."""
    try:
        replaces = file.stem in model_names() and find_model(file.stem).path == file
    except ModelError:
        return ""
    return ", used for the package's own of that name" if replaces else ""


def missing(name: str) -> Iterator[Finding]:
    """Report why the model for the backends cannot be used; nothing if it can."""
    try:
        find_model(name)
    except ModelError as error:
        yield problem("--model", f"no backend was tried: {error}", "correct the name or the path")


def _described(model: ModelFile) -> str:
    card = model.card
    own = card.own_input
    size = f"long side {own}, fits the camera" if isinstance(own, int) else f"input {own}"
    return f"{card.precision}, {len(card.classes)} classes, {size}"
