# SPDX-License-Identifier: Apache-2.0
"""What is timed on this machine, remembered, and chosen by ``auto``."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from toy_model import write_altered

from compact_yolo_ros.backends import BackendError, RunOptions, choice, open_backend
from compact_yolo_ros.backends import remembered as remembered_module
from compact_yolo_ros.backends.fastest import Timing, fastest
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.backends.remembered import (
    MOST_FILES,
    Remembered,
    recall,
    remember,
    subject_of,
)
from compact_yolo_ros.detection import timing as timing_module
from compact_yolo_ros.detection.timing import main, time_backends
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model

SIZE, SMALLER = Size.square(320), Size.square(288)
FAST = Timing("openvino", "fp32", 1, 5.0, 5.0)
USUAL = Timing("onnxruntime", "fp32", 2, 10.0, 12.0)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two threads by default, no GPU, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "GPU_DEVICES", (tmp_path / "none",))
    monkeypatch.setattr(timing_module, "default_threads", lambda: 2)


@pytest.fixture
def options(toy: str) -> RunOptions:
    return RunOptions(toy, input_sizes=(SIZE,))


def keep(options: RunOptions, *timings: Timing) -> Path:
    model = find_model(options.model)
    remember(model, options, timings)
    return subject_of(model).path


def recalled(options: RunOptions) -> Remembered:
    return recall(find_model(options.model), options)


# The rule


@pytest.mark.parametrize(
    ("time", "cpu", "is_taken"),
    [  # of a second thread, as ratios to one thread
        (0.92, 1.3, False),
        (0.92, 1.6, False),
        (1.0, 1.0, False),
        (0.76, 1.33, True),
        (0.54, 1.2, True),
        (0.85, 1.6, False),
        (0.75, 1.6, True),
    ],
)
def test_a_second_thread_must_be_worth_its_cpu_time(
    time: float, cpu: float, is_taken: bool
) -> None:
    one, two = (
        Timing("openvino", "fp32", threads, 10 * ms, 10 * used)
        for threads, ms, used in ((1, 1.0, 1.0), (2, time, cpu))
    )
    assert fastest([one, two]) == (two if is_taken else one)
    assert fastest([two, one]) == fastest([one, two]) or time == cpu == 1


@pytest.mark.parametrize(("ms", "is_taken"), [(9.2, False), (8.8, True)])
def test_another_runtime_must_be_worth_its_memory(ms: float, is_taken: bool) -> None:
    other = Timing("openvino", "fp32", 2, ms, 12.0)
    worse = Timing("onnxruntime", "fp32", 1, 16.0, 12.0)
    assert fastest([worse, other, USUAL]) == (other if is_taken else USUAL)
    assert fastest([other]) == other


# What is remembered


def test_auto_takes_what_was_fastest(options: RunOptions) -> None:
    pytest.importorskip("openvino")
    assert open_backend(options).backend.name == "onnxruntime"
    keep(options, FAST, USUAL)
    opened = open_backend(options)
    backend = opened.backend
    assert (backend.name, backend.precision, backend.threads) == ("openvino", "fp32", 1)
    assert opened.choice == (
        "openvino fp32 1 thread 5.0 ms (CPU 5.0 ms), timed here at 320x320 beside "
        "onnxruntime fp32 2 threads 10.0 ms (CPU 12.0 ms)"
    )
    assert opened.warning == ""


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "onnxruntime"},
        {"threads": 2},
        {"precision": "fp32"},
        {"spinning": True},
        {"timing": False},
    ],
)
def test_what_the_user_sets_is_what_runs(options: RunOptions, change: dict[str, Any]) -> None:
    keep(options, FAST, USUAL)
    asked = options.change(**change)
    assert not asked.are_for_timing
    assert open_backend(asked).backend.name == "onnxruntime"


def test_another_size_begins_with_what_is_known_of_the_nearest(options: RunOptions) -> None:
    assert recalled(options) == Remembered()
    keep(options.change(input_sizes=(Size.square(640),)), USUAL)
    keep(options, FAST)
    near = recalled(options.change(input_sizes=(SMALLER,)))
    assert (near.size, near.timings, near.is_exact) == ("320x320", (FAST,), False)
    assert recalled(options).is_exact
    keep(options, USUAL)
    assert recalled(options).fastest == USUAL


def test_a_runtime_that_is_broken_is_no_obstacle(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Library, "installed", "as before")
    keep(options, FAST, USUAL)
    monkeypatch.setitem(sys.modules, "openvino", None)
    opened = open_backend(options)
    assert opened.backend.name == "onnxruntime"
    assert "no OpenVINO: OpenVINO cannot be imported" in opened.choice


def other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "installed", "0.1")


def other_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_module, "processor_digest", lambda: "another")


def fewer_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7})


def less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_module, "usable_time", lambda: 1.5)


@pytest.mark.parametrize("change", [other_version, other_processor, fewer_cores, less_time])
def test_timings_do_not_hold_for_another_machine(
    options: RunOptions,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[pytest.MonkeyPatch], None],
) -> None:
    keep(options, FAST)
    with monkeypatch.context() as elsewhere:
        change(elsewhere)
        assert recalled(options) == Remembered()
        keep(options.change(input_sizes=(SMALLER,)), USUAL)
        assert recalled(options).timings == (USUAL,)


def test_timings_do_not_hold_for_another_file_of_the_same_name(
    options: RunOptions, tmp_path: Path
) -> None:
    keep(options, FAST)
    shutil.copy(options.model, tmp_path / "toy.onnx")
    assert recalled(RunOptions(str(tmp_path / "toy.onnx"), input_sizes=(SIZE,))).is_exact
    altered = write_altered(tmp_path / "toy.onnx", "scores", "Mul", np.float32(0.5))
    assert recalled(RunOptions(altered, input_sizes=(SIZE,))) == Remembered()


def first_timing(content: Any) -> Any:
    return content["sizes"]["320x320"][0]


def change_timing(**values: Any) -> Callable[[Any], None]:
    return lambda content: first_timing(content).update(values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_timing(backend="rm -rf"), "no backend on the CPU is called 'rm -rf'"),
        (change_timing(backend="tensorrt"), "no backend on the CPU is called 'tensorrt'"),
        (change_timing(precision="auto"), "no precision is called 'auto'"),
        (change_timing(threads=10**6), "it has threads or milliseconds that cannot be"),
        (change_timing(ms=None), "it has threads or milliseconds that cannot be"),
        (change_timing(cpu_ms=-1), "it has threads or milliseconds that cannot be"),
        (change_timing(threads="two"), "sizes.320x320[0].threads is not a whole number"),
        (lambda content: content.update(format=2), "it is none of this version's"),
        (lambda content: content.update(sizes={"big": []}), "'big' is not of the form"),
        (lambda content: content.update(sizes={"0x0": []}), "no input has a size of 0x0"),
        (lambda content: content.update(sizes={"320x320": []}), "it has no timing at 320x320"),
        (lambda content: content.pop("subject"), "it has no 'subject'"),
    ],
)
def test_a_foreign_file_is_ignored_with_one_sentence(
    options: RunOptions, change: Callable[[Any], Any], sentence: str
) -> None:
    path = keep(options, FAST)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    found = recalled(options)
    assert (found.timings, found.is_exact, found.fastest) == ((), False, None)
    assert found.problem.startswith(f"the timings in {path} are ignored: ")
    assert sentence in found.problem and "\n" not in found.problem
    assert open_backend(options).backend.name == "onnxruntime"
    keep(options, FAST)  # it is replaced
    assert recalled(options).is_exact


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 10**5, b'{"a": 1, "a": 2}', b" " * 5_000_000]
)
def test_a_damaged_file_is_ignored_with_one_sentence(options: RunOptions, content: bytes) -> None:
    path = keep(options, FAST)
    path.write_bytes(content)
    assert recalled(options).problem.startswith(f"the timings in {path} are ignored: ")
    assert recalled(options).problem.count("\n") == 0


def test_a_pipe_or_an_unknown_home_does_not_stop_anything(
    options: RunOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keep(options, FAST)
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in recalled(options).problem
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody_of_that_name")
    assert recalled(options).problem and open_backend(options).backend.name == "onnxruntime"


def test_the_oldest_files_are_removed(options: RunOptions) -> None:
    folder = keep(options, FAST).parent
    for number in range(MOST_FILES + 5):
        (folder / f"old{number}.json").write_text("{}")
        os.utime(folder / f"old{number}.json", (number, number))
    keep(options, FAST)
    assert len(list(folder.glob("*.json"))) == MOST_FILES
    assert recalled(options).is_exact and not (folder / "old0.json").exists()


# The timing


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timing_module, "RUNS", 3)
    monkeypatch.setattr(timing_module, "_waited", dict)  # for cores, which other tests use, too
    monkeypatch.setattr(timing_module, "_give_way", lambda: None)
    yield


def test_every_runtime_and_number_of_threads_is_timed_once(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor that computes in FP32 alone, whatever the one here can."""
    lines: list[str] = []
    expected = {("onnxruntime", "fp32", threads) for threads in (1, 2)}
    if find_spec("openvino"):
        from other_processor import Processor

        from compact_yolo_ros.backends import openvino as openvino_backend

        processor = Processor()
        monkeypatch.setattr(openvino_backend, "_core", lambda: processor)
        expected |= {("openvino", "fp32", threads) for threads in (1, 2)}
    time_backends(options, lines.append)
    timings = recalled(options).timings
    assert {(each.backend, each.precision, each.threads) for each in timings} == expected
    assert all(each.ms > 0 and each.cpu_ms > 0 for each in timings)
    assert lines[0] == "timing onnxruntime fp32, threads: 1" and len(lines) == len(expected) + 1
    lines.clear()
    time_backends(options, lines.append)
    assert lines == [str(recalled(options))]


