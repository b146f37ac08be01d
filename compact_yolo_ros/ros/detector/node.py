# SPDX-License-Identifier: Apache-2.0
"""The detector as a lifecycle node: images of cameras in, vision_msgs/Detection2DArray out.

This file has the node's states, parameters and services. The way of an image is in camera_input.py
(subscription), worker.py, ``Detector.detect`` and publishing.py.

What takes long to import and the opening of the network does without is imported where it is used
first: a node that starts by itself opens its network meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial, wraps
from threading import RLock
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.ros.detector.graph import missing_clock, namesakes, refusal
from compact_yolo_ros.ros.detector.leftovers import Leftovers
from compact_yolo_ros.ros.detector.opening import Opening
from compact_yolo_ros.ros.detector.parameter_table import DETECTOR_PARAMETERS
from compact_yolo_ros.ros.detector.parameters import RUN_PARAMETERS, check_changes
from compact_yolo_ros.ros.parameter_service import is_unchanged
from compact_yolo_ros.ros.parameters import NodeParameters
from compact_yolo_ros.support.error_text import printable
from compact_yolo_ros.support.periodic import Periodic

if TYPE_CHECKING:
    from compact_yolo_ros.machine.power import PowerSummary
    from compact_yolo_ros.ros.detector.activation import Activation
    from compact_yolo_ros.ros.detector.session import Session
    from compact_yolo_ros.ros.diagnostics.situations import (
        CameraState,
        Description,
        NodeSituation,
    )

SWITCH_INTERVAL = 2e-4
"""Seconds a thread keeps Python to itself while another waits. With the usual 5 ms, an image that
has arrived would wait for the executor's bookkeeping longer than all the node's own work takes."""

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

Transition = Callable[["DetectorNode", LifecycleState], TransitionCallbackReturn]


def _logging_errors(transition: Transition) -> Transition:
    """Log an unexpected exception: rclpy calls ``on_error`` without a word about it.

    Nothing is published on /diagnostics during the transition.
    """

    @wraps(transition)
    def logged(node: DetectorNode, state: LifecycleState) -> TransitionCallbackReturn:
        with node._changes:
            try:
                result = transition(node, state)
            except Exception as error:
                node._fail(f"{type(error).__name__}: {error}")
                raise
            if result == SUCCESS:
                node._failure = ""
            return result

    return logged


class DetectorNode(LifecycleNode):
    """Loads the model in configure, subscribes in activate, releases in cleanup.

    A ``Receiver`` only stores the newest image of each camera; one ``FrameWorker`` processes them
    with one network. /diagnostics has a thread of its own: to wake the executor, which then
    looks at each service, takes more time than the message. ``_changes`` is held by whatever
    changes what that thread reads, and by that thread.
    """

    def __init__(self, **options: Any) -> None:
        """Declare parameters and start /diagnostics; ``options`` go to ``rclpy.node.Node``."""
        super().__init__("detector", **options)
        self._session: Session | None = None
        self._activation: Activation | None = None
        self._enabled = True
        self._is_finalized = False
        self._failure = ""
        self._changes = RLock()
        self._reports: Periodic | None = None
        self._leftovers = Leftovers(self.get_logger())
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._own_parameters = NodeParameters(self, DETECTOR_PARAMETERS, requests=RUN_PARAMETERS)
        self._opening: Opening | None = None
        if self.get_parameter("autostart").value:
            self._opening = Opening(self._own_parameters.values())
        from compact_yolo_ros.ros.detector.topics import DIAGNOSTICS, ENABLE
        from compact_yolo_ros.ros.diagnostics.publisher import DiagnosticsPublisher

        self._diagnostics = DiagnosticsPublisher(self, DIAGNOSTICS.create(self))
        self.create_service(SetBool, ENABLE.name, self._on_enable)
        # Not in ROS time: that may stand still, and the node must still report its state.
        period = self.get_parameter("diagnostics_period").value
        self._reports = Periodic(period, self._report, "diagnostics")

    def start(self) -> None:
        """Configure and activate if ``autostart`` says so."""
        if not self.get_parameter("autostart").value:
            self.get_logger().info("Waiting to be configured; autostart:=true does it at start.")
        elif self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Stop working and release the model; the node can then be destroyed."""
        with self._changes:
            self._deactivate()
            if self._opening is not None:
                opening, self._opening = self._opening, None
                opening.discard()
            if self._session is not None:
                session, self._session = self._session, None
                session.close()

    def destroy_node(self) -> None:
        """End /diagnostics, and remove what rclpy has for the node."""
        if self._reports is not None:
            self._reports.stop()
        super().destroy_node()

    # Lifecycle

    @_logging_errors
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        try:
            from compact_yolo_ros.ros.detector.session import Session

            opening = self._opening_with(self._own_parameters.values())
            self._session = Session(self, opening, self._leftovers)
        except (ValueError, BackendError, ImportError) as error:
            return self._fail(str(error))
        self.get_logger().info(self._session.summary())
        if warning := self._session.opened.warning:
            self.get_logger().warning(warning)
        return super().on_configure(state)

    @_logging_errors
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the cameras and start processing."""
        from compact_yolo_ros.ros.detector.activation import Activation
        from compact_yolo_ros.ros.detector.worker import DetectorBusyError

        assert self._session is not None  # rclpy activates a configured node only
        result = super().on_activate(state)
        try:
            self._activation = Activation(
                self, self._session, self._own_parameters.values(), enabled=self._enabled
            )
        except DetectorBusyError as error:
            super().on_deactivate(state)
            return self._fail(str(error))
        topics = ", ".join(camera.input.topic for camera in self._session.cameras)
        self.get_logger().info(f"Waiting for images on {topics}")
        return result

    @_logging_errors
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the model stays loaded."""
        self._deactivate()
        return super().on_deactivate(state)

    @_logging_errors
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the model and the publishers."""
        self.close()
        return super().on_cleanup(state)

    @_logging_errors
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from any state."""
        self.close()
        self._is_finalized = True
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self.close()
        return SUCCESS

    def _opening_with(self, values: Mapping[str, Any]) -> Opening:
        """What opens since the start, unless parameters have changed since; else begin now."""
        opening, self._opening = self._opening, None
        if opening is not None and opening.values != values:
            opening.discard()
            opening = None
        return opening or Opening(values)

    def _deactivate(self) -> None:
        if self._activation is not None:
            activation, self._activation = self._activation, None
            activation.close()

    def _fail(self, sentence: str) -> TransitionCallbackReturn:
        self._failure = sentence
        self.get_logger().error(sentence)
        return FAILURE

    # Parameters and services

    def _on_set_parameters(self, parameters: list[Parameter[Any]]) -> SetParametersResult:
        """Refuse what cannot be used, with the reason; the next image uses what is accepted."""
        names = {parameter.name for parameter in parameters}
        changes = {
            parameter.name: parameter.value
            for parameter in parameters
            if not is_unchanged(self, parameter)
        }
        try:
            with self._changes:
                check_changes(changes, loaded=self._session is not None)
                if self._session is not None:
                    self._session.apply(self._own_parameters.values(changes), names)
        except (ValueError, BackendError) as error:
            if self._session is not None and names & set(RUN_PARAMETERS):
                self.get_logger().warning(f"The model stays as it is: {error}")
            return SetParametersResult(successful=False, reason=printable(str(error)))
        except RuntimeError as error:  # rclpy's RCLError
            return SetParametersResult(successful=False, reason=refusal(error))
        return SetParametersResult(successful=True)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Stop or resume the subscriptions, so that a disabled node costs nothing."""
        with self._changes:
            try:
                if self._activation is not None:
                    self._activation.enable(request.data)
                self._enabled, refused = request.data, ""
            except RuntimeError as error:  # rclpy's RCLError
                self._enabled, refused = False, refusal(error)
        response.success = not refused
        response.message = refused or ("enabled" if self._enabled else "disabled")
        return response

    # /diagnostics

    def _report(self) -> None:
        try:
            with self._changes:
                self._publish_diagnostics()
        except Exception as error:
            if self.context.ok():  # else ROS was shut down before the node
                sentence = f"/diagnostics is not published: {type(error).__name__}: {error}"
                self.get_logger().error(sentence, once=True)

    def _publish_diagnostics(self) -> None:
        power = self._activation.power() if self._activation else None
        cameras = self._session.camera_states() if self._session else {}
        describe = partial(self._describe, cameras, power)
        self._diagnostics.publish(self._situation(power), cameras, describe)

    def _describe(
        self, cameras: Mapping[str, CameraState], power: PowerSummary | None
    ) -> Description:
        """What the node is, does and runs on."""
        from compact_yolo_ros.ros.diagnostics.situations import Description

        session = self._session
        facts = {"state": self._state(), "model": self.get_parameter("model").value}
        if session is not None:
            facts |= session.facts()
        if power is not None:
            facts |= power.facts(sum(state.snapshot.fps_out for state in cameras.values()))
        return Description(session.opened.backend.device if session else "", facts)

    def _situation(self, power: PowerSummary | None) -> NodeSituation:
        from compact_yolo_ros.ros.diagnostics.situations import NodeSituation

        session, activation = self._session, self._activation
        unmet = session.control.warning(power) if session and activation else ""
        unsent = session.performance.unsent.problem if session else ""
        concerns = (namesakes(self), missing_clock(self), unmet, unsent)
        return NodeSituation(
            state=self._state(),
            enabled=self._enabled,
            failure=self._failure,
            warning=session.backends.warning if session else "",
            leftover=self._leftovers.warning(),
            concerns=tuple(filter(None, concerns)),
            throttling=(power.throttling or "") if power else "",
            work=activation.work() if activation else None,
        )

    def _state(self) -> str:
        if self._is_finalized:
            return "finalized"
        loaded = "unconfigured" if self._session is None else "inactive"
        return loaded if self._activation is None else "active"


def create_node() -> DetectorNode:
    """Build the node for a process of its own, started if ``autostart`` says so."""
    # OpenVINO does without the converter of models, which takes longer to load than all the rest.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    node = DetectorNode()
    import cv2

    cv2.setNumThreads(1)  # resizing a frame is too little work to wake other threads for
    node.start()
    sys.setswitchinterval(SWITCH_INTERVAL)  # not before: a start imports in two threads
    return node
