# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from training import describe as describing
from training.describe import COST_HEADER, describe, differs, net_score, to_markdown
from training.detectors.complexity import macs, macs_by_size
from training.detectors.published import PUBLISHED, READINGS
from training.detectors.registry import DETECTORS, build

PAGE = Path(__file__).parents[2] / "docs" / "detectors.md"


@pytest.fixture(scope="module")
def descriptions():
    return [describe(name) for name in DETECTORS]


def test_page_is_up_to_date(descriptions):
    assert PAGE.read_text() == to_markdown(descriptions), (
        "run python -m training.describe --markdown docs/detectors.md"
    )


def test_what_was_published_is_known_for_every_detector():
    assert set(PUBLISHED) == set(DETECTORS)
    for published in PUBLISHED.values():
        assert published.reading in READINGS and published.input in published.ap50


def test_every_difference_has_its_reason(descriptions):
    for d in descriptions:
        pairs = [(d.published.size, d.size), (d.published.gmac, d.gmacs[d.published.input])]
        if any(published and differs(published, counted) for published, counted in pairs):
            assert d.published.remark, d.name


def test_sizes_by_precision_shrink(descriptions):
    for d in descriptions:
        fp32, fp16, int8 = d.megabytes
        assert fp32 == pytest.approx(4 * d.parameters / 1e6)
        # folded norms and dropped biases make it less than a half and a quarter
        assert int8 < fp32 / 4 and fp16 <= fp32 / 2
        assert sum(d.parts.values()) == d.parameters


@pytest.mark.parametrize("name", ["yolo_ret_eb3", "tiny_yolov2"])
def test_two_counts_give_all_sizes(name):
    with torch.device("meta"):
        detector = build(name)
    assert macs_by_size(detector, [96, 160]) == {s: macs(detector, s, s) for s in (96, 160)}


def test_net_score():
    assert net_score(10, 1, 1) == pytest.approx(40)
    # ten times fewer parameters and operations: sqrt(100), 20 decibels
    assert net_score(10, 0.1, 0.1) == pytest.approx(60)


def test_one_detector_is_printed_with_its_parts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["describe", "yolo_fastest_v1_0"])
    monkeypatch.setenv("COLUMNS", "250")
    describing.main()
    printed = capsys.readouterr().out
    assert "315,726" in printed and "61.02 @320" in printed
    assert "backbone" in printed and "dropout=0.15" in printed
    assert all(word in printed for word in COST_HEADER)


def test_an_unknown_name_lists_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["describe", "yolo"])
    with pytest.raises(SystemExit):
        describing.main()
    assert "yolo_nano" in capsys.readouterr().err