@pytest.mark.parametrize("agrees", [True, False])
def test_bfloat16_is_timed_where_it_finds_the_same(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, agrees: bool
) -> None:
    pytest.importorskip("openvino")
    from other_processor import Processor

    from compact_yolo_ros.backends import openvino as openvino_backend

    class Rounding(Processor):
        def read_model(self, path: str) -> Any:
            return super().read_model(path if agrees else faint)

    faint = write_altered(tmp_path / "faint.onnx", "scores", "Mul", np.float32(0.8))
    monkeypatch.setattr(openvino_backend, "_core", lambda: Rounding("BF16"))
    monkeypatch.setattr(timing_module, "default_threads", lambda: 1)
    time_backends(options, lambda line: None)
    found = {each.precision for each in recalled(options).timings if each.backend == "openvino"}
    assert found == ({"fp32", "bf16"} if agrees else {"fp32"})


def test_busy_cores_end_the_timing(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing_module, "PATIENCE", 0.0)
    with pytest.raises(BackendError, match="the cores are too busy to time anything on them"):
        time_backends(options, lambda line: None)
    assert recalled(options) == Remembered()


def test_nothing_is_timed_that_cannot_be_kept(
    options: RunOptions,
    short: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nobody")  # where not even root can make a file
    assert main(["--model", options.model, "--input-size", "320"]) == 1
    assert capsys.readouterr().err.startswith("timings cannot be kept (")


def test_it_is_timed_where_a_file_system_has_no_locks(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some network drives: a home folder there must not end every timing."""

    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert main(["--model", options.model, "--input-size", "320"]) == 0
    assert recalled(options).is_exact


def test_the_command_times_and_says_what_it_found(
    options: RunOptions, short: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", options.model, "--input-size", "320"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(recalled(options))
    assert main(["--model", "none.onnx"]) == 1


@pytest.mark.parametrize(
    ("waiting", "is_timed"), [("first", True), ("second", False), ("second, a little", True)]
)
def test_time_without_a_core_does_not_count(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch, waiting: str, is_timed: bool
) -> None:
    """A neighbour takes a core for 20 of the 30 ms of each run."""
    own = str(os.getpid())
    readings = itertools.count()
    lost = 0.0002 if "little" in waiting else 0.02

    def waited() -> dict[str, float]:
        seconds = lost * next(readings)
        return {own: seconds} if waiting == "first" else {own: 0.0, "1": seconds}

    monkeypatch.setattr(timing_module, "_waited", waited)
    monkeypatch.setattr(timing_module, "PATIENCE", 60.0 if is_timed else 0.5)
    backend = open_backend(options.change(backend="onnxruntime", threads=1)).backend
    monkeypatch.setattr(backend, "run", lambda images=1: sleep(0.03))
    runs = timing_module._measure(backend)
    assert len(runs) == (timing_module.RUNS if is_timed else 0)
    assert all(seconds >= (0.01 if waiting == "first" else 0.03) for seconds, _ in runs)


def test_threads_for_which_the_cores_are_never_free_are_left_out(
    options: RunOptions, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = timing_module._measure
    monkeypatch.setattr(timing_module, "_measure", lambda b: measure(b) if b.threads == 1 else [])
    time_backends(options, lambda line: None)
    assert {each.threads for each in recalled(options).timings} == {1}
