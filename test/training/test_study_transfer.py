# SPDX-License-Identifier: Apache-2.0
"""The transfer study: which weights are taken, what they are a share of, what is concluded."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training.detectors.variant import Variant
from training.loop.freezing import set_phase
from training.loop.recipe import Phase
from training.studies.member import Result
from training.studies.transfer import complete, evenly, members, report, shares
from training.weights.backbone_file import BackboneWeights, write_backbone


@pytest.fixture
def small() -> Variant:
    return complete("{name: yolo_ret_m075, backbone: {width: 0.1}}")


def test_shares_are_those_of_published_counts() -> None:
    of = shares(complete("yolo_ret_m075"))
    wide = shares(complete("{name: yolo_ret_m075, backbone: {width: 1.0}}"))
    assert len(of) == len(wide) == 18 and of[0] == 0 and of[-1] == 1
    # torchvision's mobilenet_v2 has 3,504,872 parameters, 1,281,000 of them in its classifier, and
    # the last 1x1 has 320 x 1280 kernels and 2 x 1280 values of its norm.
    features, last = 3_504_872 - 1_281_000, 320 * 1280 + 2 * 1280
    last_block = 160 * 960 + 9 * 960 + 960 * 320 + 2 * (960 + 960 + 320)
    assert wide[16] == pytest.approx((features - last - last_block) / features)
    assert of == sorted(of)


def test_points_lie_evenly() -> None:
    assert evenly([0.0, 0.1, 0.2, 0.45, 0.6, 1.0], 3) == [0, 3, 5]
    assert len(evenly(shares(complete("yolo_ret_m075")), 6)) >= 5


def test_only_the_first_blocks_are_taken_and_they_are_frozen(
    small: Variant, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    trained = small.build(2)
    write_backbone(
        tmp_path / "b.pt", BackboneWeights("b", False, False, trained.backbone.state_dict())
    )
    wanted = {name: v.clone() for name, v in trained.backbone.state_dict().items()}
    for member in members(small, [0, 3, 17], tmp_path / "b.pt"):
        fresh: Any = small.build(2)
        before = {name: v.clone() for name, v in fresh.backbone.state_dict().items()}
        trainer: Any = SimpleNamespace(model=fresh, begin_average=lambda: None)
        if member.begin:
            member.begin(trainer)
        frozen = int(member.changes[0].partition("=")[2])
        set_phase(fresh, Phase(1, (32,), frozen_blocks=frozen), "none")
        first = {0: (), 3: ("stem", "blocks.0.", "blocks.1.", "blocks.2."), 17: ("",)}[frozen]
        for name, value in fresh.backbone.state_dict().items():
            source = wanted if name.startswith(first) and frozen else before
            assert value.equal(source[name]), (frozen, name)
        for name, parameter in fresh.backbone.named_parameters():
            assert parameter.requires_grad == (not (frozen and name.startswith(first))), name


def test_weights_of_another_backbone_and_impossible_numbers_are_one_sentence(
    small: Variant,
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="has 0 to 17"):
        list(members(small, [18], _saved(tmp_path, "yolo_ret_m075")))
    (member,) = members(small, [4], tmp_path / "b.pt")
    trainer: Any = SimpleNamespace(model=small.build(2))
    assert member.begin
    with pytest.raises(ValueError, match="of another network"):
        member.begin(trainer)
    with pytest.raises(ValueError, match="give a yolo_ret detector"):
        complete("yolo_nano")


def _saved(folder: Path, detector: str) -> Path:
    network: Any = complete(detector).build(2)
    weights = BackboneWeights(detector, False, False, network.backbone.state_dict())
    write_backbone(folder / "b.pt", weights)
    return folder / "b.pt"


def test_the_best_share_is_where_to_truncate() -> None:
    results = [
        Result(f"blocks_{k}", "d", seed, 1, 1.0, 1, 1, 60.0, {"AP50": ap, "AP": ap / 2}, [], {},
               facts={"blocks": k, "share": k / 10})
        for seed in (0, 1)
        for k, ap in ((9, 0.3), (6, 0.4 + 0.02 * seed), (0, 0.1))
    ]  # fmt: skip
    shown = report(results, Namespace())
    assert [row[0] for row in shown.rows] == ["0", "6", "9"], "in the order of the share"
    assert shown.rows[1][1:3] == ("60%", "41.0 ± 1.0")
    assert "first 6 blocks, 60% of the backbone's parameters (41.0 ± 1.0 %)" in shown.conclusion[1]
    without = report(results[2:3], Namespace()).conclusion[1]
    assert "highest without ImageNet's weights (10.0 %)" in without and "truncate" not in without
    whole = replace(results[0], facts={"blocks": 17, "share": 1.0}, figures={"AP50": 1, "AP": 1})
    assert "nothing speaks for truncating it" in report([whole], Namespace()).conclusion[1]
