# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses of settings: from plain values of YAML files, and back.

Every error is a ValueError of one sentence that names the key by its path, as
``phases.0.epochs must be a whole number, not 'ten'``.

A class that has a form of its own for files has the class method ``from_settings(value, where)``,
and ``to_settings()`` if it also writes that form. Of several dataclasses, the key ``kind`` says
which one is meant: it is a field of each.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.yaml_files import parse_yaml, read_yaml

T = TypeVar("T")
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
# The key of a file that another one starts from.
BASE = "base"


def from_plain(kind: type[T], values: Any, where: str = "") -> T:
    """Build a dataclass from a mapping.

    Args:
        kind: the dataclass; its fields may be dataclasses, tuples, literals and optional.
        values: the mapping.
        where: path of the mapping's key, for messages.

    Raises:
        ValueError: a key is unknown, missing or has a wrong value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where or kind.__name__} must be a mapping, not {values!r}")
    types_ = typing.get_type_hints(kind)
    own = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in own:
            raise ValueError(f"unknown setting {_join(where, name)}: known are {', '.join(own)}")
    for name, field in own.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in values:
            raise ValueError(f"{_join(where, name)} is missing")
    built = {
        name: _value(types_[name], value, _join(where, name)) for name, value in values.items()
    }
    try:
        return kind(**built)
    except ValueError as error:
        # Messages of a dataclass begin with the name of a field; those of its parts do not.
        begin = where and (f"{where}." if str(error).split(" ")[0] in own else f"{where}: ")
        raise ValueError(f"{begin}{error}") from None


def to_plain(value: Any) -> Any:
    """Return dataclasses as mappings and tuples as lists, all the way down."""
    if hasattr(value, "to_settings"):
        return value.to_settings()
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def read_plain(path: Path, heirs: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML mapping, merged into the file that its key ``base`` names.

    Mappings are merged; a list replaces the list of the base.

    Args:
        path: the file.
        heirs: the files that name this one as their base.

    Raises:
        ValueError: a file cannot be read, is not a mapping, or is its own base.
    """
    if path.resolve() in heirs:
        raise ValueError(f"{path} is its own base")
    try:
        values = read_yaml(path)
    except (OSError, DocumentError) as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a mapping of settings")
    base = values.pop(BASE, None)
    if base is None:
        return values
    return merged(read_plain(path.parent / str(base), (*heirs, path.resolve())), values)


def override(values: dict[str, Any], assignments: Sequence[str]) -> None:
    """Change plain settings in place.

    Args:
        values: the settings. Their keys are checked later, by ``from_plain``.
        assignments: texts like ``optimizer.rate=1e-3`` and ``phases.0.epochs=5``; the right side is
            YAML.

    Raises:
        ValueError: a text is not an assignment, or names a position that a list does not have.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ValueError(f"{assignment!r} is not of the form key=value")
        try:
            value = parse_yaml(text)
        except DocumentError as error:
            raise ValueError(f"{assignment!r}: the value cannot be read: {error}") from None
        _assign(values, path.split("."), value, path)


def _assign(place: Any, keys: list[str], value: Any, path: str) -> None:
    for key in keys[:-1]:
        place = _enter(place, key, path)
    if isinstance(place, list):
        place[_position(place, keys[-1], path)] = value
    elif isinstance(place, dict):
        place[keys[-1]] = value
    else:
        raise ValueError(f"unknown setting {path}: what it lies in is one value")


def _enter(place: Any, key: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_position(place, key, path)]
    return place.setdefault(key, {}) if isinstance(place, dict) else None


def _position(place: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(f"{path}: {key} is not a position from 0 to {len(place) - 1}")
    return int(key)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with changes: mappings are merged, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            value = merged(inner, value)
        result[key] = value
    return result


def differences(base: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that ``merged`` needs to make ``changed`` of ``base``."""
    found = {}
    for key, value in changed.items():
        inner = base.get(key)
        if key in base and inner == value:
            continue
        if isinstance(inner, dict) and isinstance(value, dict):
            value = differences(inner, value)
        found[key] = value
    return found


def _join(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if hasattr(kind, "from_settings"):
        return kind.from_settings(value, where)
    if is_dataclass(kind):
        return from_plain(kind, value, where)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in typing.get_args(kind):
            return None
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        return _value(kinds[0] if len(kinds) == 1 else _meant(kinds, value, where), value, where)
    if origin is Literal:
        # YAML reads 1.1 as a number where a text is meant.
        spelled = str(value) if type(value) is float else value
        found = [choice for choice in typing.get_args(kind) if choice == spelled]
        if not found:
            raise ValueError(f"{where} must be one of {_listed(kind)}, not {value!r}")
        return found[0]
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, where)
    return _scalar(kind, value, where)


def _meant(kinds: list[Any], value: Any, where: str) -> Any:
    """Return the dataclass that the key ``kind`` names."""
    named = {kind.__dataclass_fields__["kind"].default: kind for kind in kinds}
    wanted = value.get("kind") if isinstance(value, dict) else None
    if wanted not in list(named):
        raise ValueError(
            f"{_join(where, 'kind')} must be one of {', '.join(named)}, not {wanted!r}"
        )
    return named[wanted]


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    elif len(items) != len(kinds):
        raise ValueError(f"{where} must be {len(kinds)} values, not {value!r}")
    pairs = enumerate(zip(kinds, items, strict=True))
    return tuple(_value(kind, item, _join(where, i)) for i, (kind, item) in pairs)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3, without a point, as a text.
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{where} must be a number, not {value!r}") from None
        if not math.isfinite(value):
            raise ValueError(f"{where} must be a finite number, not {value!r}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be {WORDS.get(kind, kind)}, not {value!r}")
    return value


def _listed(kind: Any) -> str:
    return ", ".join(str(choice) for choice in typing.get_args(kind))
