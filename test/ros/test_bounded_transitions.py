# SPDX-License-Identifier: Apache-2.0
"""A decoder, a network or a publisher that hangs: transitions end, and /diagnostics says where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from harness import Client, Start, image_message
from idle_session import CLOCK, idle_session
from list_logger import ListLogger
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from test_frame_worker import Camera, PacedDetector, Semaphore, wait_until

from compact_yolo_ros.backends import Opened, RunOptions, open_at_start
from compact_yolo_ros.backends.onnxruntime import OnnxRuntimeBackend
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.ros.detector import backend_manager, worker
from compact_yolo_ros.ros.detector.backend_manager import BackendManager
from compact_yolo_ros.ros.detector.leftovers import Leftovers
from compact_yolo_ros.ros.detector.node import DetectorNode
from compact_yolo_ros.ros.detector.publishing import CameraPublisher
from compact_yolo_ros.ros.detector.worker import DetectorBusyError, FrameWorker
from compact_yolo_ros.ros.diagnostics import health

pytestmark = pytest.mark.ros
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than a moment."""
    monkeypatch.setattr(worker, "END_LIMIT", 0.1)
    monkeypatch.setattr(backend_manager, "END_LIMIT", 0.1)
    monkeypatch.setattr(health, "UNANSWERED", 0.3)


class Gate:
    """Keeps the first call of a function after ``shut`` until it is opened, as a driver may."""

    def __init__(self) -> None:
        self.calls = 0
        self.passing: list[Any] = []
        self._shut = False
        self._open = Event()

    def shut(self) -> None:
        self._shut = True

    def open(self) -> None:
        self._open.set()

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self._shut:
                self._shut = False
                assert self._open.wait(60)
            return function(*args, **options)

        return gated


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


PLACES = {
    "decode": (ImageDecoder, "image"),
    "inference": (OnnxRuntimeBackend, "run"),
    "publish": (CameraPublisher, "publish"),
}


