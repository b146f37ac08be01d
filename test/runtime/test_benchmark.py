# SPDX-License-Identifier: Apache-2.0
"""The command ``benchmark``: what it measures, writes and refuses. Its figures are not asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_model import CARD, write_toy_model

from compact_yolo_ros.tools.benchmark import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, gmac in (("small", 0.1), ("large", 2.0)):
        card = replace(CARD, name=name, gmacs={"320": gmac})
        write_toy_model(tmp_path / f"{name}.onnx", card)
    return tmp_path


def run(*arguments: str) -> int:
    return main([*arguments, "--rounds", "2", "--threads", "1"])


def test_a_folder_becomes_a_page_and_a_plot(folder: Path, capsys: pytest.CaptureFixture) -> None:
    out = folder / "out"
    assert run("--zoo", str(folder), "--reference", "small", "--out", str(out)) == 0
    page = (out / "zoo.md").read_text()
    assert "| small | 320 | 0.100 |" in page
    assert "| large | 320 | 2.000 |" in page
    assert "*Ratio* is to `small`" in " ".join(page.split())
    pytest.importorskip("matplotlib")
    assert (out / "zoo.png").read_bytes().startswith(b"\x89PNG")
    assert "(zoo.png)" in page
    assert sorted(path.name for path in out.iterdir()) == ["zoo.md", "zoo.png"]
    assert "large" in capsys.readouterr().out


def test_models_are_measured_by_name_or_path(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("yolo_ret_m075", str(folder / "small.onnx")) == 0
    printed = capsys.readouterr().out
    assert "yolo_ret_m075" in printed and "small" in printed


def test_a_model_in_two_precisions_is_two_models(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    write_toy_model(folder / "small_int8.onnx", replace(CARD, name="small", precision="int8"))
    assert run(str(folder / "small.onnx"), str(folder / "small_int8.onnx")) == 0
    rows = capsys.readouterr().out.splitlines()
    assert sum("small (int8)" in row for row in rows) == 1
    assert sum("small " in row and "(int8)" not in row for row in rows) == 1


def test_spinning_is_held_against_sleeping_in_one_run(folder: Path) -> None:
    out = folder / "out"
    small = str(folder / "small.onnx")
    assert run(small, "--spinning", "--reference", "small", "--out", str(out)) == 0
    rows = (out / "benchmark.md").read_text().splitlines()
    assert sum(row.startswith("| small | 320 | 0.100 |") for row in rows) == 1
    assert sum(row.startswith("| small, spinning | 320 | 0.100 |") for row in rows) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["yolo_what"], "there is no model 'yolo_what'"),
        (["--zoo", "/nowhere"], "holds no .onnx files: `python -m training.export_zoo"),
        (["--reference", "toy"], "the reference 'toy' is not among yolo_ret_m075"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(*arguments) == 1
    assert sentence in capsys.readouterr().err
