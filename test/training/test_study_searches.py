# SPDX-License-Identifier: Apache-2.0
"""The searches of Micro-YOLO: which kernels are tried, how they are ranked, who is hopeless."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scripted_study import ScriptedStudy, result

from training.detectors.micro_yolo import MicroYoloConfig
from training.detectors.variant import Variant
from training.studies import kernel_search, layer_types, parallel, scaling, transfer
from training.studies.configurations import plain_convolutions
from training.studies.median_rule import below_median
from training.studies.rank_correlation import rank_correlation
from training.studies.study import Study


def test_kernels_are_all_32_permutations_and_the_published_one_is_micro_yolo():
    members = kernel_search.members(kernel_search.ALL)
    assert len({str(member.detector) for member in members}) == 32
    published = next(m for m in members if m.facts["kernels"] == "35353")
    assert published.detector.config == MicroYoloConfig()
    with pytest.raises(ValueError, match="'35354' must be five digits, each 3 or 5, as 35353"):
        kernel_search.members(["35354"])


def test_all_permutations_begin_as_the_same_function(monkeypatch):
    """As the trained network, of whose wider kernels only the middle is left."""

    def start(trainer, origin):
        trainer.model.load_state_dict(origin.state)

    monkeypatch.setattr(kernel_search, "start", start)
    torch.manual_seed(0)
    trained = Variant.parse("micro_yolo").build(2).eval()
    origin = kernel_search.Origin(Variant.parse("micro_yolo"), ("a",), trained.state_dict(), False)
    image, maps = torch.rand(1, 3, 64, 64), []
    for kernels in ("33333", "35553", "55555"):
        detector = kernel_search.with_kernels(kernels)
        trainer = Namespace(recipe=Namespace(detector=detector), model=detector.build(2))
        kernel_search._begin(origin, trainer)
        maps.append(trainer.model.eval()(image))
    for block in (trained.backbone.blocks[1], trained.backbone.blocks[3]):
        block.depthwise.conv.weight.data[:, :, [0, -1]] = 0
        block.depthwise.conv.weight.data[..., [0, -1]] = 0
    for found in maps:
        for ours, theirs in zip(found, trained(image), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_ranking_of_kernels():
    results = [
        result("a", 0.30, kernels="33333"),
        result("b", 0.20, kernels="35353"),
        result("c", 0.25, epochs=2, kernels="55555"),
        result("d", 0.10, kernels="33355"),
    ]
    shown = kernel_search.report(results, Namespace())
    assert [row[1] for row in shown.rows] == [
        "3, 3, 3, 3, 3", "**3, 5, 3, 5, 3**", "3, 3, 3, 5, 5", "5, 5, 5, 5, 5",
    ]  # fmt: skip
    assert "number 2 of 3, 10.0 points of AP50 below the best" in shown.conclusion[0]


def test_trainings_that_were_stopped_are_in_no_figure_of_whole_ones():
    results = [
        result("a", 0.30, kernels="33333"),
        result("b", 0.20, kernels="35353"),
        result("c", 0.90, epochs=2, kernels="55555"),
        result("d", 0.10, kernels="33355"),
        # the second seed
        result("a", 0.80, epochs=2, kernels="33333"),
        result("b", 0.22, kernels="35353"),
    ]
    shown = kernel_search.report(results, Namespace())
    assert [(row[0], row[-2], row[-1]) for row in shown.rows] == [
        ("1", "8", "30.0 (1 of 2 seeds)"),
        ("2", "8", "21.0 ± 1.0"),
        ("3", "8", "10.0 (1 of 2 seeds)"),
        ("-", "2, stopped", "90.0 (1 of 2 seeds)"),
    ]
    place, correlation, stopped = shown.conclusion
    assert "number 2 of 3, 9.0 points of AP50 below the best" in place
    # 0, 2 and 2 kernels of 5 pixels with 30, 21 and 10 %
    assert correlation.endswith("kernels: -0.87.")
    assert stopped.startswith("Stopped early, and not compared: 1.")
    published = kernel_search.report([results[0], *[result("b", 0.9, 2, kernels="35353")] * 2], 0)
    assert "3, 5, 3, 5, 3, was stopped after epoch 2, below the" in published.conclusion[0]


@pytest.mark.parametrize(
    "own, others, behind",
    [
        (0.29, [0.1, 0.2, 0.3, 0.4, 0.5], True),
        (0.30, [0.1, 0.2, 0.3, 0.4, 0.5], False),
        (0.00, [0.1, 0.2, 0.3, 0.4], False),  # too few to compare with
        (None, [0.1, 0.2, 0.3, 0.4, 0.5], False),  # not evaluated
    ],
)
def test_a_training_below_the_median_of_the_others_is_hopeless(own, others, behind):
    peers = [result("x", 0.9, curve=[(1, 0.0), (2, value)]) for value in others]
    row = {"epoch": 2} | ({} if own is None else {"AP50": own})
    assert below_median(peers, Namespace(history=[{"epoch": 1, "AP50": 0.9}, row])) == behind


def test_rank_correlation_is_that_of_scipy():
    from scipy import stats  # it takes two seconds, which not every process that collects has

    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 9))
        assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, nan_ok=True)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_parts_of_a_study_run_side_by_side_and_a_failed_one_is_told(monkeypatch):
    started = []

    class Process:
        def __init__(self, command):
            started.append(command)

        def poll(self):
            return self.wait()

        def wait(self):
            return 1 if len(started) > 2 else 0

        def send_signal(self, _):
            raise ProcessLookupError

    monkeypatch.setattr(parallel.subprocess, "Popen", Process)
    monkeypatch.setattr(parallel.sys, "argv", ["x", "--data", "d"])
    study = ScriptedStudy(lambda _: 0.5)
    study.name = "kernel_search"
    members = kernel_search.members(["35353", "33333", "55555"])
    parallel.train_all(study, members, Namespace(part="", plan=False, parallel=2))
    assert [command[-5:] for command in started] == [
        ["training.studies.kernel_search", "--data", "d", "--part", part] for part in ("0/2", "1/2")
    ]
    assert [m.name for m in study.members] == ["k35353", "k33333", "k55555"]
    assert study.gathered == members and study.reports
    study.members.clear()
    parallel.train_all(study, members, Namespace(part="1/2", plan=False, parallel=2))
    assert [m.name for m in study.members] == ["k33333"] and not study.reports
    with pytest.raises(ValueError, match="a part of the trainings has failed"):
        parallel.train_all(study, members, Namespace(part="", plan=False, parallel=3))


@pytest.mark.parametrize(("part", "sentences"), [("", 1), ("1/2", 0)])
def test_only_the_first_process_of_a_study_says_that_it_has_ended(
    part: str, sentences: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = replace(kernel_search.COMMAND, work=lambda study, options: None)
    given = ["--data", str(tmp_path / "data.yaml"), "--out", str(tmp_path / "out"), "--part", part]
    assert command.main(given) == 0
    assert capsys.readouterr().out.count("The study is finished") == sentences


def test_layers_are_those_of_the_papers_tables():
    names = [m.name for m in layer_types.members((3, 13), ("1", "2"))]
    assert names == [
        "micro_yolo_table1_conv",
        "micro_yolo_table1_3_dsconv", "micro_yolo_table1_3_mbconv",
        "micro_yolo_table1_13_dsconv", "micro_yolo_table1_13_mbconv",
        "micro_yolo_table2_from_13", "micro_yolo_table2_from_3",
    ]  # fmt: skip
    last = layer_types.members((3,), ("2",))[-1]
    assert last.detector == Variant.parse("micro_yolo")
    results = [result(name, 0.3 - 0.01 * n, replaced=name) for n, name in enumerate(names)]
    results[0] = replace(results[0], detector=str(Variant("micro_yolo", plain_convolutions())))
    results[2] = replace(results[2], detector="{name: micro_yolo, s32: {kind: dsconv}}")
    shown = layer_types.report(results, Namespace())
    assert shown.rows[2][-3:] == ["28.0", "-2.0", "-"]
    assert [shown.rows[place][-1] for place in (0, -1)] == ["33.1", "32.4"]
    without_base = layer_types.report(results[1:], Namespace())
    assert [row[-2] for row in without_base.rows] == ["-"] * 6, "compared with another row"


def test_with_weights_only_the_layers_before_those_compared_are_trained_ones(monkeypatch):
    """In every row they are Micro-YOLO's and frozen; the others get no weights."""
    given = {}

    def start(trainer, origin):
        given[str(trainer.recipe.detector)] = set(origin.state)

    trained = Variant.parse("micro_yolo").build(2).state_dict()
    origin = layer_types.Origin(Variant.parse("micro_yolo"), ("a", "b"), trained, False)
    monkeypatch.setattr(layer_types, "start", start)
    monkeypatch.setattr(layer_types, "read_origin", lambda *_, **__: origin)
    monkeypatch.setattr(layer_types, "named_weights", lambda weights: weights)
    members = layer_types.members((13, 11), ("1", "2"), "w.pt")
    for member in members:
        config = member.detector.config
        assert config.trunk[:5] == MicroYoloConfig().trunk[:5]
        # layers 3 to 9 are the blocks behind the stem, layer 1
        assert member.changes == ("phases.0.frozen_blocks=4",)
        member.begin(Namespace(recipe=Namespace(detector=member.detector)))
        before_11 = {n for n in trained if n.startswith("backbone.") and "blocks.4." not in n}
        assert given[str(member.detector)] == before_11
    assert members[0].detector.config.trunk[5].kind == "conv"
    assert members[0].facts["replaced"] == "none"
    assert {member.origin for member in members} == {"w.pt before layer 11"}


