# SPDX-License-Identifier: Apache-2.0
"""The detector as a lifecycle node: images of cameras in, vision_msgs/Detection2DArray out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import LabelInfo, VisionInfo

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.machine.power import PowerMonitor, PowerSummary, find_power_source
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.ros.cv_bridge_decoder import CvBridgeDecoder
from compact_yolo_ros.ros.detector.backend_manager import BackendKeeper
from compact_yolo_ros.ros.detector.camera import Camera, CameraHandlers
from compact_yolo_ros.ros.detector.camera_names import camera_names
from compact_yolo_ros.ros.detector.governing import Governing
from compact_yolo_ros.ros.detector.settings import DetectorSettings
from compact_yolo_ros.ros.detector.worker import FrameWorker, WorkerHooks
from compact_yolo_ros.ros.diagnostics.health import (
    CameraState,
    Health,
    Level,
    NodeSituation,
    judge,
)
from compact_yolo_ros.ros.diagnostics.performance import PerformanceWriter
from compact_yolo_ros.ros.diagnostics.report import backend_facts, to_statuses
from compact_yolo_ros.ros.messages import class_ids, to_label_info, to_vision_info

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SWITCH_INTERVAL = 2e-4
"""Seconds a thread keeps Python to itself while another waits. With the usual 5 ms, an image that
has arrived would wait for the executor's bookkeeping longer than all the node's own work takes."""
FOLLOW_PERIOD = 0.25
"""Seconds between two looks at what the cameras' publishers offer."""

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

Transition = Callable[["DetectorNode", LifecycleState], TransitionCallbackReturn]


