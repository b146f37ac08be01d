# SPDX-License-Identifier: Apache-2.0
"""RunOptions: one value, the same from code, the command line and JSON."""

from __future__ import annotations

import argparse
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_model import CARD, write_toy_model

from compact_yolo_ros.backends import BACKENDS, PRECISIONS, RunOptions, backend_names
from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of, to_arguments
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.support.plain_values import from_plain, to_plain

sides = st.integers(5, 40).map(lambda cells: 32 * cells)
image_sides = st.integers(1, 9999)
options = st.builds(
    RunOptions,
    model=st.sampled_from(["yolo_ret_m075", "my net.onnx"]),
    backend=st.sampled_from(backend_names()),
    precision=st.sampled_from(PRECISIONS),
    input_sizes=st.lists(sides | st.builds(Size, sides, sides), max_size=3).map(tuple),
    image_sizes=st.lists(st.builds(Size, image_sides, image_sides), max_size=3).map(tuple),
    batch=st.integers(1, 8),
    threads=st.integers(0, 64),
    dla_core=st.integers(-1, 3),
    engine_cache=st.sampled_from(["", "~/engines"]),
    spinning=st.booleans(),
)


def parse(words: list[str]) -> RunOptions:
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    return run_options_of(parser.parse_args(words))


@given(options)
def test_they_survive_the_command_line_json_and_pickling(given_options: RunOptions) -> None:
    assert parse(to_arguments(given_options)) == given_options
    text = json.dumps(to_plain(given_options))
    assert from_plain(RunOptions, json.loads(text)) == given_options
    assert pickle.loads(pickle.dumps(given_options)) == given_options


def test_a_size_that_only_the_model_can_have_survives_the_command_line() -> None:
    card = replace(CARD, default_size=56, default_height=40, any_size=True)
    resolved = RunOptions("toy", backend="tensorrt").resolved(card)
    assert resolved.input_sizes == (Size(56, 40),)
    assert parse(to_arguments(resolved)).resolved(card) == resolved


def test_what_is_pinned_is_for_the_file_as_it_was(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "toy.onnx")
    usual = RunOptions(str(path), input_sizes=(320,))
    pinned = usual.pinned()
    assert pinned != usual and pinned.pinned() == pinned and pinned.are_for_timing
    assert parse(to_arguments(pinned)) == usual
    assert pinned.find_model() == usual.find_model()
    write_toy_model(path, replace(CARD, name="other"))
    assert usual.find_model().card.name == "other"
    with pytest.raises(ModelError, match="toy.onnx has been overwritten since it was opened: set"):
        pinned.find_model()
    assert pinned.pinned().find_model().card.name == "other"
    path.unlink()
    with pytest.raises(ModelError, match="there is no model file"):
        pinned.pinned()


@pytest.mark.parametrize("threads", [-1, 65, 99_999])
def test_threads_have_the_bounds_of_the_node(threads: int) -> None:
    with pytest.raises(ValueError, match=f"{threads} threads are not usable: give 1 to 64, or 0"):
        RunOptions("toy", threads=threads)


def test_sizes_are_width_times_height_and_each_is_there_once() -> None:
    found = parse(["--input-size", "320x224", "416", "320x224"])
    assert found.input_sizes == (Size(width=320, height=224), 416)
    assert found.input_sizes[0].shape == (224, 320)
    assert str(found.input_sizes[0]) == "320x224"


@pytest.mark.parametrize("text", ["", "x", "320x", "x320", "320x320x3", "big", "3.5", "320 x"])
def test_another_form_of_a_size_is_explained(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form 320 or WIDTHxHEIGHT"):
        Size.parse(text)


def test_sizes_that_are_given_one_by_one_add_up() -> None:
    words = "--input-size 320 --input-size 224 --image-size 640x480 --image-size 1280x720"
    options = parse(words.split())
    assert options.input_sizes == (320, 224)
    assert options.image_sizes == (Size(640, 480), Size(1280, 720))


def test_what_is_left_to_the_card_comes_from_the_card() -> None:
    resolved = RunOptions("toy").resolved(CARD)
    assert (resolved.precision, resolved.input_sizes) == ("fp32", (320,))
    own = RunOptions("toy", precision="fp16", input_sizes=(Size(416, 256),))
    assert own.resolved(CARD) == own


def test_a_network_runs_at_the_size_it_was_made_for() -> None:
    """Also if no other network could be run at it."""
    wide = replace(CARD, default_size=416, default_height=256)
    assert RunOptions("toy").resolved(wide).input_sizes == (Size(416, 256),)
    tiny = replace(CARD, default_size=56, any_size=True)
    resolved = RunOptions("toy").resolved(tiny)
    assert resolved.change(threads=2).input_sizes == (Size(56, 56),)
    with pytest.raises(ValueError, match="input size 56 is not usable"):
        RunOptions("toy", input_sizes=((56, 56),))


def test_only_a_network_that_keeps_the_aspect_fits_cameras() -> None:
    cameras = ((1280, 720), (480, 640))
    options = RunOptions("toy", input_sizes=(320, Size.square(224)), image_sizes=cameras)
    assert options.resolved(CARD).sizes == (Size(320, 192), Size(256, 320), Size.square(224))
    assert RunOptions("toy", image_sizes=cameras[:1]).resolved(CARD).sizes == (Size(320, 192),)
    for change in ({"resize": "stretch"}, {"any_size": True}):
        card = replace(CARD, **change)
        assert options.resolved(card).sizes == (Size.square(320), Size.square(224))
        assert RunOptions("toy", image_sizes=cameras).resolved(card).sizes == (Size.square(320),)


def test_an_input_is_a_square_while_no_image_is_known() -> None:
    assert RunOptions("toy").resolved(CARD).sizes == (Size.square(320),)


def test_a_command_has_only_the_options_it_wants() -> None:
    parser = argparse.ArgumentParser()
    add_run_arguments(parser, leave_out=("backend", "threads"))
    assert run_options_of(parser.parse_args([])) == RunOptions()
    with pytest.raises(SystemExit):
        parser.parse_args(["--backend", "auto"])


def test_every_backend_says_what_choice_doctor_and_docs_read() -> None:
    for name, info in BACKENDS.items():
        assert info.name == name
        assert info.runs_on in ("CPU", "GPU")
        assert info.libraries and all(library.install_line for library in info.libraries)
    *_, last = (info for info in BACKENDS.values() if info.automatic)
    assert last.runs_on == "CPU"  # what auto falls back to
