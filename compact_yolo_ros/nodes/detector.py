# SPDX-License-Identifier: Apache-2.0
"""The detector as a lifecycle node: camera images in, vision_msgs/Detection2DArray out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray, LabelInfo, VisionInfo

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.cv_bridge_decoder import CvBridgeDecoder
from compact_yolo_ros.detections import Detections
from compact_yolo_ros.detector import Detector
from compact_yolo_ros.diagnostics.health import Level, Situation, Verdict, judge
from compact_yolo_ros.diagnostics.power import PowerMonitor, PowerSummary, find_power_source
from compact_yolo_ros.diagnostics.report import to_diagnostic_array
from compact_yolo_ros.diagnostics.statistics import FrameStatistics
from compact_yolo_ros.images import ImageDecoder, Picture
from compact_yolo_ros.messages import (
    DetectionArrayWriter,
    class_ids,
    to_debug_image,
    to_label_info,
    to_vision_info,
)
from compact_yolo_ros.model_card import check_input_size
from compact_yolo_ros.nodes.camera_input import CameraInput
from compact_yolo_ros.nodes.detector_parameters import DETECTOR_PARAMETERS
from compact_yolo_ros.nodes.engine_upgrade import EngineUpgrade, open_now
from compact_yolo_ros.nodes.frame_worker import FrameHandlers, FrameWorker
from compact_yolo_ros.nodes.parameters import declare
from compact_yolo_ros.suppression import Selection

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FOLLOW_PERIOD = 0.25
"""Seconds between two looks at what the camera's publishers offer."""

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class DetectorNode(LifecycleNode):
    """Loads the model in configure, subscribes in activate, releases in cleanup.

    The executor's thread only stores the newest image; a ``FrameWorker`` answers it.
    """

    def __init__(self, **options: Any) -> None:
        """Declare parameters and start /diagnostics; ``options`` go to ``rclpy.node.Node``."""
        super().__init__("detector", **options)
        self._specs = {spec.name: spec for spec in DETECTOR_PARAMETERS}
        self._detector: Detector | None = None
        self._upgrade: EngineUpgrade | None = None
        self._worker: FrameWorker | None = None
        self._camera: CameraInput | None = None
        self._power: PowerMonitor | None = None
        self._enabled = True
        self._failure = ""
        self._level = Level.OK
        self._statistics = FrameStatistics()
        self._writer = DetectionArrayWriter()
        self.add_on_set_parameters_callback(self._on_set_parameters)
        declare(self, DETECTOR_PARAMETERS)
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

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            self._decode = self._make_decoder()
            self._detector = self._open_detector()
        except (ValueError, BackendError, ImportError) as error:
            return self._fail(str(error))
        self._failure = ""
        self._ids = class_ids(self._detector.card, self._value("class_id_format"))
        self._answers = self.create_lifecycle_publisher(Detection2DArray, "~/detections", 10)
        self._pictures = self.create_lifecycle_publisher(Image, "~/debug_image", 1)
        self._label_info = self.create_publisher(LabelInfo, "~/label_info", LATCHED)
        self._vision_info = self.create_publisher(VisionInfo, "~/vision_info", LATCHED)
        self._publish_info()
        backend = self._detector.backend
        self.get_logger().info(
            f"Model {self._detector.card.name}, {backend.precision}, input "
            f"{backend.input.shape[2]}x{backend.input.shape[1]}, on {backend.name} "
            f"({backend.device}, {backend.threads} threads); {backend.choice}"
        )
        if backend.warning:
            self.get_logger().warning(backend.warning)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start answering."""
        assert self._detector is not None
        result = super().on_activate(state)
        self._statistics.reset()
        handlers = FrameHandlers(
            decode=self._decode,
            publish=self._publish,
            age=self._age,
            max_age=partial(self._value, "max_age"),
            failed=self._on_failure,
        )
        self._worker = FrameWorker(self._detector, handlers, self._statistics)
        self._camera = CameraInput(
            self,
            self._value("image_transport"),
            self._value("reliability"),
            self._worker.submit,
        )
        if self._enabled:
            self._camera.open()
        if self._value("power") == "auto":
            on_gpu = self._detector.backend.name == "tensorrt" or self._upgrade is not None
            self._power = PowerMonitor(partial(find_power_source, on_gpu=on_gpu))
        self.get_logger().info(f"Waiting for images on {self._camera.topic}")
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
        return self._specs[name].read(self.get_parameter(name).value)

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot be used, with the reason; the next image uses what is accepted."""
        given = {p.name: p.value for p in parameters if p.name in self._specs}
        try:
            for name, value in given.items():
                self._check_change(name, value)
            changes = {name: self._specs[name].read(value) for name, value in given.items()}
            if self._detector is not None:
                selection = self._selection(self._detector, changes)
                self._detector.selection = selection
                self._ids = class_ids(
                    self._detector.card,
                    changes.get("class_id_format", self._value("class_id_format")),
                )
                self._publish_info(selection.score_threshold)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check_change(self, name: str, value: Any) -> None:
        spec = self._specs[name]
        if refusal := spec.refusal(value):
            raise ValueError(refusal)
        if name == "input_size" and value:
            check_input_size(value)
        if self._detector is not None and spec.changes == "unconfigured":
            raise ValueError(
                f"{name} cannot change while a model is loaded: "
                "deactivate and clean up the node first"
            )

    def _selection(self, detector: Detector, changes: dict[str, Any]) -> Selection:
        """What the parameters ask for, with some values about to change."""

        def value(name: str) -> Any:
            return changes[name] if name in changes else self._value(name)

        return Selection(
            score_threshold=value("score_threshold"),
            iou_threshold=value("iou_threshold"),
            max_detections=value("max_detections"),
            labels=detector.labels_of([name for name in value("classes") if name]),
        )

    # Work

    def _open_detector(self) -> Detector:
        model, side = self._value("model"), self._value("input_size")
        options = {
            "backend": self._value("backend"),
            "precision": self._value("precision"),
            "input_size": (side, side) if side else None,
            "threads": self._value("cpu_threads"),
            "dla_core": self._value("dla_core"),
            "engine_cache": self._value("engine_cache"),
        }
        detector, missing = open_now(model, options)
        detector.selection = self._selection(detector, {})
        if missing:
            log = self.get_logger().info
            log(f"{missing}: building it in the background, on the CPU until then")
            self._upgrade = EngineUpgrade(detector, model, options, log)
        return detector

    def _make_decoder(self) -> Callable[[Any], Picture]:
        wanted = self._value("image_decoder")
        decoder = CvBridgeDecoder() if wanted == "cv_bridge" else ImageDecoder()
        compressed = self._value("image_transport") == "compressed"
        return decoder.compressed if compressed else decoder.image

    def _age(self, header: Header) -> float | None:
        stamp = header.stamp
        if stamp.sec == 0 and stamp.nanosec == 0:
            return None
        return self.get_clock().now().nanoseconds * 1e-9 - (stamp.sec + stamp.nanosec * 1e-9)

    def _publish(self, header: Header, detections: Detections, picture: Picture) -> None:
        """Publish one answer; runs in the worker's thread."""
        assert self._detector is not None
        self._answers.publish(self._writer.write(header, detections, self._ids))
        if self._value("debug_image") and self._pictures.get_subscription_count() > 0:
            classes = self._detector.card.classes
            self._pictures.publish(to_debug_image(header, picture, detections, classes))

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Stop or resume the subscription, so that a disabled node costs nothing."""
        self._enabled = request.data
        if self._camera is not None:
            self._camera.close()
            if self._enabled:
                self._statistics.reset()
                self._camera.open()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled"
        return response

    def _follow_publishers(self) -> None:
        if self._camera is not None:
            self._camera.follow_publishers()

    def _stop(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
        if self._power is not None:
            self._power.close()
            self._power = None

    def _release(self) -> None:
        """Give back what configure took; does nothing if nothing was taken."""
        if self._upgrade is not None:
            self._upgrade.cancel()
            self._upgrade = None
        if self._detector is None:
            return
        for publisher in (self._answers, self._pictures, self._label_info, self._vision_info):
            self.destroy_publisher(publisher)
        self._detector.close()
        self._detector = None

    # Telling

    def _fail(self, sentence: str) -> TransitionCallbackReturn:
        self._failure = sentence
        self.get_logger().error(sentence)
        return FAILURE

    def _on_failure(self, kind: str, sentence: str) -> None:
        """Count a failure; log only the first of its kind, a bad camera would flood the log."""
        if self._statistics.error(kind, sentence):
            self.get_logger().error(f"{sentence} (further ones are counted in /diagnostics)")

    def _log_change(self, verdict: Verdict) -> None:
        """Tell those who do not watch /diagnostics that something is wrong, or well again."""
        if verdict.level == self._level:
            return
        self._level = verdict.level
        if verdict.level == Level.OK:
            self.get_logger().info(verdict.message)
        else:
            self.get_logger().warning(verdict.message)

    def _publish_info(self, threshold: float | None = None) -> None:
        assert self._detector is not None
        header = Header(stamp=self.get_clock().now().to_msg())
        card = self._detector.card
        if threshold is None:
            threshold = self._detector.selection.score_threshold
        self._label_info.publish(to_label_info(header, card, threshold))
        self._vision_info.publish(to_vision_info(header, card, self._label_info.topic_name))

    def _situation(self, power: PowerSummary | None) -> Situation:
        camera = self._camera
        loaded = "unconfigured" if self._detector is None else "inactive"
        return Situation(
            state=loaded if camera is None else "active",
            enabled=self._enabled,
            failure=self._failure,
            topic=camera.topic if camera else "",
            publishers=camera.publisher_count() if camera else 0,
            incompatible_qos=camera.incompatible_qos if camera else False,
            warning=self._warning(),
            throttling=(power.throttling or "") if power else "",
        )

    def _warning(self) -> str:
        """What is not as asked about the runtime; empty if all is."""
        if self._detector is None:
            return ""
        return self._detector.backend.warning or (self._upgrade.warning if self._upgrade else "")

    def _publish_diagnostics(self) -> None:
        power = self._power.summary() if self._power else None
        snapshot, situation = self._statistics.snapshot(), self._situation(power)
        verdict = judge(snapshot, situation)
        if not (situation.failure or snapshot.recent_errors):  # these were logged as they came
            self._log_change(verdict)
        facts: dict[str, object] = {"state": situation.state, "model": self._value("model")}
        device = ""
        if self._detector is not None:
            backend = self._detector.backend
            device = backend.device
            height, width = backend.input.shape[1:3]
            facts |= {
                "backend": backend.name,
                "device": device,
                "precision": backend.precision,
                "input_size": f"{width}x{height}",
                "threads": backend.threads,
                "backend_choice": backend.choice,
                **{f"{part}_ms": f"{1e3 * t:.3f}" for part, t in backend.device_times.items()},
            }
        if self._upgrade is not None:
            facts["engine_build"] = self._upgrade.state
        if self._camera is not None:
            facts |= {
                "image_topic": situation.topic,
                "image_publishers": situation.publishers,
                "image_reliability": self._camera.reliability.name.lower(),
            }
        if power is not None:
            facts |= power.facts(snapshot.fps_out)
        self._diagnostics.publish(
            to_diagnostic_array(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                device,
                verdict,
                snapshot,
                facts,
            )
        )


def create_node() -> DetectorNode:
    """Build the node, started if ``autostart`` says so."""
    cv2.setNumThreads(1)  # resizing a frame is too little work to wake other threads for
    node = DetectorNode()
    node.start()
    return node
