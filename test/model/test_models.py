# SPDX-License-Identifier: Apache-2.0
"""Model cards, the metadata reader and the model store."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnx.external_data_helper import set_external_data
from toy_model import CARD, write_store, write_toy_model

from compact_yolo_ros.model.card import METADATA_KEY, ModelCard, ModelCardError
from compact_yolo_ros.model.onnx_metadata import read_metadata
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import (
    ModelError,
    ModelFile,
    find_model,
    model_names,
    shipped_model,
)

FULL_CARD = ModelCard(
    name="full",
    detector="yolo",
    classes=("person", "voiture électrique"),
    default_size=416,
    resize="stretch",
    anchors=(((10.0, 13.0), (16.0, 30.0)), ((33.0, 23.0), (30.0, 61.0))),
    strides=(32, 16),
    ap={"320": {"AP50": 0.5}},
)


@pytest.mark.parametrize("card", [CARD, FULL_CARD])
def test_a_card_survives_json(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


def test_a_figure_that_is_not_known_stays_so() -> None:
    text = json.dumps({**json.loads(CARD.to_json()), "ap": {"320": {"AP": None}}})
    card = ModelCard.from_json(text)
    assert json.loads(card.to_json())["ap"] == {"320": {"AP": None}}
    assert math.isnan(ModelCard.from_json(card.to_json()).ap["320"]["AP"])


def test_a_card_of_a_later_version_is_read() -> None:
    values = {**json.loads(CARD.to_json()), "colour_of_the_shed": "red"}
    assert ModelCard.from_json(json.dumps(values)) == CARD


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"classes": []}, "names 0 classes"),
        ({"classes": [str(n) for n in range(65_537)]}, "names 65537 classes, not 1 to 65536"),
        ({"classes": "person"}, "cannot be used: classes is not a list"),
        ({"classes": {"0": "person"}}, "classes is not a list"),
        ({"classes": ["a", None]}, r"classes\[1\] is not a text"),
        ({"classes": ["a", ""]}, "has the name '': a name has 1 to 100 letters"),
        ({"classes": ["a\n"]}, r"has the name 'a\\n': .* no control characters"),
        ({"classes": ["a\u2028b"]}, "no control characters"),
        ({"classes": ["a" * 1_000_000]}, "a name has 1 to 100 letters"),
        ({"classes": ["a\udc80"]}, "no control characters"),
        ({"notes": "a\udc80"}, "half a character"),
        ({"name": None}, "cannot be used: name is not a text"),
        ({"name": ""}, "has the name ''"),
        ({"name": "x" * 5_000}, "a name has 1 to 100 letters"),
        ({"default_size": 320.0}, "cannot be used: default_size is not a whole number"),
        ({"default_size": True}, "default_size is not a whole number"),
        ({"default_height": 32.5}, "default_height is not a whole number"),
        ({"any_size": 1}, "any_size is not true or false"),
        ({"anchors": [[[1.0]]]}, r"anchors\[0\]\[0\] has 1 values, not 2"),
        ({"anchors": [[["a", 1.0]]]}, r"anchors\[0\]\[0\]\[0\] is not a number"),
        ({"strides": 32}, "strides is not a list"),
        ({"parameters": "many"}, "parameters is not a whole number"),
        ({"precision": ["fp32"]}, "precision is not a text"),
        ({"precision": "fp64"}, "has the precision 'fp64', not fp32 or fp16 or int8"),
        ({"precision": "auto"}, "has the precision 'auto', not fp32 or fp16 or int8"),
        ({"precision": ""}, "has the precision '', not fp32 or fp16 or int8"),
        ({"gmacs": []}, "gmacs is not an object"),
        ({"gmacs": {"large": 1.0}}, "figures for no input size: 'large'"),
        ({"ap": {"320": 0.5}}, "ap.320 is not an object"),
        ({"ap": {"large": {"AP": 0.5}}}, "figures for no input size: 'large'"),
        ({"ap": {"320": {"AP": "good"}}}, "ap.320.AP is not a number"),
        ({"notes": 5}, "notes is not a text"),
        ({"classes": ["a", "a"]}, "names a class twice"),
        ({"default_size": 321}, "default_size is wrong: input size 321"),
        ({"default_size": "320"}, "default_size is not a whole number"),
        ({"default_height": 200}, "default_size is wrong: input size 200"),
        ({"default_height": "256"}, "default_height is not a whole number"),
        ({"default_size": 1281, "any_size": True}, "1281x1281 is not usable: give sides from 1 to"),
        ({"default_height": -1, "any_size": True}, "320x-1 is not usable"),
        ({"default_size": 56.5, "any_size": True}, "default_size is not a whole number"),
        ({"resize": "crop"}, "resize is not 'letterbox' or 'corner' or 'stretch'"),
    ],
)
def test_a_wrong_card_is_refused(change: dict, sentence: str) -> None:
    with pytest.raises(ModelCardError, match=sentence):
        ModelCard.from_json(json.dumps({**json.loads(CARD.to_json()), **change}))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"default_size": 320}, (320, 320)),
        ({"default_size": 320, "default_height": 256}, (320, 256)),
        ({"default_size": 56, "any_size": True}, (56, 56)),
        ({"default_size": 300, "default_height": 200, "any_size": True}, (300, 200)),
    ],
)
def test_a_card_says_the_size_its_network_was_made_for(fields: dict, size: tuple) -> None:
    values = {**json.loads(CARD.to_json()), **fields}
    assert ModelCard.from_json(json.dumps(values)).own_size == Size(*size)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"name": "x"}', "[" * 200_000, '{"name": NaN}', '{"name": "\\ud800"}']
)
def test_text_that_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(ModelCardError):
        ModelCard.from_json(text)


@given(st.dictionaries(st.text(max_size=40), st.text(max_size=300), max_size=6))
def test_metadata_is_read_as_the_onnx_package_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, properties: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("meta") / "m.onnx"
    model = onnx.load(write_toy_model(path, None))
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    assert read_metadata(path) == properties


@given(st.binary(max_size=200))
def test_any_bytes_are_metadata_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        assert isinstance(read_metadata(path), dict)
    except ValueError as error:
        assert "is not an ONNX file" in str(error)
    except OSError as error:
        assert "git lfs pull" in str(error) and data.startswith(b"version https://git-lfs")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "toy.onnx")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ModelError, match="not an ONNX file, or it is cut off"):
        find_model(str(path))


def test_a_file_with_weights_in_another_one_is_refused(tmp_path: Path) -> None:
    """They could change, and what was made of it before would still be taken."""
    model = onnx.load(write_toy_model(tmp_path / "toy.onnx"))
    (constant,) = (tensor for tensor in model.graph.initializer if tensor.name == "to_unit")
    (tmp_path / "toy.data").write_bytes(constant.raw_data)
    set_external_data(constant, "toy.data")
    constant.ClearField("raw_data")
    path = tmp_path / "split.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="split.onnx keeps its weights in another file, .*: write"):
        find_model(str(path))
    onnx.save(onnx.load(path), tmp_path / "one.onnx")  # as the sentence says
    assert find_model(str(tmp_path / "one.onnx")).card == CARD


def test_a_word_of_such_files_is_no_reason_to_refuse_one(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "toy.onnx", replace(CARD, notes="location"))
    assert find_model(str(path)).card.notes == "location"


def test_a_file_without_card_says_how_to_get_one(tmp_path: Path) -> None:
    path = write_toy_model(tmp_path / "plain.onnx", None)
    with pytest.raises(ModelError, match="carries no model card; export it with"):
        find_model(str(path))


def test_a_file_with_a_broken_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    model = onnx.load(write_toy_model(path, None))
    helper.set_model_props(model, {METADATA_KEY: "{}"})
    onnx.save(model, path)
    with pytest.raises(ModelError, match="broken.onnx: the model card cannot be used: it has no"):
        find_model(str(path))


def test_a_missing_file_and_an_unknown_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="there is no model file"):
        find_model(str(tmp_path / "nowhere.onnx"))
    with pytest.raises(ModelError, match="no model 'yolo_x': give one of toy, the path"):
        find_model("yolo_x", write_store(tmp_path))
    for name, reason in (
        ("x" * 5_000, "there is no model"),
        (f"/{'x' * 5_000}.onnx", "cannot read .*: File name too long"),
        (f"/{'x/' * 5_000}y.onnx", "cannot read .*: File name too long"),
        ("a\0b.onnx", "there is no model file"),
    ):
        with pytest.raises(ModelError, match=reason) as caught:
            find_model(name, write_store(tmp_path))
        assert len(str(caught.value)) < 500
    monkeypatch.setenv("COMPACT_YOLO_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot read .*xxx\.onnx: File name too long"):
        find_model("x" * 5_000, write_store(tmp_path))
    with pytest.raises(ModelError, match="there is no model file ~nobody_of_that_name/x.onnx"):
        find_model("~nobody_of_that_name/x.onnx")


def test_models_of_ones_own_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "own").mkdir()
    store = write_store(tmp_path / "store")
    path = write_toy_model(tmp_path / "own" / "mine.onnx")
    with pytest.raises(ModelError, match="mine.onnx in a folder that COMPACT_YOLO_MODELS names"):
        find_model("mine", store)
    monkeypatch.setenv("COMPACT_YOLO_MODELS", f"/nowhere:{path.parent}")
    assert find_model("mine", store).path == path


def test_a_model_of_ones_own_replaces_that_of_the_package_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As who trains a shipped detector again has it: the file keeps the detector's name."""
    (tmp_path / "store").mkdir()
    (tmp_path / "own").mkdir()
    store = write_store(tmp_path / "store")
    card = replace(CARD, classes=("cone", "gate", "buoy"))
    path = write_toy_model(tmp_path / "own" / "toy.onnx", card)
    assert find_model("toy", store).path.parent == store
    monkeypatch.setenv("COMPACT_YOLO_MODELS", f"/nowhere:{path.parent}")
    assert find_model("toy", store) == ModelFile(path, card)
    assert shipped_model("toy", store) == ModelFile(store / "toy.onnx", CARD)
    with pytest.raises(ModelError, match="no model 'mine': give one of toy"):
        shipped_model("mine", store)
    path.unlink()
    assert find_model("toy", store).path.parent == store


def test_an_altered_model_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    with (store / "toy.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="was altered .*reinstall"):
        find_model("toy", store)


@pytest.mark.parametrize("text", ["[]", "toy: 1", "toy: {file: 1, sha256: a}", "1: {}"])
def test_a_manifest_of_another_form_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    with pytest.raises(ModelError, match=r"manifest.yaml cannot be used: .*; reinstall"):
        find_model("toy", tmp_path)


@pytest.mark.parametrize("text", ["[" * 20_000, "a: &a [*a]", "toy: 1\ntoy: 2", "a: .inf", "["])
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    with pytest.raises(ModelError, match=r"manifest.yaml cannot be used: .*; reinstall") as caught:
        find_model("toy", tmp_path)
    assert "\n" not in str(caught.value)


def test_every_model_of_the_package_is_what_its_manifest_says() -> None:
    for name in model_names():
        assert find_model(name).card.name == name
