# SPDX-License-Identifier: Apache-2.0
"""Dataclasses come back from JSON as they were, or with one sentence on what is wrong."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from compact_yolo_ros.support.plain_values import JsonKey, from_plain, to_plain


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True)
class Inner:
    ap: Annotated[float, JsonKey("AP small")]


@dataclass(frozen=True)
class Outer:
    name: str
    at: Point
    by_class: dict[str, Inner]
    values: tuple[float, ...]
    nested: tuple[tuple[int, ...], ...]
    maybe: Inner | None
    pairs: tuple[tuple[float, str], ...]
    side: Literal["left", "right"]
    facts: dict[str, Any]
    done: bool = True


VALUE = Outer(
    name="a",
    at=Point(1, 2),
    by_class={"b": Inner(0.5)},
    values=(1.0, 2.0),
    nested=((1,), (2, 3)),
    maybe=None,
    pairs=((1.0, "a"),),
    side="left",
    facts={"k": [1]},
)


def test_a_value_comes_back() -> None:
    text = json.dumps(to_plain(VALUE), allow_nan=False)
    assert json.loads(text)["by_class"] == {"b": {"AP small": 0.5}}
    assert from_plain(Outer, json.loads(text)) == VALUE


def test_nan_is_null() -> None:
    assert to_plain(Inner(math.nan)) == {"AP small": None}
    assert math.isnan(from_plain(Inner, {"AP small": None}).ap)


def test_other_keys_and_defaults_are_no_error() -> None:
    content = to_plain(VALUE) | {"of a later version": 1}
    del content["done"], content["at"]["y"]
    assert from_plain(Outer, content).at == Point(1, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": 1}, "name is not a text"),
        ({"at": [1, 2]}, "at is not an object"),
        ({"at": {"x": True}}, "at.x is not a whole number"),
        ({"by_class": {"b": {}}}, "by_class.b has no 'AP small'"),
        ({"values": [1, "x"]}, r"values\[1\] is not a number"),
        ({"nested": 3}, "nested is not a list"),
        ({"done": 1}, "done is not true or false"),
        ({"pairs": [[1.0]]}, r"pairs\[0\] has 1 values, not 2"),
        ({"pairs": [[1.0, "a", "b"]]}, r"pairs\[0\] has 3 values, not 2"),
        ({"pairs": [["a", 1.0]]}, r"pairs\[0\]\[0\] is not a number"),
        ({"by_class": {1: {"AP small": 1.0}}}, "by_class.1 is not a text"),
        ({"side": "up"}, "side is not 'left' or 'right'"),
        ({"side": ["left"]}, "side is not 'left' or 'right'"),
        ({"by_class": {"b" * 999: 1}}, f"by_class.{'b' * 50}...{'b' * 50} is not an object"),
    ],
)
def test_something_else_is_one_sentence(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        from_plain(Outer, to_plain(VALUE) | change)
    with pytest.raises(ValueError, match="^it is not an object$"):
        from_plain(Outer, [])
