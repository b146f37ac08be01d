# SPDX-License-Identifier: Apache-2.0
"""The search for designs: what is drawn, what it costs, what it takes over, what is tried."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from scripted_study import ScriptedStudy, result

from training.detectors.complexity import macs
from training.detectors.variant import Variant
from training.detectors.yolo_nano import Fca, Pep, YoloNano, YoloNanoConfig
from training.loop.checkpoint import save_checkpoint
from training.loop.recipe import Recipe
from training.loop.trainer import Trainer
from training.studies import design_search
from training.studies.nano_designs import (
    Limits,
    begins_fresh,
    cost_of,
    mutated,
    stages,
    with_stage,
)
from training.studies.naswot import naswot
from training.studies.report import drawn


def test_a_design_costs_what_its_network_has():
    design = with_stage(YoloNanoConfig(), "neck8", (Pep(64, 16), Fca(4)))
    cost, network = cost_of(design), YoloNano(design)
    convs = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert cost.bytes == sum(conv.weight.numel() for conv in convs)
    assert cost.operations == 2 * macs(network, 416, 416)
    assert Limits(cost.operations, cost.bytes).allows(cost)
    assert not Limits(cost.operations - 1, cost.bytes).allows(cost)
    assert not Limits(cost.operations, cost.bytes - 1).allows(cost)


def test_changed_designs_can_be_built_and_are_the_same_again():
    kinds = set()
    for seed in range(12):
        try:
            design = mutated(YoloNanoConfig(), np.random.default_rng(seed))
        except ValueError:
            continue
        assert design == mutated(YoloNanoConfig(), np.random.default_rng(seed))
        if seed < 3:
            assert Variant.parse(str(Variant("yolo_nano", design))).config == design
        old, new = stages(YoloNanoConfig()), stages(design)
        kinds |= {np.sign(len(new[name]) - len(old[name])) for name in old}
    assert kinds == {-1, 0, 1}, "modules are added, left out and changed"


def test_every_design_begins_with_the_same_weights_but_for_the_stages_that_are_changed(
    tmp_path, monkeypatch
):
    torch.manual_seed(7)
    trained = Variant.parse("yolo_nano").build(1)
    path = tmp_path / "trained.pt"
    content = {"detector": "yolo_nano", "classes": ["a"], "average": trained.state_dict()}
    save_checkpoint(path, content)
    monkeypatch.setattr(design_search.Search, "_images", lambda self: None)
    search = design_search.Search(ScriptedStudy(lambda _: 0.5), search_options(start=str(path)))
    rng = np.random.default_rng(0)
    [design] = design_search.children([YoloNanoConfig()], [], Limits(), 1, rng, search.stages)
    same = {"trunk.4": None, "head32": None}
    old, new = stages(YoloNanoConfig()), stages(design)
    assert design != YoloNanoConfig() and old | same == new | same
    settings = {"phases": [{"epochs": 1, "sizes": 64}], "batch_size": 2}
    states = []
    for changed in (YoloNanoConfig(), design):
        member = search._member("x", Variant("yolo_nano", changed))
        # before stride 32 there are the stem and 21 blocks
        assert member.changes == ("phases.0.epochs=1", "phases.0.frozen_blocks=21")
        recipe = Recipe.from_dict({**settings, "detector": member.detector.to_settings()})
        trainer = Trainer(recipe, ("a", "b"), [None] * 4)
        member.begin(trainer)
        states.append(trainer.average.model.state_dict())
    taken = [
        {name for name, value in trained.state_dict().items()
         if name.endswith("conv.weight") and name in state and state[name].shape == value.shape
         and state[name].equal(value)}
        for state in states
    ]  # fmt: skip
    assert taken[0] == taken[1]
    fresh = [f"backbone.blocks.{n}." for n in range(21, 27)] + ["up16.", "head32."]
    convs = {name for name in trained.state_dict() if name.endswith("conv.weight")}
    assert taken[0] == {name for name in convs if not name.startswith(tuple(fresh))}


def test_a_change_of_width_is_read_by_the_stages_that_are_named():
    plain = {name: value.shape for name, value in _meta(YoloNanoConfig()).state_dict().items()}
    for name, stage in stages(YoloNanoConfig()).items():
        last = max(n for n, unit in enumerate(stage) if not isinstance(unit, Fca))
        wider = replace(stage[last], outputs=stage[last].outputs + 2)
        design = with_stage(YoloNanoConfig(), name, (*stage[:last], wider, *stage[last + 1 :]))
        changed = {
            value_name
            for value_name, value in _meta(design).state_dict().items()
            if value.shape != plain[value_name]
        }
        assert changed and all(begins_fresh(value_name, [name]) for value_name in changed)
        assert not begins_fresh("backbone.stem.conv.weight", [name]) or name == "trunk.0"


def _meta(design):
    with torch.device("meta"):
        return YoloNano(design)


def test_the_proxy_tells_networks_that_see_differences_from_those_that_do_not():
    torch.manual_seed(0)
    images = torch.rand(6, 3, 32, 32)
    seeing = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU6())
    blind = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU6())
    blind[0].weight.data *= 1e-3
    blind[0].bias.data[:] = 1  # all on, whatever is shown
    assert naswot(seeing, images) > naswot(blind, images)
    assert naswot(seeing, images) == naswot(seeing, images)


def search_options(**changes):
    values = {
        "generations": 2, "children": 2, "trained": 1, "parents": 2, "short": 1, "gigaops": 5.0,
        "megabytes": 4.2, "least_ap": 94.0, "draws": 3, "start": "", "plan": False, "finals": 1,
        "stages": (),
    }  # fmt: skip
    return Namespace(**{**values, **changes})


def searched(monkeypatch, **changes):
    """Search with an AP that does not depend on the network: the smaller one wins."""
    monkeypatch.setattr(design_search.Search, "_images", lambda self: torch.rand(4, 3, 32, 32))
    study = ScriptedStudy(lambda _: 0.5)
    search = design_search.Search(study, search_options(**changes))
    search.run()
    return study, search


def test_a_search_keeps_to_its_limits_never_gets_worse_and_is_the_same_again(monkeypatch):
    torch.manual_seed(5)
    study, search = searched(monkeypatch)
    names = [m.name for m in study.members]
    assert names[:4] == ["g0_0", "g1_0", "g2_0", "final_g0_0"] and study.planned == 5
    assert all(Limits(5e9, 4.2e6).allows(t.cost) for t in search.archive)
    best = [max(t.score for t in search.archive[:n]) for n in (1, 2, 3)]
    assert best == sorted(best) and best[-1] > best[0]
    winner = max(search.archive, key=lambda t: t.score)
    assert names[4:] == [f"final_{winner.result.name}"]
    assert search.archive[-1].result.facts["operations"] == search.archive[-1].cost.operations
    again, _ = searched(monkeypatch, generations=1)
    designs = [[str(member.detector) for member in of.members[:2]] for of in (study, again)]
    assert designs[0] == designs[1]


def test_only_designs_with_enough_ap_are_changed_and_win():
    def trained(name, ap50, parameters):
        cost = design_search.DesignCost(parameters, 4_000_000_000, 1)
        return design_search.Trained(YoloNanoConfig(), cost, 0.0, result(name, ap50))

    base, small = trained("base", 0.5, 4_000_000), trained("small", 0.46, 1_000_000)
    assert small.score > base.score
    assert design_search.elite([base, small], 94, 2) == [base], "92 % of the AP of yolo_nano"
    assert design_search.elite([base, small], 90, 1) == [small]
    assert design_search.front([small, base]) == [base], "parameters are no part of the front"
    assert design_search.front([base, trained("better", 0.6, 1)])[0].result.name == "better"


def test_the_front_is_that_of_ap_and_of_all_three_costs(monkeypatch, tmp_path):
    def design(name, ap50, operations, megabytes):
        return result(name, ap50, proxy=1.0, operations=operations, bytes=1e6 * megabytes)

    short = [
        design("g0_0", 0.5, 4e9, 4), design("g1_0", 0.4, 3e9, 4), design("g1_1", 0.4, 4e9, 4),
        design("g1_2", 0.4, 4e9, 4), design("g1_3", 0.4, 4e9, 3),
    ]  # fmt: skip
    times = dict(
        zip(("g0_0", "g1_0", "g1_1", "g1_2", "g1_3"), (1.0, 1.1, 1.1, 0.9, 1.2), strict=True)
    )
    monkeypatch.setattr(design_search, "kept_ratios", lambda *_: times)
    options = Namespace(least_ap=94, out=tmp_path)
    searching = design_search.report(short, options)
    assert [row[4] for row in searching.rows] == ["-"] * 5, "nothing is timed before the end"
    shown = design_search.report([*short, final("g1_2", 0.6)], options)
    assert [row[-1] for row in shown.rows] == ["yes", "yes", "no", "yes", "yes", "-"]
    assert [row[4] for row in shown.rows][3:] == ["0.90", "1.20", "0.90"]
    assert shown.extra["front"] == ["g0_0", "g1_0", "g1_2", "g1_3"]
    svg = drawn(shown.plot)
    assert all(label in svg for label in ("G operations", "8-bit kernels", "time by yolo_nano"))


def final(name, ap50, parameters=4_000_000, seed=0):
    found = result(f"final_{name}", ap50, proxy=1.0, operations=4e9, bytes=1)
    return replace(found, parameters=parameters, detector="yolo_nano", seed=seed)


@pytest.mark.parametrize(
    "others, said",
    [
        ([final("g1_0", 0.40, 1_000_000)], "No design with at least 94 % of yolo_nano's AP50 has"),
        ([final("g1_0", 0.47, 2_000_000)], "final_g1_0 has NetScore 60.9, yolo_nano 58.9 after"),
        (
            [final("g1_0", 0.42, 2_000_000), final("g1_0", 0.54, 2_000_000, 1)],
            "AP50 48.0 ± 6.0 against 50.0 (1 of 2 seeds) %, 100% of its operations, 50% of its pa",
        ),
    ],
)
def test_the_winner_is_that_of_equal_training_with_all_seeds(monkeypatch, others, said):
    monkeypatch.setattr(design_search, "_times", lambda *_: {})
    shown = design_search.report([final("g0_0", 0.5), *others], Namespace(least_ap=94))
    assert said in shown.conclusion[0]