def _telling(transition: Transition) -> Transition:
    """Tell of an exception that nobody foresaw: rclpy calls ``on_error`` without a word of it."""

    @wraps(transition)
    def told(node: DetectorNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node._fail(f"{type(error).__name__}: {error}")
            raise

    return told


class DetectorNode(LifecycleNode):
    """Loads the model in configure, subscribes in activate, releases in cleanup.

    The executor's thread only stores the newest image of each camera; one ``FrameWorker`` answers
    them with one network.
    """

    def __init__(self, **options: Any) -> None:
        """Declare parameters and start /diagnostics; ``options`` go to ``rclpy.node.Node``."""
        super().__init__("detector", **options)
        self._settings = DetectorSettings(self)
        self._detector: Detector | None = None
        self._keeper: BackendKeeper | None = None
        self._governing: Governing | None = None
        self._worker: FrameWorker | None = None
        self._cameras: list[Camera] = []
        self._own_publishers: list[Any] = []
        self._power: PowerMonitor | None = None
        self._enabled = True
        self._failure = ""
        self._levels: dict[str, Level] = {}
        self._performance_writer = PerformanceWriter()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings.declare()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A steady clock: simulated time may stand still, and the node must still tell its state.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        period = self._value("diagnostics_period")
        self.create_timer(period, self._publish_diagnostics, clock=clock)
        self.create_timer(FOLLOW_PERIOD, self._follow_publishers, clock=clock)
        self.create_service(SetBool, "~/enable", self._on_enable)

    def start(self) -> None:
        """Configure and activate if ``autostart`` says so."""
        if not self._value("autostart"):
            self.get_logger().info("Waiting to be configured; autostart:=true does it at start.")
        elif self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Stop working and release the model; the node can then be destroyed."""
        self._stop()
        self._release()

    # Lifecycle

    @_telling
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            self._make_decoder()  # tells what is missing before anything is opened
            self._keeper = self._open_keeper()
            self._keeper.detector.selection = self._settings.selection(self._keeper.detector)
        except (ValueError, BackendError, ImportError) as error:
            self._close_keeper()
            return self._fail(str(error))
        self._failure = ""
        self._detector = self._keeper.detector
        self._governing = Governing(
            self._detector, self._settings.targets(), self._watts, self.get_logger().info
        )
        self._ids = class_ids(self._detector.card, self._value("class_id_format"))
        self._cameras = [
            self._make_camera(name, self._detector) for name in camera_names(self._value("cameras"))
        ]
        self._performance = self.create_lifecycle_publisher(DiagnosticArray, "~/performance", 10)
        self._label_info = self.create_publisher(LabelInfo, "~/label_info", LATCHED)
        self._vision_info = self.create_publisher(VisionInfo, "~/vision_info", LATCHED)
        self._own_publishers = [self._performance, self._label_info, self._vision_info]
        self._publish_info()
        opened = self._detector.opened
        backend = opened.backend
        self.get_logger().info(
            f"Model {self._detector.card.name}, {backend.precision}, input "
            f"{backend.input.shape[2]}x{backend.input.shape[1]}, on {backend.name} "
            f"({backend.device}, {backend.threads} threads); {opened.choice}"
        )
        if opened.warning:
            self.get_logger().warning(opened.warning)
            self._levels[""] = Level.WARN  # told now, so that _log_changes does not tell it again
        return super().on_configure(state)

    @_telling
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start answering."""
        assert self._detector and self._keeper and self._governing
        result = super().on_activate(state)
        self._worker = FrameWorker(
            self._detector,
            self._cameras,
            self._age,
            partial(self._value, "max_age"),
            WorkerHooks(self._governing.admits, self._on_answer, self._keeper.failed),
        )
        if self._enabled:
            self._open_cameras(self._worker)
        if self._value("power") == "auto":
            self._power = PowerMonitor(partial(find_power_source, on_gpu=self._keeper.wants_gpu))
        topics = ", ".join(camera.input.topic for camera in self._cameras)
        self.get_logger().info(f"Waiting for images on {topics}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the model stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model and the publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from any state."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self.close()
        return SUCCESS

    # Parameters

    def _value(self, name: str) -> Any:
        return self._settings.value(name)

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot be used, with the reason; the next image uses what is accepted."""
        changes = {parameter.name: parameter.value for parameter in parameters}
        try:
            self._settings.check(changes, loaded=self._detector is not None)
            if self._detector is not None:
                selection = self._settings.selection(self._detector, changes)
                self._detector.selection = selection
                ids = self._settings.value("class_id_format", changes)
                self._ids = class_ids(self._detector.card, ids)
                self._publish_info(selection.score_threshold)
                self._set_targets(self._settings.targets(changes))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _set_targets(self, targets: Targets) -> None:
        assert self._governing is not None and self._keeper is not None
        if targets == self._governing.targets:
            return
        self._keeper.use_sizes(self._settings.smaller_sizes() if targets else [])
        self._governing.targets = targets

    # Work

    def _open_keeper(self) -> BackendKeeper:
        log = self.get_logger()
        return BackendKeeper(
            self._settings.run_options(),
            lambda text: log.info(text),
            lambda text: log.warning(text),
        )

    def _make_decoder(self) -> Callable[[Any], DecodedImage]:
        wanted = self._value("image_decoder")
        decoder = CvBridgeDecoder() if wanted == "cv_bridge" else ImageDecoder()
        compressed = self._value("image_transport") == "compressed"
        return decoder.compressed if compressed else decoder.image

    def _make_camera(self, name: str, detector: Detector) -> Camera:
        handlers = CameraHandlers(
            decode=self._make_decoder(),
            ids=lambda: self._ids,
            classes=detector.card.classes,
            draws=partial(self._value, "debug_image"),
            answered=self._publish_performance,
        )
        return Camera(
            self, name, self._value("image_transport"), self._value("reliability"), handlers
        )

    def _open_cameras(self, worker: FrameWorker) -> None:
        for place, camera in enumerate(self._cameras):
            camera.open(partial(worker.submit, place))

    def _age(self, header: Header) -> float | None:
        stamp = header.stamp
        if stamp.sec == 0 and stamp.nanosec == 0:
            return None
        return self.get_clock().now().nanoseconds * 1e-9 - (stamp.sec + stamp.nanosec * 1e-9)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Stop or resume the subscriptions, so that a disabled node costs nothing."""
        self._enabled = request.data
        for camera in self._cameras:
            camera.close()
        if self._enabled and self._worker is not None:
            self._open_cameras(self._worker)
        response.success = True
        response.message = "enabled" if self._enabled else "disabled"
        return response

    def _on_answer(self, camera: object, times: FrameTimes) -> None:
        """Tell those who decide what comes next; runs in the worker's thread."""
        assert self._keeper is not None and self._governing is not None
        self._keeper.answered()
        self._governing.answered(camera, times)

    def _watts(self) -> float | None:
        power = self._power  # another thread may take it away
        return power.summary().watts if power else None

    def _follow_publishers(self) -> None:
        for camera in self._cameras:
            camera.input.follow_publishers()

    def _stop(self) -> None:
        for camera in self._cameras:
            camera.close()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self._power is not None:
            self._power.close()
            self._power = None

    def _release(self) -> None:
        """Give back what configure took; does nothing if nothing was taken."""
        for camera in self._cameras:
            camera.destroy()
        for publisher in self._own_publishers:
            self.destroy_publisher(publisher)
        self._cameras, self._own_publishers = [], []
        self._close_keeper()

    def _close_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
        self._keeper = self._governing = self._detector = None

    # Telling

    def _fail(self, sentence: str) -> TransitionCallbackReturn:
        self._failure = sentence
        self.get_logger().error(sentence)
        return FAILURE

    def _log_changes(self, health: Health, cameras: Mapping[str, CameraState]) -> None:
        """Tell those who do not watch /diagnostics that something is wrong, or well again."""
        apart = cameras and "" not in cameras
        told = {**health.cameras, "": health.shared if apart else health.node}
        for name, verdict in told.items():
            known = self._failure or (name in cameras and cameras[name].snapshot.recent_errors)
            if known or verdict.level == self._levels.get(name, Level.OK):
                continue  # a failure was logged as it came
            self._levels[name] = verdict.level
            sentence = f"{name}: {verdict.message}" if name else verdict.message
            if verdict.level == Level.OK:
                self.get_logger().info(sentence)
            else:  # not the same line as above: rclpy refuses another severity from it
                self.get_logger().warning(sentence)

    def _publish_info(self, threshold: float | None = None) -> None:
        assert self._detector is not None
        header = Header(stamp=self.get_clock().now().to_msg())
        card = self._detector.card
        if threshold is None:
            threshold = self._detector.selection.score_threshold
        self._label_info.publish(to_label_info(header, card, threshold))
        self._vision_info.publish(to_vision_info(header, card, self._label_info.topic_name))

    def _publish_performance(
        self, camera: str, header: Header, found: int, times: FrameTimes, dropped: int
    ) -> None:
        """Publish the figures of one answer if somebody listens; runs in the worker's thread."""
        if self._performance.get_subscription_count() == 0:
            return
        assert self._detector is not None
        message = self._performance_writer.write(
            header,
            camera or "camera",
            times,
            detections=found,
            dropped=dropped,
            backend=self._detector.backend,
            watts=self._watts(),
        )
        self._performance.publish(message)

    def _situation(self, power: PowerSummary | None) -> NodeSituation:
        loaded = "unconfigured" if self._detector is None else "inactive"
        return NodeSituation(
            state=loaded if self._worker is None else "active",
            enabled=self._enabled,
            failure=self._failure,
            warning=self._warning(power),
            throttling=(power.throttling or "") if power else "",
        )

    def _warning(self, power: PowerSummary | None) -> str:
        """What is not as asked, although it works; empty if all is."""
        if self._keeper is None or self._governing is None:
            return ""
        return self._keeper.warning or self._governing.warning(power)

    def _publish_diagnostics(self) -> None:
        power = self._power.summary() if self._power else None
        situation = self._situation(power)
        cameras = {
            camera.name: CameraState(camera.statistics.snapshot(), camera.situation())
            for camera in self._cameras
        }
        health = judge(situation, cameras)
        self._log_changes(health, cameras)
        facts: dict[str, object] = {"state": situation.state, "model": self._value("model")}
        device = ""
        if self._keeper is not None and self._governing is not None:
            device = self._keeper.detector.backend.device
            facts |= backend_facts(self._keeper.detector.opened)
            facts |= self._keeper.facts() | self._governing.facts()
        if power is not None:
            facts |= power.facts(sum(state.snapshot.fps_out for state in cameras.values()))
        message = DiagnosticArray(
            status=to_statuses(self.get_fully_qualified_name(), device, health, cameras, facts)
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def create_node() -> DetectorNode:
    """Build the node for a process of its own, started if ``autostart`` says so."""
    sys.setswitchinterval(SWITCH_INTERVAL)
    cv2.setNumThreads(1)  # resizing a frame is too little work to wake other threads for
    node = DetectorNode()
    node.start()
    return node
