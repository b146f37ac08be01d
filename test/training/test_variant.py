# SPDX-License-Identifier: Apache-2.0
"""A detector with options is one value, from the recipe to the card of the exported file."""

from __future__ import annotations

import json
from functools import cache

import pytest
import torch
import yaml
from drawn import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.apps.benchmark.tables import published_rows
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import find_model
from training.deployment.model_card import card_of, to_markdown
from training.deployment.onnx_export import export
from training.describe import describe
from training.detectors.complexity import parameters
from training.detectors.registry import DETECTORS, build
from training.detectors.variant import Variant, change, changed
from training.loop.checkpoint import load_detector, save_checkpoint
from training.loop.recipe import Recipe
from training.loop.trainer import Trainer
from training.weights.from_onnx import read_exported
from training.weights.origin import read_origin

SMALL = "{name: yolo_ret_m075, backbone: {name: mobilenet_v2, width: 0.5, blocks: 9}, neck: none}"
PRUNED = f"{SMALL[:-1]}, channels: {{backbone.stem: 9, neck.p4.0: 100}}}}"
FASTEST = (
    "{name: yolo_ret_m075, backbone: {name: mobilenet_v2, width: 0.25, blocks: 4}, neck: none, "
    "rfcr: false, channels: {backbone.stem: 5, neck.p4.0: 100}}"
)
PHASES = {"phases": [{"epochs": 1, "sizes": 64}], "batch_size": 4}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_name_alone_is_the_row(name):
    variant = Variant.parse(name)
    assert variant.config == DETECTORS[name].config
    assert (variant.to_settings(), str(variant), variant.file_name) == (name, name, name)


