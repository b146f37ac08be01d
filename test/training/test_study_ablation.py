# SPDX-License-Identifier: Apache-2.0
"""The ablation study: rows, their starts, times and differences."""

from __future__ import annotations

import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.detectors.variant import Variant
from training.studies import latency
from training.studies.ablation import chosen, members, report
from training.studies.configurations import ROWS
from training.studies.latency import kept_ratios, ratios
from training.studies.member import Result
from training.weights.backbone_file import BackboneWeights, write_backbone


@pytest.fixture
def small() -> Variant:
    return Variant.parse("{name: yolo_ret_m075, backbone: {width: 0.1}, rfcr: false, neck: none}")


def test_rows_are_chosen_by_their_begin() -> None:
    assert len(chosen(["yolo_ret_table3"])) == 12
    assert list(chosen(["yolo_ret_table3_none"])) == ["yolo_ret_table3_none"], "not its RFCR too"
    assert set(chosen(["yolo_ret_"])) == {name for name in ROWS if name.startswith("yolo_ret_")}
    with pytest.raises(ValueError, match="--rows micro: no row begins so; one is yolo_ret_table2"):
        chosen(["micro"])


def test_a_row_starts_from_the_file_that_is_of_its_backbone(small: Variant, tmp_path: Path) -> None:
    trained: Any = Variant.parse("{name: yolo_ret_m075, backbone: {width: 0.1}}").build(2)
    other: Any = Variant.parse("{name: yolo_ret_m075, backbone: {width: 0.5}}").build(2)
    paths = [tmp_path / "other.pt", tmp_path / "own.pt"]
    for path, network in zip(paths, (other, trained), strict=True):
        write_backbone(path, BackboneWeights("b", False, False, network.backbone.state_dict()))
    (member,) = members({"row": small}, paths)
    trainer: Any = SimpleNamespace(
        model=small.build(2),
        recipe=SimpleNamespace(detector=small),
        begin_average=lambda: None,
    )
    names = r"other\.pt \(SHA-256 [0-9a-f]{12}\), own\.pt \(SHA-256 [0-9a-f]{12}\)"
    assert member.begin and re.fullmatch(names, member.origin)
    assert member.changes == ("phases.0.frozen_blocks=99",)
    assert next(members({"row": small}, [])).changes == ("phases.0.frozen_blocks=0",)
    member.begin(trainer)
    wanted = trained.backbone.state_dict()
    assert all(v.equal(wanted[n]) for n, v in trainer.model.backbone.state_dict().items())
    (member,) = members({"row": small}, paths[:1])
    assert member.begin
    with pytest.raises(
        ValueError, match=r"no --backbone is that of \{name: yolo_ret.*other.pt are of"
    ):
        member.begin(trainer)


def test_times_are_ratios_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        """Takes a second for each letter of its name, and ten more when it runs first."""

        def __init__(self, detector: str) -> None:
            self.seconds, self.runs = len(detector), 0

        def run(self, *_: object) -> None:
            clock[0] += self.seconds + 10 * (not self.runs)
            self.runs += 1

    clock = [0.0]
    monkeypatch.setattr(latency, "_open", lambda detector, _: Session(detector))
    monkeypatch.setattr(latency.time, "process_time", lambda: clock[0])
    detectors: Any = {"a": "1234", "b": "12", "c": "123456"}
    assert ratios(detectors, 2, 32) == {"a": 1.0, "b": 0.5, "c": 1.5}
    kept = kept_ratios(tmp_path, detectors, 2, 32)
    monkeypatch.setattr(latency, "ratios", lambda *_: pytest.fail("it was measured again"))
    assert kept_ratios(tmp_path, detectors, 2, 32) == kept
    monkeypatch.setattr(latency, "ratios", lambda *_: {})
    assert kept_ratios(tmp_path, detectors, 2, 64) == {}, "of another size"
    monkeypatch.setattr(latency, "ratios", lambda *_: kept)
    for damaged in ("[1", "[]", '{"ratios": 1}'):
        (tmp_path / "latency.json").write_text(damaged)
        assert kept_ratios(tmp_path, detectors, 2, 32) == kept


def test_a_deployed_detector_is_timed() -> None:
    detector = Variant.parse("{name: yolov4_tiny, width: 0.1}")
    assert ratios({"a": detector}, 2, {"a": 160}, rounds=1) == {"a": 1.0}


def test_differences_are_those_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    # that each can be built is tested elsewhere, and takes its time
    monkeypatch.setattr("training.detectors.variant._check", lambda *_: None)
    aps = {
        "yolo_ret_table3_none": 0.2,
        "yolo_ret_table3_none_rfcr": 0.25,
        "yolo_ret_table3_panet": 0.3,
        "yolo_ret_table2_m075_complete": 0.4,
        "yolo_ret_table2_m075_truncated": 0.39,
        "yolo_ret_table4_m075_truncated": 0.5,
        "yolo_ret_table4_m075_shortcut": 0.52,
    }
    results = [
        Result(name, str(ROWS[name]), 0, 1, 1.0, 1, 1, 60.0, {"AP50": ap, "AP": ap / 2}, [], {})
        for name, ap in aps.items()
    ]
    shown = report(results, Namespace(ratios=dict.fromkeys(aps, 1.0)))
    assert shown.conclusion[0].splitlines() == [
        "- RFCR (yolo_ret_table3_none to yolo_ret_table3_none_rfcr): +5.0 points.",
        "- Truncation (yolo_ret_table2_m075_complete to yolo_ret_table2_m075_truncated): -1.0"
        " points.",
        "- Shortcut (yolo_ret_table4_m075_truncated to yolo_ret_table4_m075_shortcut): +2.0"
        " points.",
    ]
    another = replace(results[0], seed=1, figures={"AP50": 0.9, "AP": 0.5})
    going_on = report([*results, another], Namespace(ratios=dict.fromkeys(aps, 1.0)))
    assert "RFCR" not in going_on.conclusion[0], "means of other seeds"
    assert [row[4] for row in going_on.rows][:2] == ["55.0 ± 35.0", "25.0 (1 of 2 seeds)"]
    published = {row[0]: row[-1] for row in shown.rows}
    assert published.pop("table4_m075_shortcut") == "68.75"
    assert set(published.values()) == {"-"}
