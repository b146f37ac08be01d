# SPDX-License-Identifier: Apache-2.0
"""Describing, declaring and checking a node's parameters from one table."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

Value = bool | int | float | str | list[str] | list[int]


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter: what ``ros2 param describe`` shows, and what the README's table says.

    Attributes:
        name: parameter name.
        default: value, which also fixes the type.
        description: one sentence.
        low, high: inclusive range of a number.
        step: the number is ``low`` plus a multiple of it; 0 is any.
        choices: the only texts allowed; empty is any.
        changes: ``any time``; ``unconfigured``: only before the node is configured; or ``never``:
            only at start.
        untyped: a value of another type is taken too, where YAML reads one into a text.
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
            dynamic_typing=self.untyped or isinstance(self.default, list | float),
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
        """The value to work with: floats for whole numbers, arrays as lists."""
        if isinstance(self.default, float):
            return float(value)
        return list(value) if isinstance(self.default, list) else value

    def refusal(self, value: Any) -> str:
        """Why ``value`` cannot be taken, in one sentence; empty if it can.

        ROS itself checks fixed types and the ranges of integers.
        """
        if isinstance(self.default, float) and not self._is_in_range(value):
            low, high = self._range()
            return f"{self.name} is {value}: give a number from {low:g} to {high:g}"
        if self.choices and value not in self.choices:
            return f"{self.name} '{value}' is not known: give one of {', '.join(self.choices)}"
        if isinstance(self.default, list):
            return self._list_refusal(self.default, value)
        return ""

    def _list_refusal(self, default: list[Any], value: Any) -> str:
        kind, what = (int, "whole numbers") if type(default[0]) is int else (str, "texts")
        given = isinstance(value, list | array) and all(type(item) is kind for item in value)
        example = default if kind is int else ["a", "b"]
        return "" if given else f"{self.name} must be a list of {what}, for example {example}"

    def _is_in_range(self, value: Any) -> bool:
        low, high = self._range()
        return isinstance(value, int | float) and type(value) is not bool and low <= value <= high

    def _range(self) -> tuple[float, float]:
        return (
            -inf if self.low is None else self.low,
            inf if self.high is None else self.high,
        )


def declare(node: Node, specs: Sequence[ParameterSpec]) -> None:
    """Declare parameters on ``node``; values given on the command line or in a file come first."""
    for spec in specs:
        node.declare_parameter(spec.name, spec.default, spec.descriptor())


def declared_values(node: Node, specs: Sequence[ParameterSpec]) -> dict[str, Any]:
    """Declare parameters that a node reads only once, and return their values by name.

    Raises:
        ValueError: a value cannot be taken; the sentence says why.
    """
    declare(node, specs)
    values: dict[str, Any] = {}
    for spec in specs:
        value: Any = node.get_parameter(spec.name).value
        if refusal := spec.refusal(value):
            raise ValueError(refusal)
        values[spec.name] = spec.read(value)
    return values
