# SPDX-License-Identifier: Apache-2.0
"""``~/detect_once``: what the newest image of a camera shows, for those who ask now and then."""

from __future__ import annotations

import json
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.ros.detector.graph import refusal
from compact_yolo_ros.ros.detector.settings import Settings
from compact_yolo_ros.ros.detector.topics import DETECT_ONCE, FrameResult
from compact_yolo_ros.support.error_text import printable


class Images(Protocol):
    """Where the images of a camera are while the node is active."""

    @property
    def enabled(self) -> bool:
        """Whether all images are processed, not only those that are asked for."""

    @property
    def settings(self) -> Settings:
        """What the next image is processed with."""

    def unanswered(self) -> float | None:
        """When the newest image came that has no result yet, on ``perf_counter``."""

    def listen(self) -> None:
        """Subscribe, unless that is done already."""

    def ignore(self) -> None:
        """Unsubscribe, unless all images are processed."""


class Answer(NamedTuple):
    """The result for an image, without the image.

    Attributes:
        header: of the image.
        size: its width and height in pixels.
        detections: what was published of it.
        settings: what it was processed with.
        arrived: when the image came, on ``perf_counter``.
    """

    header: Header
    size: tuple[int, int]
    detections: Detections
    settings: Settings
    arrived: float

    def to_json(self) -> str:
        """One line; boxes are x1 y1 x2 y2 in pixels of the image."""
        stamp, found = self.header.stamp, self.detections
        ids = [NO_TRACK] * len(found) if found.ids is None else found.ids.tolist()
        rows = zip(
            found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), ids, strict=True
        )
        detections = [
            {
                "class_id": self.settings.class_ids[label],
                "score": round(score, 4),
                "box": [round(side, 2) for side in box],
                "id": "" if track == NO_TRACK else str(track),
            }
            for label, score, box, track in rows
        ]
        content = {
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": self.header.frame_id,
            "width": self.size[0],
            "height": self.size[1],
            "detections": detections,
        }
        return json.dumps(content)


class DetectOnce:
    """The service of one camera.

    ``answered`` and ``refused`` are for the thread that detects, the rest for the executor's. The
    callback waits as a coroutine in a callback group of its own, so that nothing else waits.

    Attributes:
        timeout: seconds that a call waits for an image, and that an answered one counts as new.
    """

    def __init__(self, node: LifecycleNode, camera: str, timeout: float) -> None:
        """Create the service of the camera ``camera``."""
        self.timeout = timeout
        self._node = node
        self._images: Images | None = None
        self._last: Answer | None = None
        self._calls: tuple[_Call, ...] = ()
        self._is_closed = False
        self._service = node.create_service(
            Trigger,
            DETECT_ONCE.path(camera),
            self._serve,
            callback_group=ReentrantCallbackGroup(),
        )

    @property
    def is_called(self) -> bool:
        """Whether somebody waits for an image."""
        return any(not call.outcome.done() for call in self._calls)

    def begin(self, images: Images) -> None:
        """Take the images of an activation."""
        self._images, self._last = images, None

    def end(self) -> None:
        """Take no more images, and tell those who wait."""
        self._images = None
        for call in self._calls:
            if not call.outcome.done():
                call.outcome.set_result("the node was deactivated")

    def close(self) -> None:
        """Remove the service, after the response to those who wait."""
        self._is_closed = True
        if not self._calls:
            self._destroy()

    def answered(self, result: FrameResult) -> None:
        """Take a result that was published."""
        self._last = answer = Answer(
            result.header,
            result.image.size,
            result.detections,
            result.settings,
            result.arrived,
        )
        images = self._images
        if images is not None and answer.settings != images.settings:
            self.refused("a parameter was set while the last image was in work")
            return
        for call in self._calls:
            if answer.arrived >= call.after and not call.outcome.done():
                call.outcome.set_result(answer)

    def refused(self, sentence: str) -> None:
        """Take the reason why an image has no result."""
        for call in self._calls:
            call.problem = sentence

    async def _serve(self, _request: Any, response: Trigger.Response) -> Trigger.Response:
        found: Answer | str | None
        if self._images is None:
            found = "the node is not active: activate it first"
        else:
            found = self._newest(self._images) or await self._next(self._images)
        response.success = isinstance(found, Answer)
        response.message = found.to_json() if isinstance(found, Answer) else printable(str(found))
        return response

    def _newest(self, images: Images) -> Answer | None:
        """The last answer, if it is that of the newest image, with the parameters of now."""
        last, after = self._last, images.unanswered()
        if last is None or not images.enabled or (after or 0.0) > last.arrived:
            return None
        if last.settings != images.settings:
            return None
        return last if perf_counter() - last.arrived <= self.timeout else None

    async def _next(self, images: Images) -> Answer | str | None:
        """Wait for the image that is in work or comes next."""
        outcome: Future[Answer | str] = Future(executor=self._node.executor)
        outcome.add_done_callback(_wake)
        call = _Call(images.unanswered() or 0.0, outcome)
        # A steady clock: simulated time may stand still.
        timer = self._node.create_timer(
            self.timeout,
            partial(self._give_up, call),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._calls = (*self._calls, call)
        try:
            images.listen()
            return await outcome
        except RuntimeError as error:  # rclpy's RCLError
            return refusal(error)
        finally:
            self._calls = tuple(other for other in self._calls if other is not call)
            self._node.destroy_timer(timer)
            if not self.is_called:
                images.ignore()
            executor = self._node.executor
            if self._is_closed and not self._calls and executor is not None:
                # Behind this coroutine, which still needs the service for its response.
                executor.create_task(self._destroy)

    def _give_up(self, call: _Call) -> None:
        why = f": {call.problem}" if call.problem else ""
        if not call.outcome.done():
            call.outcome.set_result(f"no image was answered within {self.timeout:g} s{why}")

    def _destroy(self) -> None:
        self._node.destroy_service(self._service)


class _Call:
    """A call that waits.

    Attributes:
        after: when the image came that is wanted, or one before it, on ``perf_counter``.
        outcome: an answer, or why there is none.
        problem: why images in the meantime had no result.
    """

    def __init__(self, after: float, outcome: Future[Answer | str]) -> None:
        self.after = after
        self.outcome = outcome
        self.problem = ""


def _wake(_: Any) -> None:
    """Only a callback wakes the executor up to ROS 2 Kilted, not the future itself."""