def test_what_is_named_twice_is_trained_once(monkeypatch, tmp_path):
    planned = []
    monkeypatch.setattr(Study, "run", lambda _, members, plan: planned.extend(members))
    monkeypatch.setattr(Study, "check_folder", lambda _: None)
    monkeypatch.setattr(transfer, "members", lambda _, numbers, __: numbers)
    line = ["--data", "d", "--plan", "--out", str(tmp_path)]
    assert transfer.COMMAND.main([*line, "--backbone", "b", "--blocks", "3", "0", "3"]) == 0
    assert planned == [3, 0]
    assert scaling.COMMAND.main([*line, "--gflops", "3.5", "3.5"]) == 0
    assert len(planned[2:]) == len({member.name for member in planned[2:]}) > 1


def test_an_option_that_is_given_twice_adds_to_the_first():
    line = "--data d --out o --seeds 3 --seeds 4"
    kernels = kernel_search.COMMAND._parse(f"{line} --kernels 33333 --kernels 55555".split())
    assert (kernels.seeds, kernels.kernels) == ([3, 4], ["33333", "55555"])
    layers = layer_types.COMMAND._parse(f"{line} --table 1 --table 2 --layers 3 --layers 5".split())
    assert (layers.table, layers.layers) == (["1", "2"], [3, 5])
