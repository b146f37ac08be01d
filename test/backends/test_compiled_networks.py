# SPDX-License-Identifier: Apache-2.0
"""Networks that OpenVINO has compiled are read again, only where and as they were compiled."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_model import write_altered, write_toy_model

from compact_yolo_ros.backends import RunOptions, compiled_networks, open_backend
from compact_yolo_ros.backends.compiled_networks import NetworkKey
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError

openvino = pytest.importorskip("openvino", reason="OpenVINO is optional and not installed here")
KEY = NetworkKey("m", "0" * 64, "openvino 1", "a processor", "f32", 1, "320x320")


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the networks, in which there are none yet, where a node has timed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "compact_yolo_ros" / "timings").mkdir(parents=True)
    return tmp_path / "compact_yolo_ros" / "networks"


@pytest.fixture
def options(toy: str) -> RunOptions:
    sizes = (Size.square(320), Size.square(352))
    return RunOptions(toy, backend="openvino", threads=1, input_sizes=sizes)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shape of every network that is compiled, and not read."""
    shapes: list[str] = []
    compile_model = openvino.Core.compile_model

    def noting(core: Any, network: Any, *others: Any) -> Any:
        shapes.append(str(network.input(0).partial_shape))
        return compile_model(core, network, *others)

    monkeypatch.setattr(openvino.Core, "compile_model", noting)
    return shapes


def answers(options: RunOptions) -> list[NDArray[Any]]:
    """What the network puts out at all of its sizes, for noise."""
    backend = open_backend(options).backend
    found: list[NDArray[Any]] = []
    for size in options.sizes:
        backend.resize(size)
        noise = np.random.default_rng(1).integers(0, 256, backend.input.shape, np.uint8)
        backend.input[...] = noise
        found += [output.copy() for output in backend.run()]
    backend.close()
    return found


def test_what_was_compiled_is_read_and_answers_alike(
    options: RunOptions, compiled: list[str]
) -> None:
    first = answers(options)
    assert compiled == ["[1,320,320,3]", "[1,352,352,3]"]
    for before, after in zip(first, answers(options), strict=True):
        np.testing.assert_array_equal(before, after)
    assert len(compiled) == 2


@pytest.mark.parametrize("damage", ["cut off", "writable by others", "foreign", "no network"])
def test_what_cannot_be_trusted_is_compiled_anew(
    options: RunOptions, compiled: list[str], networks: Path, damage: str
) -> None:
    options = options.change(input_sizes=options.sizes[:1])
    answers(options)
    (path,) = networks.glob("*.network")
    whole = path.read_bytes()
    if damage == "writable by others":
        path.chmod(0o666)
    elif damage == "no network":  # with a key and a sum that are right
        key = NetworkKey(**json.loads(whole.split(b"\n")[1]))
        compiled_networks.store(key, b"not compiled by OpenVINO")
    else:
        path.write_bytes(whole[:-1] if damage == "cut off" else b"{}")
    answers(options)
    assert len(compiled) == 2 and path.stat().st_mode & 0o777 == 0o600
    answers(options)
    assert len(compiled) == 2  # it was replaced


def test_another_version_compiles_anew(
    options: RunOptions, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(options)
    monkeypatch.setattr(Library, "installed", "openvino of tomorrow")
    answers(options)
    assert len(compiled) == 4


@pytest.mark.parametrize("name", [field.name for field in fields(NetworkKey)])
def test_every_part_of_the_key_makes_another_network(name: str) -> None:
    compiled_networks.store(KEY, b"a network")
    other = replace(KEY, **{name: 2 if name == "threads" else "other"})
    assert compiled_networks.load(KEY) == b"a network" and compiled_networks.load(other) is None


def test_nothing_is_kept_where_no_node_has_timed(networks: Path) -> None:
    (networks.parent / "timings").rmdir()
    compiled_networks.store(KEY, b"a network")
    assert not networks.exists() and compiled_networks.load(KEY) is None


def test_batches_are_not_kept(options: RunOptions, networks: Path) -> None:
    open_backend(options.change(batch=2, input_sizes=options.sizes[:1])).backend.close()
    assert not networks.exists()


@pytest.fixture
def overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that another one overwrites just before OpenVINO reads it."""
    path = write_toy_model(tmp_path / "toy.onnx")
    other = Path(write_altered(tmp_path / "other.onnx", "boxes", "Add", np.array(9, np.float32)))
    read_model = openvino.Core.read_model

    def late(core: Any, name: str) -> Any:
        path.write_bytes(other.read_bytes())
        return read_model(core, name)

    monkeypatch.setattr(openvino.Core, "read_model", late)
    return path


def test_what_was_compiled_of_another_file_is_not_kept(
    options: RunOptions, networks: Path, overwritten: Path
) -> None:
    answers(options.change(model=str(overwritten), input_sizes=options.sizes[:1]))
    assert not networks.exists()


def test_a_file_that_is_overwritten_while_it_is_opened_is_not_the_pinned_one(
    options: RunOptions, overwritten: Path
) -> None:
    options = options.change(model=str(overwritten)).pinned()
    with pytest.raises(ModelError, match="toy.onnx has been overwritten since it was opened"):
        open_backend(options)


@pytest.mark.parametrize("folder", ["/proc/nobody", "~nobody_of_that_name"])
def test_without_a_folder_it_works_all_the_same(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    assert answers(options.change(input_sizes=options.sizes[:1]))
