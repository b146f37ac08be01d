# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.model.sizes import Size
from training.loop.recipe import Phase, Recipe
from training.settings.yaml_settings import to_plain

TINY = {"phases": [{"epochs": 2, "sizes": 64}]}


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "phases is missing"),
        ({"phases": []}, "phases must be at least one phase"),
        ({"phases": [{"epochs": 1}]}, "phases.0.sizes is missing"),
        ({"phases": [{"epochs": 1, "sizes": 100}]}, "phases.0.sizes must be multiples of 32"),
        ({**TINY, "learning_rat": 1}, "unknown setting learning_rat: known are phases, detector"),
        ({**TINY, "augmentation": {"flop": 1}}, "unknown setting augmentation.flop"),
        ({**TINY, "optimizer": 3}, "optimizer must be a mapping, not 3"),
        ({**TINY, "optimizer": {"rate": "fast"}}, "optimizer.rate must be a number, not 'fast'"),
        ({**TINY, "optimizer": {"name": "lion"}}, "optimizer.name must be one of sgd, adam, adamw"),
        ({**TINY, "optimizer": {"rate": float("nan")}}, "optimizer.rate must be above 0"),
        ({**TINY, "batch_size": 4.5}, "batch_size must be a whole number"),
        ({**TINY, "batch_size": True}, "batch_size must be a whole number"),
        ({**TINY, "batch_size": 6, "accumulate": 4}, "batch_size must be a positive multiple"),
        ({**TINY, "quantisation_aware": 1}, "quantisation_aware must be true or false"),
        ({**TINY, "detector": "yolo"}, "detector must be one of micro_yolo"),
        ({**TINY, "schedule": {"name": "steps", "steps": [0.5]}}, "schedule.scales must be one"),
        (
            {**TINY, "schedule": {"name": "constant", "final": 0.1}},
            "schedule.final must be 0 unless",
        ),
        ({**TINY, "loss": {"kind": "sse", "box": "ciou"}}, "^loss: .*box: goes with kind yolo"),
        ({**TINY, "augmentation": {"jitter": 0.8}}, "augmentation.jitter goes with geometry"),
        ({**TINY, "augmentation": {"scale": [1, 2, 3]}}, "augmentation.scale must be 2 values"),
        ({**TINY, "augmentation": {"flip": float("nan")}}, "augmentation.flip must be from 0 to 1"),
        ({**TINY, "augmentation": {"hue": -0.1}}, "augmentation.hue must be from 0 to 1"),
        ({**TINY, "augmentation": {"aspect": float("inf")}}, "augmentation.aspect must be 0 or"),
        ({**TINY, "augmentation": {"gamma": [1, float("inf")]}}, "augmentation.gamma must be a"),
        ({**TINY, "seed": 2**63}, "seed must be from 0 to"),
        ({**TINY, "loss": {"kind": "l3"}}, "^loss: .*l3"),
    ],
)
def test_a_wrong_recipe_is_explained(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.from_dict(values)
    assert "\n" not in str(caught.value)


@given(
    st.builds(
        Phase,
        epochs=st.integers(1, 500),
        sizes=st.lists(st.sampled_from([224, 320, Size(320, 256)]), min_size=1, max_size=3).map(
            tuple
        ),
        mosaic=st.floats(0, 1),
        rate=st.floats(1e-3, 1),
    ),
    st.floats(1e-6, 1),
)
def test_a_recipe_survives_being_written(phase, rate):
    recipe = Recipe.from_dict({"phases": [to_plain(phase)], "optimizer": {"rate": rate}})
    assert recipe.phases == (phase,)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def write(path: Path, values: object) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_options_override_the_file(tmp_path):
    path = write(tmp_path / "r.yaml", {**TINY, "optimizer": {"momentum": 0.5}})
    options = ("optimizer.rate=1e-3", "phases.0.epochs=5", "loss.also_above=null", "seed=3")
    recipe = Recipe.read(path, (*options, "phases.0.sizes=[224, 320]"))
    assert (recipe.optimizer.rate, recipe.optimizer.momentum) == (1e-3, 0.5)
    assert recipe.phases == (Phase(5, (224, 320)),)
    assert recipe.loss.also_above is None and recipe.seed == 3


@pytest.mark.parametrize(
    "option, message",
    [
        ("optimizer.rat=1", "unknown setting optimizer.rat: known are name, rate"),
        ("phases.1.epochs=5", "phases.1.epochs: 1 is not a position from 0 to 0"),
        ("phases.x=5", "phases.x: x is not a position"),
        ("seed", "'seed' is not of the form key=value"),
        ("phases.0.epochs.x=1", "unknown setting phases.0.epochs.x"),
        ("seed=[", "the value cannot be read"),
        ("optimizer.rate=.inf", "the value cannot be read: it has the number inf"),
        ("optimizer.rate=1e999", "optimizer.rate must be a finite number"),
        ("seed=" + "[" * 20_000, "nested deeper than 64"),
        ("seed=1.5", "seed must be a whole number, not 1.5"),
    ],
)
def test_a_wrong_option_is_explained(tmp_path, option, message):
    path = write(tmp_path / "r.yaml", TINY)
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.read(path, [option])
    assert str(caught.value).startswith(str(path))


def test_a_recipe_may_name_only_what_differs_from_another(tmp_path):
    base = {**TINY, "optimizer": {"name": "sgd", "rate": 0.5}, "batch_size": 8}
    write(tmp_path / "base.yaml", base)
    changes = {"base": "base.yaml", "optimizer": {"rate": 0.1}, "phases": [TINY["phases"][0]] * 2}
    recipe = Recipe.read(write(tmp_path / "r.yaml", changes))
    assert (recipe.optimizer.name, recipe.optimizer.rate) == ("sgd", 0.1)
    assert recipe.batch_size == 8 and len(recipe.phases) == 2


def test_an_unreadable_recipe_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.yaml cannot be read"):
        Recipe.read(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"list\.yaml is not a mapping"):
        Recipe.read(tmp_path / "list.yaml")
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2")
    with pytest.raises(
        ValueError, match=r"twice\.yaml cannot be read: it has the key 'seed' twice"
    ):
        Recipe.read(tmp_path / "twice.yaml")


def test_a_base_that_leads_back_is_named(tmp_path):
    write(tmp_path / "a.yaml", {"base": "b.yaml"})
    write(tmp_path / "b.yaml", {"base": "a.yaml"})
    with pytest.raises(ValueError, match="a.yaml is its own base"):
        Recipe.read(tmp_path / "a.yaml")