def test_the_example_of_the_manual():
    variant = Variant.parse(SMALL.replace("neck: none", "neck: fpn, rfcr: false"))
    assert variant.config.backbone.blocks == 9 and variant.config.neck == "fpn"
    network = variant.build(3)
    # width 0.5: 16 channels in stem, 8 16 16 32 in the stages; no block of stride 32 is left
    assert network.backbone.channels == (16, 16, 32, 32)
    assert [m.shape[1:] for m in network.eval()(torch.zeros(1, 3, 64, 64))] == [
        (24, 8, 8), (24, 4, 4), (24, 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text, printed",
    [
        ("{name: yolo_ret_m075, neck: panet}", "yolo_ret_m075"),
        ("{neck: fpn, name: yolo_ret_m075}", "{name: yolo_ret_m075, neck: fpn}"),
        (
            "{name: yolo_ret_m075, backbone: mobilenet_v2_140}",
            "{name: yolo_ret_m075, backbone: {width: 1.4}}",
        ),
        (
            "{name: yolo_ret_m075, backbone: {name: efficientnet_b0}}",
            "{name: yolo_ret_m075, backbone: {name: efficientnet_b0, width: 1.0}}",
        ),
        ("{name: micro_yolo, s32: {kind: dsconv}}", "{name: micro_yolo, s32: {kind: dsconv}}"),
        (
            "{name: yolo_nano, up8: [{kind: conv, outputs: 49}]}",
            "{name: yolo_nano, up8: [{outputs: 49, kernel: 1, stride: 1, kind: conv}]}",
        ),
        ("{name: yolo_fastest, version: 1.0}", "{name: yolo_fastest, version: '1.0'}"),
        ("{name: yolov4_tiny, width: 0.5}", "{name: yolov4_tiny, width: 0.5}"),
    ],
)
def test_what_is_printed_can_be_read_and_says_only_what_differs(text, printed):
    variant = Variant.parse(text)
    assert str(variant) == printed
    assert Variant.parse(printed) == variant
    plain = json.loads(json.dumps(variant.to_settings()))
    assert Variant.from_settings(yaml.safe_load(yaml.safe_dump(plain))) == variant


@settings(max_examples=12, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rfcr": st.booleans(),
            "shortcut": st.booleans(),
            "neck": st.sampled_from(["none", "fpn", "panet", "bifpn2"]),
            "backbone": st.fixed_dictionaries(
                {}, optional={"width": st.floats(0.1, 1.5), "blocks": st.integers(4, 17)}
            ),
        },
    )
)
def test_any_options_survive_being_written(options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.detectors.variant._check", lambda *_: None)  # it takes its time
        _survive(options)


def _survive(options):
    variant = Variant.from_settings({"name": "yolo_ret_m075", **options})
    assert Variant.from_settings(variant.to_settings()) == variant == Variant.parse(str(variant))


@pytest.mark.parametrize(
    "text, message",
    [
        ("yolo", r"detector must be one of micro_yolo, .*yolo_ret_m075.*, not 'yolo'"),
        ("{neck: fpn}", "detector.name is missing: name the detector"),
        ("{name: yolo_ret_m075, nek: fpn}", "unknown option detector.nek: .* has backbone, .*neck"),
        ("{name: yolo_ret_m075, neck: x}", "detector.neck must be one of none, fpn, .*, not 'x'"),
        ("{name: yolo_ret_m075, rfcr: 3}", "detector.rfcr must be true or false, not 3"),
        ("{name: yolo_ret_m075, num_classes: 3}", "num_classes is no option: the classes are"),
        ("{name: yolo_ret_m075, backbone: vgg}", "backbone must be one of mobilenet_v2_050, .*vgg"),
        ("{name: yolo_ret_m075, backbone: {blocks: 30}}", "blocks must be from 4 to 17, not 30"),
        ("{name: yolo_ret_m075, backbone: {width: -1}}", "width must be from 0.1 to 4, not -1"),
        (
            "{name: yolo_ret_m075, backbone: {name: efficientnet_b0, width: 0.5}}",
            "detector.backbone.width must be 1: that of efficientnet_b0 is a part of its name",
        ),
        (
            "{name: yolo_ret_m075, backbone: {blocks: 9}, truncated: false}",
            "detector.truncated must be true where backbone.blocks",
        ),
        ("{name: micro_yolo, s32: {kernel: 2}}", "detector.s32.kernel must be one of 1, 3, .* 2"),
        ("{name: micro_yolo, s32: {outputs: 9000000}}", "outputs must be from 1 to 4096"),
        ("{name: micro_yolo, trunk: 5}", "detector.trunk.0 must be a mapping, not 5"),
        ("{name: micro_yolo, grid: {strides: [8, 16]}}", "maps have strides 16, 32, .* says 8, 16"),
        ("{name: micro_yolo, grid: {anchors: [[[1, 2]]]}}", "as many for each of 2 strides"),
        ("{name: yolo_nano, up8: [{kind: x}]}", "up8.0.kind must be one of conv, ep, pep, fca"),
        ("{name: yolo_nano, trunk: []}", "detector.trunk must have 5 stages"),
        ("{name: yolo_fastest, version: 2}", "detector.version must be one of 1.0, 1.1, not 2"),
        ("{name: yolo_fastest, version: true}", "version must be one of 1.0, 1.1, not True"),
        ("{name: yolov4_tiny, depth: 9999}", "detector.depth must be from 1 to 64, not 9999"),
        ("{name: [", "cannot be read: it is not YAML"),
        ("{name: yolo_ret_m075, a: " + "[" * 5000, "nested deeper than 64"),
    ],
)
def test_what_is_not_possible_is_one_sentence_of_what_is(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Variant.parse(text)
    assert "\n" not in str(caught.value)


def test_assignments_change_one_option_or_a_part_of_it():
    assert changed("yolo_ret_m075", []) == "yolo_ret_m075"
    assert changed("yolo_ret_m075", ["detector.neck=fpn", "detector.neck=panet"]) == "yolo_ret_m075"
    both = ["detector.backbone.blocks=9", "detector.rfcr=false", "detector.name=yolo_ret_m14"]
    expected = {"name": "yolo_ret_m14", "backbone": {"blocks": 9}, "rfcr": False}
    assert change("yolo_ret_m075", both) == expected
    kernel = Variant.parse(changed("micro_yolo", ["detector.trunk.1.kernel=5"]))
    assert kernel.config.trunk[1].kernel == 5 and kernel.config.trunk[2].kernel == 5
    for wrong, message in (
        ("neck=fpn", "does not begin with detector"),
        ("detector.trunk.6.kernel=5", "6 is not a position from 0 to 5"),
        ("detector.nek=fpn", "unknown option detector.nek"),
    ):
        with pytest.raises(ValueError, match=message):
            changed("micro_yolo", [wrong])


def test_a_recipe_keeps_its_options(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        yaml.safe_dump({**PHASES, "detector": {"name": "yolo_ret_m075", "neck": "fpn"}})
    )
    recipe = Recipe.read(path, ["detector.rfcr=false"])
    assert recipe.detector == Variant.parse("{name: yolo_ret_m075, rfcr: false, neck: fpn}")
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe
    assert Recipe.read(path, detector="yolo_fastest").detector == Variant.parse("yolo_fastest")
    assert Recipe.read(path, detector=SMALL).detector == Variant.parse(SMALL)
    with pytest.raises(ValueError, match=r"r.yaml: unknown option detector.nek"):
        Recipe.read(path, ["detector.nek=fpn"])


@pytest.mark.slow  # it trains, exports, and reads every weight back
def test_options_go_from_training_to_the_exported_file_and_back(shapes, tmp_path, monkeypatch):
    recipe = Recipe.from_dict({**PHASES, "detector": yaml.safe_load(FASTEST)})
    trainer = Trainer(recipe, CLASSES, shapes[:4], workers=0)
    assert trainer.model.neck.p4[0].conv.out_channels == 100
    trainer.train_epoch(lambda loss: True)
    save_checkpoint(tmp_path / "last.pt", trainer.state())
    model, content = load_detector(tmp_path / "last.pt")
    assert parameters(model) == parameters(recipe.detector.build(len(CLASSES)))

    card = card_of("own", model, content, {}, {})
    assert card.detector == "yolo_ret_m075" and card.detector_text == str(recipe.detector)
    assert f"`{recipe.detector}`" in to_markdown(card, 1)
    export(model, tmp_path / "own.onnx", card)
    assert find_model(str(tmp_path / "own.onnx")).card == card
    read_once = cache(read_exported)
    monkeypatch.setattr("training.weights.origin.read_exported", read_once)
    read, _ = read_once(tmp_path / "own.onnx")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(read(images), model(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)
    for weights in ("last.pt", "own.onnx"):
        origin = read_origin(str(tmp_path / weights), recipe.detector)
        assert origin.detector == recipe.detector
        told = (
            "recipe trains yolo_ret_m075, which is not the same with more or fewer channels: give "
        )
        with pytest.raises(ValueError, match=f"{told}--detector '{{name"):
            read_origin(str(tmp_path / weights), Variant.parse("yolo_ret_m075"))


@pytest.mark.parametrize(
    "channels, message",
    [
        ("{stem: 9}", "unknown detector.channels: 'stem' is none of backbone.stem, backbone.blo"),
        ("{neck.p4.0: 257}", "detector.channels: neck.p4.0 must be from 1 to 256, not 257"),
        ("{neck.p4.0: 0}", "must be from 1 to 256, not 0"),
        ("{neck.p4.0: true}", "must be from 1 to 256, not True"),
        ("3", "detector.channels must be a mapping of groups to numbers, not 3"),
    ],
)
def test_channels_that_cannot_be_are_refused(channels, message):
    with pytest.raises(ValueError, match=message):
        Variant.parse(f"{{name: yolo_ret_m075, channels: {channels}}}")


def test_channels_are_a_part_of_the_detector():
    variant = Variant.parse(PRUNED.replace("stem: 9", "stem: 16"))
    assert variant.channels == (("neck.p4.0", 100),), "16 channels are all of the stem"
    assert Variant.parse(str(variant)) == variant != Variant.parse(SMALL)
    assert len(variant.file_name) < 120 and "channels" in variant.file_name
    other = Variant.parse(str(variant).replace("100", "90"))
    assert other.file_name != variant.file_name
    torch.manual_seed(0)
    first = torch.rand(1)
    torch.manual_seed(0)
    variant.graph(7)
    assert torch.rand(1) == first, "following channels changes what is drawn after it"


def test_a_run_with_other_options_is_not_continued(shapes):
    state = Trainer(
        Recipe.from_dict({**PHASES, "detector": "yolo_fastest"}), CLASSES, shapes
    ).state()
    other = {"name": "yolo_fastest", "dropout": 0.0}
    trainer = Trainer(Recipe.from_dict({**PHASES, "detector": other}), CLASSES, shapes)
    with pytest.raises(ValueError, match="of another detector, yolo_fastest: give a new --out"):
        trainer.restore(state, replan=True)
    with pytest.raises(ValueError, match="another detector, {name: yolo_fastest, dropout: 0.0}"):
        Trainer(Recipe.from_dict({**PHASES, "detector": "yolo_fastest"}), CLASSES, shapes).restore(
            trainer.state()
        )


def test_what_was_written_before_there_were_options_still_opens(shapes, tmp_path):
    recipe = Recipe.from_dict({**PHASES, "detector": "yolo_fastest"})
    trainer = Trainer(recipe, CLASSES, shapes[:4], workers=0)
    state = trainer.state()
    del state["recipe"]["adversarial_step"]  # as a recipe of a time before a setting
    assert state["detector"] == state["recipe"]["detector"] == "yolo_fastest"
    save_checkpoint(tmp_path / "last.pt", state)
    load_detector(tmp_path / "last.pt")
    trainer.restore(state)
    old = ModelCard("m", "yolo_ret_m075", ("a",), 320).to_json()
    values = json.loads(old)
    del values["detector_options"]
    assert ModelCard.from_json(json.dumps(values)).detector_text == "yolo_ret_m075"


def test_published_figures_are_not_those_of_another_network():
    described = describe("{name: yolo_ret_m075, neck: fpn}")
    assert described.published is None and described.net_score is None
    assert described.name == "{name: yolo_ret_m075, neck: fpn}"
    assert described.parameters == parameters(build("yolo_ret_m075", neck="fpn"))

    class Timing:
        def __init__(self, card):
            self.card, self.ratio, self.threads = card, 1.0, 1
            self.backend, self.precision = "onnxruntime", "fp32"
            options = type("Options", (), {"spinning": False})
            self.run = type("Run", (), {"name": card.name, "size": "320", "options": options})

    cards = [
        ModelCard("plain", "yolo_ret_m075", ("a",), 320),
        ModelCard("own", "yolo_ret_m075", ("a",), 320, detector_options={"neck": "fpn"}),
    ]
    measurement = type("Measurement", (), {"timings": [Timing(card) for card in cards]})
    assert [row[0] for row in published_rows(measurement)][1:] == ["plain"]
