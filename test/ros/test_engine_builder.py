# SPDX-License-Identifier: Apache-2.0
"""When an engine that is missing is built, and what becomes of it, without ROS and TensorRT.

Doubles stand in for the process that builds, the detector and the thread that opens.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from list_logger import ListLogger

from compact_yolo_ros.backends import BackendError, MissingEngine, RunOptions
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.ros.detector import engine_builder
from compact_yolo_ros.ros.detector.engine_builder import EngineBuilder

MISSING = MissingEngine("there is no engine for the toy")
BEGUN = f"{MISSING.reason}: building it in the background"
OPTIONS = RunOptions("toy", input_sizes=(416,))
FITTED = OPTIONS.change(image_sizes=(Size(1280, 720),))


class Process:
    """A build that ends when the test says so."""

    def __init__(self, module: str, options: RunOptions, _: Any) -> None:
        self.module, self.options = module, options
        self.state, self.failure = "building", ""
        self.is_cancelled = False

    def follow(self, succeeded: Callable[[], None], failed: Callable[[str], None]) -> Thread:
        self.succeed, self.fail = succeeded, failed
        ended = Thread(target=lambda: None)
        ended.start()
        return ended

    def cancel(self) -> None:
        self.is_cancelled = True


class Builder(EngineBuilder):
    """One beside a detector on the CPU, with its log, its builds and what it opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.builds: list[Process] = []
        self.used: list[Any] = []
        self.log = ListLogger()
        self.backend = SimpleNamespace(name="onnxruntime")
        detector: Any = SimpleNamespace(inputs=(416,), backend=self.backend)
        opener: Any = SimpleNamespace(submit=lambda work: work())
        super().__init__(detector, opener, self.used.append, self.log)
        monkeypatch.setattr(engine_builder, "BuildProcess", self._new)

    def _new(self, *given: Any) -> Process:
        self.builds.append(Process(*given))
        return self.builds[-1]


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(monkeypatch)


def test_nothing_is_said_where_no_engine_is_missing(builder: Builder) -> None:
    assert (builder.is_needed, builder.state, builder.warning) == (False, "", "")
    builder.cancel()
    assert builder.log.lines == []


def test_it_is_built_when_it_is_known_what_it_is_to_fit(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.begin(MISSING, OPTIONS)
    assert builder.is_needed and builder.awaits_image and builder.builds == []
    assert builder.state.startswith("begins with the first image")
    builder.begin(MISSING, FITTED)
    (build,) = builder.builds
    assert not builder.awaits_image and builder.state == "building"
    assert build.options == FITTED.change(backend="tensorrt")
    monkeypatch.setattr(engine_builder, "open_if_built", lambda options: options)
    build.succeed()
    assert builder.used == [build.options] and builder.state == "ready"
    assert builder.log.lines == [BEGUN] and builder.is_needed and builder.warning == ""


@pytest.mark.parametrize(("name", "kept"), [("onnxruntime", "on the CPU"), ("tensorrt", "with")])
def test_a_build_that_fails_is_a_warning(builder: Builder, name: str, kept: str) -> None:
    builder.backend.name = name
    builder.begin(MISSING, FITTED)
    builder.builds[0].fail("no memory")
    assert builder.warning.startswith(f"staying {kept}")
    assert builder.warning.endswith(", the engine could not be built: no memory")
    assert builder.state == "failed" and builder.log.lines == [BEGUN, builder.warning]


def test_what_was_built_is_used_though_not_all_was(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_builder, "open_if_built", lambda options: options)
    builder.begin(MISSING, FITTED)
    builder.builds[0].fail("416x256: the engine is wrong")
    assert builder.used == [builder.builds[0].options]
    assert (builder.state, builder.warning) == ("ready", "")


def test_an_engine_that_cannot_be_opened_is_a_warning(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: RunOptions) -> None:
        raise BackendError("it is of another version")

    for open_if_built, why in ((refuse, "another version"), (lambda _: MISSING, MISSING.reason)):
        monkeypatch.setattr(engine_builder, "open_if_built", open_if_built)
        builder.begin(MISSING, FITTED)
        builder.builds[-1].succeed()
        assert builder.warning.endswith(why) and builder.used == []


def test_an_engine_that_is_not_wanted_any_more_is_not_opened(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_builder, "open_if_built", lambda options: options)
    builder.begin(MISSING, FITTED)
    builder.cancel()
    assert builder.builds[0].is_cancelled and not builder.is_needed
    builder.builds[0].succeed()  # that was on its way
    assert builder.used == []
