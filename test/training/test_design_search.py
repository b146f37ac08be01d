# SPDX-License-Identifier: Apache-2.0
"""The search for designs: what is drawn, what it costs, what it takes over, what is tried."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import torch
from scripted_study import ScriptedStudy, result

from training.detectors.complexity import macs
from training.detectors.variant import Variant
from training.detectors.yolo_nano import Fca, Pep, YoloNano, YoloNanoConfig
from training.studies import design_search
from training.studies.nano_designs import (
    Limits,
    cost_of,
    inherited,
    mutated,
    stages,
    with_stage,
)
from training.studies.naswot import naswot


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


def test_a_design_begins_with_the_weights_of_its_parent_where_they_fit():
    parent = YoloNanoConfig()
    whole = YoloNano(parent).state_dict()
    trunk3 = stages(parent)["trunk.3"]
    child = with_stage(parent, "trunk.3", (*trunk3[:2], *trunk3[3:]))  # without PEP(124)
    child = with_stage(child, "head16", (parent.head16[0].__class__(100),))
    network = YoloNano(child)
    state = inherited(whole, parent, child, network)
    network.load_state_dict(state)
    first = 3 + 3 + 7 - 1  # modules before the stage, without the stem
    after = f"backbone.blocks.{first + 2}.squeeze.conv.weight"
    assert state[after].equal(whole[f"backbone.blocks.{first + 3}.squeeze.conv.weight"])
    assert state["neck16.0.squeeze.conv.weight"].equal(whole["neck16.0.squeeze.conv.weight"])
    narrow = "head16.0.project.conv.weight"
    assert state[narrow].equal(whole[narrow][:100])
    assert state["outputs.1.weight"].equal(whole["outputs.1.weight"][:, :100])


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
        "megabytes": 4.2, "least_ap": 0.0, "draws": 3, "start": "", "plan": False,
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
    assert names[:3] == ["g0_0", "g1_0", "g2_0"] and study.planned == 3
    assert names[3] == "final_g0_0" and all(name.startswith("final_") for name in names[3:])
    assert all(Limits(5e9, 4.2e6).allows(t.cost) for t in search.archive)
    best = [max(t.score for t in search.archive[:n]) for n in (1, 2, 3)]
    assert best == sorted(best) and best[-1] > best[0]
    assert search.archive[-1].result.facts["operations"] == search.archive[-1].cost.operations
    again, _ = searched(monkeypatch, generations=1)
    designs = [[str(member.detector) for member in of.members[:2]] for of in (study, again)]
    assert designs[0] == designs[1]


def test_parents_have_enough_ap_if_any_has():
    def trained(name, ap50, score_parameters):
        cost = design_search.DesignCost(score_parameters, 4_000_000_000, 1)
        return design_search.Trained(YoloNanoConfig(), cost, 0.0, result(name, ap50))

    small, good = trained("small", 0.2, 10_000), trained("good", 0.5, 4_000_000)
    assert small.score > good.score
    assert design_search.parents([small, good], 0, 1) == [small]
    assert design_search.parents([small, good], 40, 2) == [good]
    assert design_search.parents([small, good], 60, 1) == [small], "nobody has it yet"
    assert design_search.front([small, good]) == [good], "parameters are no part of the front"
    assert design_search.front([good, trained("better", 0.6, 1)])[0].result.name == "better"
