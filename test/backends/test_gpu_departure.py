# SPDX-License-Identifier: Apache-2.0
"""The search for where an engine departs from ONNX Runtime, with a double of TensorRT."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "gpu" / "departure.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_departure", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 92])
def test_the_first_wrong_value_is_found_with_few_engines(script: ModuleType, count: int) -> None:
    names = [str(number) for number in range(count)]
    for wrong in range(count + 1):
        asked: list[str] = []

        def error(name: str, wrong: int = wrong, asked: list[str] = asked) -> float:
            asked.append(name)
            return float(int(name) >= wrong)

        last, first = script.first_departure(names, error, 0.5)
        assert (last, first) == (
            str(wrong - 1) if wrong else "",
            str(wrong) if wrong < count else "",
        )
        assert len(asked) == len(set(asked)) <= 2 * count.bit_length()


@pytest.mark.parametrize("trt", ["8.5.3", "11.4.0"], indirect=True)
@pytest.mark.parametrize(
    "words",
    [["yolo_fastest_int8"], ["yolo_fastest", "--precision", "fp16", "--batch", "3"]],
)
def test_every_part_of_a_network_is_computed_by_both(
    script: ModuleType, trt: Any, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(words) == 0
    *rows, verdict = capsys.readouterr().out.splitlines()[2:]
    assert verdict == "It agrees everywhere."
    images = 3 if "3" in words else 1
    assert len(rows) > 5 and f" scores ({images}, 300) " in rows[-1]


@pytest.mark.parametrize("trt", ["8.5.3"], indirect=True)
def test_a_wrong_engine_is_told(
    script: ModuleType,
    trt: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TENSORRT_DOUBLE_WRONG", "1")
    assert script.main(["yolo_fastest_int8"]) == 1
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith("It agrees up to the input, and departs before /Mul_output_0")


def test_without_a_gpu_it_says_so(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 10
    assert capsys.readouterr().err.startswith("Nothing was compared, there is no GPU: ")
