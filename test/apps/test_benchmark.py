# SPDX-License-Identifier: Apache-2.0
"""The command ``benchmark``: what it measures, writes and refuses. No time is asserted."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_model import CARD, write_toy_model

from compact_yolo_ros.apps.benchmark import command as benchmark
from compact_yolo_ros.apps.benchmark import latency
from compact_yolo_ros.apps.benchmark.command import main
from compact_yolo_ros.apps.benchmark.latency import Measurement, Timing, measure
from compact_yolo_ros.apps.benchmark.runs import all_runs, gmac_at
from compact_yolo_ros.backends import BackendError, Opened, RunOptions, fastest
from compact_yolo_ros.backends.remembered import remember
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile, find_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, gmac in (("small", 0.1), ("large", 2.0)):
        card = replace(CARD, name=name, gmacs={"320": gmac}, parameters=1_500_000)
        write_toy_model(tmp_path / f"{name}.onnx", card)
    return tmp_path


def run(*arguments: str) -> int:
    return main([*arguments, "--rounds", "2", "--threads", "1"])


def row_of(page: str, model: str) -> list[str]:
    (row,) = (line for line in page.splitlines() if line.startswith(f"| {model} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_a_folder_becomes_a_page_data_and_a_plot(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    out = folder / "out"
    assert run("--zoo", str(folder), "--reference", "small", "--out", str(out)) == 0
    page = (out / "zoo.md").read_text()
    megabytes = f"{(folder / 'small.onnx').stat().st_size / 1e6:.2f}"
    assert row_of(page, "small")[:8] == [
        *("small", "320x320", "onnxruntime", "fp32", "1", megabytes, "1.500", "0.100"),
    ]
    assert row_of(page, "large")[7] == "2.000"
    assert "*Ratio* is to `small`" in " ".join(page.split())
    results = json.loads((out / "zoo.json").read_text())
    by_name = {result["model"]: result for result in results["results"]}
    assert by_name["large"]["gmac"] == 2.0 and by_name["large"]["input_size"] == "320x320"
    assert by_name["small"]["file_bytes"] == (folder / "small.onnx").stat().st_size
    ms = by_name["small"]["ms"]
    assert 0 < ms["p50"] <= ms["p95"] <= ms["p99"]
    assert results["environment"]["ONNX Runtime"] and results["environment"]["processor"]
    pytest.importorskip("matplotlib")
    assert (out / "zoo.png").read_bytes().startswith(b"\x89PNG")
    assert "(zoo.png)" in page
    assert sorted(path.name for path in out.iterdir()) == ["zoo.json", "zoo.md", "zoo.png"]
    assert "large" in capsys.readouterr().out


def test_results_are_written_where_matplotlib_does_not_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    # as one of apt that was built for another NumPy: it is found, and cannot be imported
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(str(folder / "small.onnx"), "--out", str(folder / "out")) == 0
    written = sorted(path.name for path in (folder / "out").iterdir())
    assert written == ["benchmark.json", "benchmark.md"]
    assert "no plot without matplotlib (matplotlib cannot be imported" in capsys.readouterr().err


def test_models_are_measured_by_name_or_path(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("yolo_ret_m075", str(folder / "small.onnx")) == 0
    printed = capsys.readouterr().out
    assert "yolo_ret_m075" in printed and "small" in printed


def test_every_size_and_backend_is_measured(folder: Path, capsys: pytest.CaptureFixture) -> None:
    out, small = folder / "out", str(folder / "small.onnx")
    sizes = ("--input-size", "320", "640x320")
    assert run(small, *sizes, "--backends", "onnxruntime", "tensorrt", "--out", str(out)) == 1
    captured = capsys.readouterr()
    assert "onnxruntime" in captured.out
    assert "benchmark: not measured: small at 320x320, tensorrt, 1 thread: " in captured.err
    results = json.loads((out / "benchmark.json").read_text())
    found = {(r["input_size"], r["backend"]): r["gmac"] for r in results["results"]}
    assert found == {
        ("320x320", "onnxruntime"): 0.1,
        ("640x320", "onnxruntime"): pytest.approx(0.2),
    }
    # What cannot run here is reported, and the rest is measured.
    assert [text.partition(":")[0] for text in results["not_measured"]] == [
        "small at 320x320, tensorrt, 1 thread",
        "small at 640x320, tensorrt, 1 thread",
    ]
    assert "Not measured: small at 320x320, tensorrt" in (out / "benchmark.md").read_text()


def test_a_model_of_another_size_does_not_keep_others_from_being_measured(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    write_toy_model(folder / "fixed.onnx", replace(CARD, name="fixed", fixed_size=True))
    models = [str(folder / f"{name}.onnx") for name in ("small", "fixed")]
    assert run(*models, "--input-size", "640x320", "320x320") == 1
    captured = capsys.readouterr()
    rows = [line for line in captured.out.splitlines() if "320x320" in line or "640x320" in line]
    assert len(rows) == 3
    assert "not measured: fixed at 640x320, 1 thread: fixed runs at 320x320 only" in captured.err


def test_an_option_that_is_given_twice_adds_to_the_first() -> None:
    line = "--backends onnxruntime --backends openvino --precisions fp32 --precisions int8"
    options = benchmark._parse(
        f"m {line} --threads 1 --threads 2 --input-size 224 --input-size 320x320".split()
    )
    assert (options.backends, options.precisions) == (["onnxruntime", "openvino"], ["fp32", "int8"])
    assert (options.threads, options.input_size) == ([1, 2], [224, Size(320, 320)])


def test_what_nodes_have_timed_is_shown(
    folder: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    small = find_model(str(folder / "small.onnx"))
    options = RunOptions(str(small.path)).resolved(CARD)
    remember(small, options, [fastest.Timing("onnxruntime", "fp32", 2, 8.5, 12.0)])
    assert run("--zoo", str(folder), "--out", str(folder)) == 0
    sentence = "onnxruntime fp32 2 threads 8.5 ms (CPU 12.0 ms), timed here at 320x320"
    assert f"auto for small at 320x320: {sentence}" in capsys.readouterr().out.splitlines()
    facts = json.loads((folder / "zoo.json").read_text())["environment"]
    assert facts["auto for small at 320x320"] == sentence
    assert "auto for large at 320x320" not in facts


def test_two_files_of_one_model_are_two_rows(folder: Path) -> None:
    out = folder / "out"
    write_toy_model(folder / "small_int8.onnx", replace(CARD, name="small", precision="int8"))
    files = str(folder / "small.onnx"), str(folder / "small_int8.onnx")
    assert run(*files, "--out", str(out)) == 0
    page = (out / "benchmark.md").read_text()
    assert row_of(page, "small")[3] == "fp32"
    assert row_of(page, "small_int8")[3] == "int8"


def test_spinning_and_sleeping_threads_are_measured_in_one_run(folder: Path) -> None:
    out = folder / "out"
    small = str(folder / "small.onnx")
    assert run(small, "--spinning", "--reference", "small", "--out", str(out)) == 0
    page = (out / "benchmark.md").read_text()
    assert row_of(page, "small")[1] == row_of(page, "small, spinning")[1] == "320x320"


def test_the_page_has_the_published_figures(folder: Path) -> None:
    out = folder / "out"
    assert run("yolo_ret_m075", "--out", str(out)) == 0
    published = (out / "benchmark.md").read_text().partition("## Published figures")[2]
    assert "VOC 2007 | 72.39 @416, 68.75 @320, 60.77 @224" in published
    assert "Jetson Nano, FP16: 19.87 @416, 33.19 @320" in published


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["yolo_what"], "there is no model 'yolo_what'"),
        (["--zoo", "/nowhere"], "holds no .onnx files: `python -m training.export_zoo"),
        (["--reference", "toy"], "the reference 'toy' is not among"),
        (["yolo_ret_m075", "yolo_ret_m075"], "two models are called 'yolo_ret_m075'"),
        (
            ["yolo_ret_m075", "--backends", "onnxruntime", "--precisions", "int8"],
            "holds fp32 weights, not int8",
        ),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    assert run(*arguments) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err and "Traceback" not in captured.err


def test_an_input_size_that_no_network_has_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("yolo_ret_m075", "--input-size", "300")
    assert "input size 300 is not usable: give a multiple of 32" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["yolo_ret_m075"], ["--node", "yolo_ret_m075"]])
def test_threads_that_would_take_all_memory_are_refused(
    command: list[str], capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*command, "--threads", "1", "99999")
    assert "99999 threads are too many: give at most 64" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--node", "--rounds", "9"], "--rounds goes without --node"),
        (["--node", "--reference", "yolo_fastest"], "--reference goes without --node"),
        (["--seconds", "9"], "--seconds goes with --node"),
        (["--image-transport", "compressed"], "--image-transport goes with --node"),
        (["--spinning", "--backends", "openvino"], "--spinning is of ONNX Runtime"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["yolo_fastest", *options])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "inf", "0"])
def test_a_run_takes_finite_time(seconds: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--node", "--seconds", seconds])


@pytest.mark.parametrize("rounds", ["0", "-1", "9" * 20])
def test_rounds_can_be_counted(rounds: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["yolo_fastest", "--rounds", rounds])
    assert f"'{rounds}' is not a whole number, 1 or more" in capsys.readouterr().err


def test_sigterm_ends_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def work(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(9)
        finally:
            ended.append(True)

    monkeypatch.setattr(benchmark, "_benchmark_node", work)
    assert main(["--node"]) == 130
    assert ended


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (BackendError("lost"), 1)])
def test_what_was_measured_is_kept_where_the_rest_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException, code: int
) -> None:
    opening = latency.open_backend

    def open_or_end(options: RunOptions) -> Opened:
        if options.threads == 2:
            raise end
        return opening(options)

    monkeypatch.setattr(latency, "open_backend", open_or_end)
    out = folder / "out"
    model = str(folder / "small.onnx")
    assert main([model, "--rounds", "2", "--threads", "1", "2", "--out", str(out)]) == code
    results = json.loads((out / "benchmark.json").read_text())["results"]
    assert [result["threads"] for result in results] == [1]


def test_results_are_written_where_nobody_reads_what_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object) -> None:
        raise SystemExit(1)  # as rich does with a pipe that is closed

    monkeypatch.setattr(benchmark, "print_table", leave)
    with pytest.raises(SystemExit):
        run(str(folder / "small.onnx"), "--out", str(folder / "out"))
    assert json.loads((folder / "out" / "benchmark.json").read_text())["results"]


def test_results_are_printed_where_the_disk_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(benchmark, "write_latencies", fill_up)
    assert run(str(folder / "small.onnx"), "--out", str(folder / "out")) == 1
    said = capsys.readouterr()
    assert "small" in said.out and "No space left on device" in said.err


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(benchmark, "measure", lambda *_: pytest.fail("it was measured"))
    (tmp_path / "file").touch()
    assert run("yolo_fastest", "--out", str(tmp_path / "file")) == 1
    assert "cannot write to" in capsys.readouterr().err


TOY = ModelFile(Path("toy.onnx"), CARD)


def test_operations_at_other_sizes_follow_the_area() -> None:
    assert gmac_at(CARD, Size(320, 320)) is None
    one = replace(CARD, gmacs={"320": 1.0})
    assert gmac_at(one, Size(160, 160)) == pytest.approx(0.25)
    assert gmac_at(one, Size(640, 160)) == pytest.approx(1.0)
    # 0.1 of them are behind a global pooling
    two = replace(CARD, gmacs={"320": 1.1, "160": 0.35})
    assert gmac_at(two, Size(320, 320)) == 1.1
    assert gmac_at(two, Size(640, 640)) == pytest.approx(4.1)


def test_a_gpu_is_measured_with_one_number_of_threads() -> None:
    runs = all_runs([TOY], backends=["tensorrt", "onnxruntime"], threads=[1, 2])
    assert [(run.options.backend, run.options.threads) for run in runs] == [
        *(("tensorrt", 1), ("onnxruntime", 1), ("onnxruntime", 2)),
    ]


def test_power_is_that_of_a_network_without_a_pause(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compact_yolo_ros.apps.benchmark.latency.STEADY", 0.1)
    power = PowerSummary("meter", "MAXN", 8.0, {}, {}, "none", "")
    runs = all_runs([find_model(str(folder / "small.onnx"))], threads=[1])
    result = Measurement("small")
    measure(result, runs, 1, lambda: power)
    (timing,) = result.timings
    assert timing.rate and timing.fps == timing.rate
    assert timing.images_per_joule == pytest.approx(timing.rate / 8)
    result = Measurement("small")
    measure(result, runs, 1)
    (timing,) = result.timings
    assert timing.watts is None and timing.images_per_joule is None


def test_ratio_is_the_median_of_the_rounds() -> None:
    own, reference = np.array([2.0, 9.0, 40.0]), np.array([1.0, 3.0, 10.0])
    (run,) = all_runs([TOY])
    timing = Timing(run, CARD, "onnxruntime", "CPU", "fp32", 1, own, reference)
    assert timing.ratio == 3.0
    assert timing.fps == pytest.approx(1e3 / 17)
