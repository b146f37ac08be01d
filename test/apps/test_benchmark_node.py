# SPDX-License-Identifier: Apache-2.0
"""The load of ``benchmark --node`` on a real detector node over DDS."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from compact_yolo_ros.apps.benchmark import command, node_load
from compact_yolo_ros.apps.benchmark.node_load import Images, NodeFailed, measure_node
from compact_yolo_ros.apps.benchmark.peak_rate import LoadRun, NoRate, Peak
from compact_yolo_ros.apps.benchmark.runs import Run, all_runs
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.termination import terminable

POWER = PowerSummary("meter", None, 7.5, {}, {}, None, "")


def run_at(toy: str, size: Size) -> Run:
    (run,) = all_runs([find_model(toy)], [size], threads=[1])
    return run


def measure(run: Run, transport: str = "raw") -> Peak:
    images = Images((320, 240), transport, 0.5)
    return measure_node(run, images, lambda: POWER, lambda text: None)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_answers_are_counted_and_timed(
    toy: str, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    def one_rate(name: str, run) -> Peak:
        return Peak(name, (run(8.0),) * 5, (run(3000.0),))

    monkeypatch.setattr(node_load, "find_peak", one_rate)
    peak = measure(run_at(toy, Size.square(320)), transport)
    run: LoadRun = peak.runs[0]
    assert (run.target_rate, run.sent, run.watts) == (8.0, 20, 7.5)
    assert run.rate == pytest.approx(8.0, rel=0.1)
    assert run.loss <= 0.5 and min(run.seconds) > 0  # a busy machine loses some
    assert peak.facts == {
        "model": "toy",
        "input_size": "320x320",
        "backend": "onnxruntime",
        "precision": "fp32",
        "threads": "1",
    }
    (flooded,) = peak.search
    assert flooded.sent == 1500
    assert flooded.loss > 0 or not flooded.passed  # nobody answers three thousand a second


def test_a_node_that_does_not_start_is_one_sentence(toy: str) -> None:
    with pytest.raises(NodeFailed, match="TopK"):  # the toy has too few cells at this size
        measure(run_at(toy, Size.square(160)))


def test_a_signal_counts_between_two_messages(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pybind11, which reads messages for rclpy, makes another error of a KeyboardInterrupt."""

    def interrupted(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("unable to convert an argument") from None

    monkeypatch.setattr(node_load.LoadGenerator, "_on_diagnostics", interrupted)
    with terminable(), pytest.raises(KeyboardInterrupt):
        measure(run_at(toy, Size.square(320)))


FACTS = {"input_size": "320x320", "backend": "onnxruntime", "precision": "fp32", "threads": "1"}
MODELS = ("yolo_fastest", "yolo_fastest_xl", "yolo_ret_m075")


@pytest.fixture
def measured_but(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, BaseException]], None]:
    """Let nodes have a rate of 10, but for those of some models."""

    def replace_measurement(failing: dict[str, BaseException]) -> None:
        def one(run: Run, *_: Any) -> Peak:
            if run.name in failing:
                raise failing[run.name]
            load = LoadRun(10, 10, 50, (0.01,) * 50)
            return Peak(str(run), (load,) * 5, (load,), (load,), {"model": run.name, **FACTS})

        monkeypatch.setattr(node_load, "measure_node", one)
        monkeypatch.setattr(command, "FIRST_READING", 0)

    return replace_measurement


def models_in(out: Path) -> list[str]:
    return [row["model"] for row in json.loads((out / "node.json").read_text())["results"]]


@pytest.mark.parametrize("failure", [NoRate, NodeFailed])
def test_what_was_measured_is_kept_where_another_model_fails(
    measured_but: Callable[[dict[str, BaseException]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    failure: type[Exception],
) -> None:
    measured_but({"yolo_fastest_xl": failure("it is too large")})
    assert command.main(["--node", *MODELS, "--out", str(tmp_path)]) == 1
    assert models_in(tmp_path) == ["yolo_fastest", "yolo_ret_m075"]
    said = capsys.readouterr()
    assert "benchmark: not measured: " in said.err and "it is too large" in said.err
    assert "yolo_ret_m075" in said.out


@pytest.mark.parametrize(("ending", "code"), [(KeyboardInterrupt(), 130), (OSError("full"), 1)])
def test_what_was_measured_is_kept_where_the_rest_is_given_up(
    measured_but: Callable[[dict[str, BaseException]], None],
    tmp_path: Path,
    ending: BaseException,
    code: int,
) -> None:
    measured_but({"yolo_fastest_xl": ending})
    assert command.main(["--node", *MODELS, "--out", str(tmp_path)]) == code
    assert models_in(tmp_path) == ["yolo_fastest"]


def test_where_no_model_can_be_measured_nothing_is_written(
    measured_but: Callable[[dict[str, BaseException]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured_but({"yolo_fastest": NoRate("too slow")})
    assert command.main(["--node", "yolo_fastest", "--out", str(tmp_path)]) == 1
    assert "too slow" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
