# SPDX-License-Identifier: Apache-2.0
"""The services that set a node's parameters, with requests checked before rclpy sees them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter

TYPES = {kind.value for kind in Parameter.Type}
LONGEST = 4096
"""Letters of a text, and items of a list, that can be set: as many as a path of Linux has."""


def check_requests(node: Node, requests: Collection[str] = ()) -> None:
    """Let the services of a node refuse what rclpy cannot read, and take what changes nothing.

    rclpy raises on an unknown type, which would end the process; and it refuses to set a read-only
    parameter to the value that it has, so that what ``ros2 param dump`` wrote could not be loaded.

    Args:
        node: has the services.
        requests: parameters of which the node is told also when they are set to what they are:
            it may not have done yet what they ask for.
    """

    def set_each(request: Any, response: Any) -> Any:
        response.results = [_set(node, [parameter], requests) for parameter in request.parameters]
        return response

    def set_together(request: Any, response: Any) -> Any:
        response.result = _set(node, request.parameters, requests)
        return response

    callbacks = {SetParameters: set_each, SetParametersAtomically: set_together}
    for service in node.services:
        if service.srv_type in callbacks:
            service.callback = callbacks[service.srv_type]


def is_unchanged(node: Node, parameter: Parameter[Any]) -> bool:
    """Whether a parameter of a node has this value already."""
    if not node.has_parameter(parameter.name):
        return False
    new, old = _plain(parameter.value), _plain(node.get_parameter_or(parameter.name).value)
    return type(new) is type(old) and bool(new == old)


def _set(
    node: Node, messages: Sequence[ParameterMessage], requests: Collection[str]
) -> SetParametersResult:
    """Set parameters together, or none of them."""
    try:
        # Of several values for one name the last one counts, as in ROS, also if it is that of now.
        parameters = {message.name: _read(message) for message in messages}
        passed = [
            parameter
            for parameter in parameters.values()
            if parameter.name in requests or not is_unchanged(node, parameter)
        ]
        for parameter in passed:
            _check(node, parameter)
        return node.set_parameters_atomically(passed) if passed else _success()
    except (ValueError, TypeError) as error:
        return SetParametersResult(successful=False, reason=str(error))


def _read(message: ParameterMessage) -> Parameter[Any]:
    kind = message.value.type
    if kind not in TYPES:
        raise ValueError(
            f"{message.name[:80]} has the type {kind}, which ROS does not know: give one of those "
            "in rcl_interfaces/msg/ParameterType"
        )
    return Parameter.from_parameter_msg(message)


def _check(node: Node, parameter: Parameter[Any]) -> None:
    name, value = parameter.name, parameter.value
    if not node.has_parameter(name):  # rclpy would take one without a name
        raise ValueError(f"'{name[:80]}' is not a parameter of this node")
    if value is None:  # rclpy would forget the parameter
        raise ValueError(f"{name} cannot be removed: give it a value")
    if _length(value) > LONGEST:
        raise ValueError(f"{name} has more than {LONGEST} letters or items: give a shorter value")


def _length(value: Any) -> int:
    """Letters of a text; items of a list, or letters of the longest text in it."""
    if isinstance(value, str):
        return len(value)
    return max(len(value), *map(_length, value), 0) if hasattr(value, "__len__") else 0


def _success() -> SetParametersResult:
    return SetParametersResult(successful=True)


def _plain(value: Any) -> Any:
    """A value that can be compared; YAML's [] is no value to ROS, and [""] stands for it too."""
    if value is None or value == [""]:
        return []
    return value if isinstance(value, str | bool | int | float) else list(value)
