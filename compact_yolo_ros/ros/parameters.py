# SPDX-License-Identifier: Apache-2.0
"""A node's parameters from one table: described, declared, checked and read."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from compact_yolo_ros.ros.parameter_service import check_requests
from compact_yolo_ros.support.error_text import shortened

Value = bool | int | float | str | list[str] | list[int]
NO_CHANGES: Mapping[str, Any] = {}
OFF = "off"
ALIKE = 0.7
"""From this likeness on, by ``difflib``, one name is taken for another one with a mistake."""


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: what ``ros2 param describe`` shows, and what the table in docs/node.md says.

    Attributes:
        name: parameter name.
        default: value, which also fixes the type.
        description: one sentence.
        low, high: inclusive range of a number.
        step: the number is ``low`` plus a multiple of it; 0 is any.
        choices: the only texts allowed; empty is any. YAML reads ``off`` as false, which is taken
            for it.
        changes: ``any time``; ``unconfigured``: only before the node is configured; or ``never``:
            only at start.
        untyped: values of other types are accepted too, because YAML reads some texts as numbers;
            of a list, a single item.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    step: int = 0
    choices: tuple[str, ...] = ()
    changes: Literal["any time", "unconfigured", "never"] = "any time"
    untyped: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Describe it to ROS."""
        constraints = f"one of: {', '.join(self.choices)}" if self.choices else ""
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints=constraints,
            read_only=self.changes == "never",
            # rclpy takes an empty list for one of bytes, and YAML reads max_age: 1 as an integer:
            # the type of these two is checked here.
            dynamic_typing=self.untyped
            or isinstance(self.default, list | float)
            or OFF in self.choices,
        )
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high), step=self.step)
                ]
        return descriptor

    def read(self, value: Any) -> Any:
        """The value to use: whole numbers as floats where the default is one, arrays as lists.

        A list is empty if it is given as [] in YAML, which is no value to ROS, or as [""].
        """
        if value is False and OFF in self.choices:
            return OFF
        if isinstance(self.default, float):
            return float(value)
        if isinstance(self.default, list):
            if self._is_item(value):
                return [value]
            return [] if value is None or list(value) == [""] else list(value)
        return value

    def check(self, value: Any) -> None:
        """Raise ValueError, with one sentence, if ``value`` cannot be used.

        ROS itself checks fixed types and the ranges of integers.
        """
        if isinstance(self.default, list):
            self._check_list(self.default, value)
        elif value is None:
            raise ValueError(f"{self.name} has no value: give one, or leave it out")
        elif isinstance(self.default, float) and not self._is_in_range(value):
            low, high = self._range()
            raise ValueError(
                f"{self.name} is {shortened(value)}: give a number from {low:g} to {high:g}"
            )
        if self.choices and self.read(value) not in self.choices:
            known = ", ".join(self.choices)
            raise ValueError(f"{self.name} '{shortened(value)}' is not known: give one of {known}")

    def _check_list(self, default: list[Any], value: Any) -> None:
        kind, what = (int, "whole numbers") if type(default[0]) is int else (str, "texts")
        if value is None or self._is_item(value):
            return
        if not isinstance(value, list | array) or any(type(item) is not kind for item in value):
            example = default if kind is int else ["a", "b"]
            raise ValueError(f"{self.name} must be a list of {what}, for example {example}")

    def _is_item(self, value: Any) -> bool:
        """Whether a value stands for a list of that one item."""
        items = self.default if isinstance(self.default, list) else []
        return self.untyped and bool(items) and type(value) is type(items[0])

    def _is_in_range(self, value: Any) -> bool:
        low, high = self._range()
        return isinstance(value, int | float) and type(value) is not bool and low <= value <= high

    def _range(self) -> tuple[float, float]:
        return (
            -inf if self.low is None else self.low,
            inf if self.high is None else self.high,
        )


class NodeParameters:
    """The parameters of a node, declared from a table and read as plain values."""

    def __init__(
        self, node: Node, specs: Sequence[ParameterSpec], requests: Collection[str] = ()
    ) -> None:
        """Declare ``specs``; values from the command line or a file replace the defaults.

        From then on the node's services for parameters refuse what cannot be a value. Values given
        for a name with a mistake, which ROS passes over without a word, get a warning.

        Args:
            node: has the parameters.
            specs: of these.
            requests: see ``check_requests``.
        """
        self._node = node
        self._specs = specs
        for spec in specs:
            node.declare_parameter(spec.name, spec.default, spec.descriptor())
        check_requests(node, requests)
        for sentence in _misspelt(node, [spec.name for spec in specs]):
            node.get_logger().warning(sentence)

    def values(self, changes: Mapping[str, Any] = NO_CHANGES) -> dict[str, Any]:
        """All values by name, with ``changes`` that the node has not taken yet."""
        return {
            spec.name: spec.read(
                changes[spec.name] if spec.name in changes else self._value(spec.name)
            )
            for spec in self._specs
        }

    def checked_values(self) -> dict[str, Any]:
        """All values by name, for a node that reads them only once.

        Raises:
            ValueError: a value cannot be used; the sentence says why.
        """
        for spec in self._specs:
            spec.check(self._value(spec.name))
        return self.values()

    def _value(self, name: str) -> Any:
        """As ROS has it; None if a file gives no value."""
        return self._node.get_parameter_or(name).value


def _misspelt(node: Node, names: Sequence[str]) -> list[str]:
    """A sentence for each value that was given for a name that resembles one of ``names``.

    Others are left alone: a file may be for several nodes.
    """
    given: Collection[str] = getattr(node, "_parameter_overrides", ())  # nothing public has it
    unknown = [name for name in given if not node.has_parameter(name)]
    if not unknown:
        return []
    from difflib import get_close_matches  # a start does without, as far as it can

    found = []
    for name in unknown:
        close = get_close_matches(name.lower(), names, 1, ALIKE)
        if close:
            found.append(
                f"{shortened(name)}, given by a file or the command line, is not a parameter of "
                f"this node and has no effect: {close[0]} is one"
            )
    return found
