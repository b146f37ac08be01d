# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to and from the plain values of JSON, typed in both directions.

A dataclass or a NamedTuple is an object, with the names of its fields as keys, or those that
``Annotated[type, JsonKey("another name")]`` gives; a tuple is a list; nan is null. The content of
a file is bounded before, see ``document``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from compact_yolo_ros.support.error_text import shortened

T = TypeVar("T")

_EXPECTED = {int: "a whole number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class JsonKey:
    """Annotates a field with the name that it has in JSON."""

    name: str


def json_keys(kind: Any) -> dict[str, str]:
    """The JSON key of each field of a dataclass or NamedTuple, in their order."""
    return {
        name: next((m.name for m in get_args(hint)[1:] if isinstance(m, JsonKey)), name)
        if get_origin(hint) is Annotated
        else name
        for name, hint in _types(kind, with_keys=True).items()
    }


def to_plain(value: Any) -> Any:
    """Convert a value for JSON."""
    if hasattr(value, "_asdict") or (is_dataclass(value) and not isinstance(value, type)):
        keys = json_keys(type(value))
        return {key: to_plain(getattr(value, name)) for name, key in keys.items()}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def from_plain(kind: type[T], value: Any) -> T:
    """Read what ``to_plain`` wrote; keys that are not known are left out.

    Args:
        kind: the dataclass.
        value: from JSON.

    Raises:
        ValueError: the value is something else; the sentence names the place.
    """
    result: T = _read(kind, value, "")
    return result


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _read_union(arguments, value, place)
    if kind is float:
        # A whole number stays one, so that it is written again as it was.
        return math.nan if value is None else _checked((int, float), value, place, "a number")
    if kind in _EXPECTED:
        return _checked(kind, value, place, _EXPECTED[kind])
    if origin is Literal:
        return _choice(arguments, value, place)
    if origin in (tuple, list):
        return origin(_items(arguments, _checked(list, value, place, "a list"), place))
    content = _checked(dict, value, place, "an object")
    if origin in (dict, Mapping):
        return {
            _checked(str, key, _inside(place, key), "a text"): _read(
                arguments[1], item, _inside(place, key)
            )
            for key, item in content.items()
        }
    return kind(**_arguments(kind, content, place))


def _read_union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """Read None, a number or an object, which are told apart by what they are in JSON."""
    if value is None and NoneType in kinds:
        return None
    inner = [kind for kind in kinds if kind is not NoneType]
    objects = [kind for kind in inner if kind not in _EXPECTED]
    return _read((objects if isinstance(value, dict) and objects else inner)[0], value, place)


def _choice(choices: tuple[Any, ...], value: Any, place: str) -> Any:
    if value not in choices:
        listed = " or ".join(f"'{choice}'" for choice in choices)
        raise ValueError(f"{place} is not {listed}")
    return value


def _items(kinds: tuple[Any, ...], items: list[Any], place: str) -> Iterator[Any]:
    """Read the items of a list, which has one kind for all or one for each."""
    if len(kinds) == 1 or kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    elif len(items) != len(kinds):
        raise ValueError(f"{place} has {len(items)} values, not {len(kinds)}")
    for n, (kind, item) in enumerate(zip(kinds, items, strict=True)):
        yield _read(kind, item, f"{place}[{n}]")


def _inside(place: str, key: object) -> str:
    """The place of a key's value."""
    return f"{place}.{shortened(key)}" if place else shortened(key)


def _arguments(kind: Any, content: Mapping[str, Any], place: str) -> dict[str, Any]:
    types, optional, found = _types(kind, with_keys=False), _optional(kind), {}
    for name, key in json_keys(kind).items():
        if key in content:
            found[name] = _read(types[name], content[key], _inside(place, key))
        elif name not in optional:
            raise ValueError(f"{place or 'it'} has no '{key}'")
    return found


@cache
def _types(kind: Any, with_keys: bool) -> Mapping[str, Any]:
    """The type of each field: to find it takes longest, and most kinds are read many times."""
    return get_type_hints(kind, include_extras=with_keys)


def _optional(kind: Any) -> set[str]:
    """Names of the fields with a default."""
    if not is_dataclass(kind):
        return set(kind._field_defaults)
    return {
        field.name
        for field in fields(kind)
        if field.default is not MISSING or field.default_factory is not MISSING
    }


def _checked(kinds: Any, value: Any, place: str, expected: str) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise ValueError(f"{place or 'it'} is not {expected}")
    return value