@pytest.mark.parametrize("stage", PLACES)
def test_a_stage_that_hangs_is_named_left_behind_and_never_run_again(
    client: Client,
    start_inside: Start,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    owner, name = PLACES[stage]
    monkeypatch.setattr(owner, name, gate.before(getattr(owner, name)))
    seen = start_inside()
    node = seen.node

    def send_until(happened: Callable[[], Any], prefix: str) -> Any:
        def send() -> Any:
            message = image_message(np.zeros((64, 64, 3), np.uint8), frame_id=prefix)
            seen.camera.publish(message)
            client.spin(0.02)
            return happened()

        return client.wait_for(send)

    def status() -> DiagnosticStatus:
        return seen.diagnostics[-1].status[0]

    def names() -> set[str]:
        return {result.header.frame_id for result in seen.results}

    send_until(lambda: "before" in names(), "before")
    gate.shut()
    send_until(lambda: status().level == DiagnosticStatus.ERROR, "stuck")
    assert status().message.startswith("no image is answered: an image has been in work for ")
    assert f"now in {stage}; " in status().message
    client.wait_for(lambda: status().level == DiagnosticStatus.ERROR)  # with no more images too

    assert node.trigger_deactivate() == SUCCESS
    client.wait_for(lambda: "a transition did not wait any longer" in status().message)
    assert status().level == DiagnosticStatus.WARN
    assert f"now in {stage}" in status().message
    calls = gate.calls
    assert node.trigger_activate() == FAILURE
    client.wait_for(lambda: status().level == DiagnosticStatus.ERROR)
    assert "still in work: wait until it ends, or clean up and configure" in status().message
    assert gate.calls == calls

    assert node.trigger_cleanup() == SUCCESS
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    send_until(lambda: "after" in names(), "after")
    client.wait_for(lambda: "a model is not released yet" in status().message)
    assert status().level == DiagnosticStatus.WARN

    gate.open()
    client.wait_for(lambda: not node._leftovers.warning())
    send_until(lambda: status().level == DiagnosticStatus.OK, "after")
    assert "stuck" not in names()


def test_a_slow_image_that_ends_later_lets_the_node_be_activated_again(
    client: Client, start_inside: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageDecoder, "image", gate.before(ImageDecoder.image))
    seen = start_inside()
    gate.shut()
    message = image_message(np.zeros((64, 64, 3), np.uint8))

    def sent() -> bool:
        seen.camera.publish(message)
        client.spin(0.02)
        return gate.calls > 0

    client.wait_for(sent)
    assert seen.node.trigger_deactivate() == SUCCESS
    assert seen.node.trigger_activate() == FAILURE
    gate.open()
    client.wait_for(lambda: not seen.node._leftovers.warning())
    assert seen.node.trigger_activate() == SUCCESS
    client.wait_for(lambda: seen.camera.publish(message) or seen.results)


@pytest.mark.parametrize("transition", ["trigger_cleanup", "trigger_shutdown", "close"])
def test_every_way_out_ends_while_the_network_hangs(
    client: Client,
    start_inside: Start,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    transition: str,
) -> None:
    monkeypatch.setattr(OnnxRuntimeBackend, "run", gate.before(OnnxRuntimeBackend.run))
    seen = start_inside()
    calls = gate.calls
    gate.shut()

    def sent() -> bool:
        seen.camera.publish(image_message(np.zeros((64, 64, 3), np.uint8)))
        client.spin(0.02)
        return gate.calls > calls

    client.wait_for(sent)
    if transition == "trigger_cleanup":
        assert seen.node.trigger_deactivate() == SUCCESS
    assert getattr(seen.node, transition)() in (SUCCESS, None)
    heard = len(seen.diagnostics)
    client.wait_for(lambda: len(seen.diagnostics) > heard)  # the executor is free
    assert not seen.results


def worker_with(detector: Any, camera: Any) -> tuple[Any, FrameWorker]:
    session = idle_session(detector, [camera])
    return session, FrameWorker(session, CLOCK, None)


def send(to: FrameWorker, image: str) -> None:
    to.submit(0, SimpleNamespace(header=Header(frame_id=image)))


def test_two_workers_never_have_one_detector() -> None:
    detector, done = PacedDetector(), Semaphore(0)
    camera = Camera("front", [], done)
    session, first = worker_with(detector, camera)
    send(first, "left behind")
    assert detector.busy.wait(60)
    send(first, "waiting")
    work = first.work()
    assert work is not None and (work.camera, work.stage) == ("front", detector.stage)
    assert not first.stop()
    with pytest.raises(DetectorBusyError, match="still in work"):
        FrameWorker(session, CLOCK, None)
    detector.go.release()
    first.thread.join(60)
    assert first.work() is None
    second = FrameWorker(session, CLOCK, None)
    send(second, "next")
    detector.go.release()
    assert done.acquire(timeout=60)
    assert second.stop()
    assert camera.processed == ["next"]
    assert camera.counters.snapshot().processed == 1


def test_a_worker_that_cannot_start_does_not_keep_the_detector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    camera = Camera("front", [], Semaphore(0))
    session = idle_session(PacedDetector(), [camera])
    with monkeypatch.context() as patched:
        patched.setattr(worker.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            FrameWorker(session, CLOCK, None)
    assert FrameWorker(session, CLOCK, None).stop()


def test_a_failure_of_what_was_left_behind_is_nobodys() -> None:
    class FailingDetector(PacedDetector):
        def detect_decoded(self, *_: Any) -> Any:
            super().detect_decoded()
            raise RuntimeError("the driver gave up")

    detector = FailingDetector()
    _, first = worker_with(detector, Camera("front", [], Semaphore(0)))
    send(first, "left behind")
    assert detector.busy.wait(60)
    assert not first.stop()
    detector.go.release()
    first.thread.join(60)  # Camera.failed raises
    assert not first.thread.is_alive()


def test_a_backend_that_does_not_open_is_left_behind_and_closed_later(
    toy: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        backend_manager, "open_if_built", gate.before(backend_manager.open_if_built)
    )
    options = RunOptions(toy, backend="onnxruntime", input_sizes=(Size.square(320),), threads=1)
    manager = BackendManager(options, open_at_start(options), ListLogger())
    gate.shut()
    manager.use_sizes(lambda *_: (Size.square(320), Size.square(288)))
    wait_until(lambda: gate.calls == 1)
    releasing = manager.close()
    assert releasing.is_alive()
    log = ListLogger()
    leftovers = Leftovers(log)
    leftovers.add(releasing, lambda: "a model is not released yet")
    assert leftovers.warning() == log.lines[0] == "a model is not released yet"
    gate.open()
    releasing.join(60)
    assert leftovers.warning() == ""
    assert len(log.lines) == 2
    with pytest.raises(AttributeError):
        manager.detector.backend.run()


def test_what_opens_at_the_start_is_released_where_the_node_ends_first(
    toy: str, client: Client
) -> None:
    given = {"model": toy, "autostart": True}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = DetectorNode(context=client.context, parameter_overrides=overrides)
    assert node._opening is not None
    _, opened = node._opening.result()
    assert isinstance(opened, Opened)
    node.close()
    node.destroy_node()
    with pytest.raises(AttributeError):  # its session is gone
        opened.backend.run()


def test_what_opens_at_the_start_is_not_used_with_other_parameters(
    toy: str, client: Client
) -> None:
    given = {"model": toy, "autostart": True, "cpu_threads": 1, "input_size": "320"}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = DetectorNode(context=client.context, parameter_overrides=overrides)
    assert node._opening is not None
    _, first = node._opening.result()
    assert isinstance(first, Opened)
    assert node.set_parameters([Parameter("cpu_threads", value=2)])[0].successful
    node.start()
    try:
        assert node._session is not None
        assert node._session.opened.backend.threads == 2
        with pytest.raises(AttributeError):  # its session is gone
            first.backend.run()
    finally:
        node.close()
        node.destroy_node()
