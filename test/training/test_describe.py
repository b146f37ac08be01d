# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from compact_yolo_ros.model.published import FILE, Published, published_figures
from training import describe as describing
from training.describe import (
    COST_HEADER,
    comparison_rows,
    cost_row,
    describe,
    differs,
    figures_for_benchmark,
    net_score,
)
from training.detectors.complexity import macs, macs_by_size
from training.detectors.publications import SIZE_UNITS
from training.detectors.registry import DETECTORS, build


@pytest.fixture(scope="module")
def descriptions():
    return [describe(name) for name in DETECTORS]


@pytest.fixture
def described(descriptions, monkeypatch):
    """What is described is not counted again."""
    monkeypatch.setattr(describing, "describe", {d.name: d for d in descriptions}.__getitem__)
    return descriptions


def test_page_and_figures_are_up_to_date(described, tmp_path):
    page, figures = tmp_path / "detectors.md", tmp_path / "published.json"
    describing.write(page, figures)
    for written, shipped in ((page, describing.PAGE), (figures, FILE)):
        assert written.read_text() == shipped.read_text(), "run make docs"


def test_the_benchmark_reads_the_published_figures_of_the_rows():
    rows = {name: spec.published for name, spec in DETECTORS.items() if spec.published}
    assert published_figures() == rows


def test_published_figures_can_be_compared():
    for published in published_figures().values():
        assert published.size_unit in SIZE_UNITS and published.side in published.ap50


def test_every_difference_has_its_reason(descriptions):
    for d in descriptions:
        if p := d.published:
            pairs = [(p.size, d.size), (p.gmac, d.gmacs[p.side])]
            if any(published and differs(published, counted) for published, counted in pairs):
                assert p.remark, d.name


def test_a_detector_without_a_publication_has_costs_only(monkeypatch, capsys):
    nothing = replace(DETECTORS["yolo_fastest"], name="own", recipe="", published=None)
    monkeypatch.setitem(DETECTORS, "own", nothing)
    description = describe("own")
    assert description.net_score is None and description.size is None
    assert comparison_rows([description]) == []
    assert cost_row(description)[-1] == "-"
    assert "own" not in json.loads(figures_for_benchmark())
    monkeypatch.setattr(sys, "argv", ["describe", "own"])
    describing.main()
    assert "Published" not in capsys.readouterr().out


def test_a_publication_may_say_little(monkeypatch):
    little = replace(DETECTORS["yolo_fastest"], published=Published("a paper", "COCO 2017", 96))
    monkeypatch.setitem(DETECTORS, "yolo_fastest", little)
    row = comparison_rows([describe("yolo_fastest")])[0]
    assert row[:4] == ("yolo_fastest", "-", "", "") and row[5] == "-"


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


def test_all_detectors_can_be_read_at_80_columns_and_in_a_pipe(described, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["describe"])
    monkeypatch.delenv("COLUMNS", raising=False)
    describing.main()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for description in described:
        assert all(cell in printed for cell in cost_row(description)), description.name
        for row in comparison_rows([description]):
            words = " ".join(cell.strip("*") for cell in row).split()
            assert all(word in printed for word in words), description.name


@pytest.mark.parametrize("more", [["yolo_nano"], ["--set", "detector.neck=fpn"]])
def test_the_pages_are_of_all_detectors(more, monkeypatch, capsys):
    monkeypatch.setattr(describing, "write", lambda: pytest.fail("written"))
    monkeypatch.setattr(sys, "argv", ["describe", "--write", *more])
    with pytest.raises(SystemExit):
        describing.main()
    assert "--write writes about all detectors" in capsys.readouterr().err


def test_an_unknown_name_lists_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["describe", "yolo"])
    with pytest.raises(SystemExit):
        describing.main()
    assert "yolo_nano" in capsys.readouterr().err
