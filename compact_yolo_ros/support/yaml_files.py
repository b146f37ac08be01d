# SPDX-License-Identifier: Apache-2.0
"""Reads all files in YAML, within bounds; see ``document`` for what may be in them.

The parser's events are checked before anything is built of them: a few aliases of aliases stand for
billions of values.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

from compact_yolo_ros.support.document import (
    SMALL,
    DocumentError,
    Limits,
    check_content,
    key_twice,
)
from compact_yolo_ros.support.error_text import one_line
from compact_yolo_ros.support.files import read_file

_PREFIX = "tag:yaml.org,2002:"
_TAGS = {None, "!", *(_PREFIX + kind for kind in ("str", "seq", "map"))}
_NUMBERS = {_PREFIX + "int", _PREFIX + "float"}
_LONGEST_NUMBER = 64
"""Letters; PyYAML takes hours for ``1:1:1...`` of megabytes, a number of base 60."""


def read_yaml(path: Path, limits: Limits = SMALL) -> Any:
    """Read a file. A date is a text; tags are refused.

    Raises:
        OSError: it cannot be read, is no regular file or too large.
        DocumentError: it is not YAML, or beyond the limits.
    """
    return parse_yaml(read_file(path, limits.size), limits)


def parse_yaml(text: str | bytes, limits: Limits = SMALL) -> Any:
    """Read a text; see ``read_yaml``."""
    limits.check_size(text)
    try:
        _Inspection(limits).run(_Loader(text))
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise DocumentError(f"it is not YAML: {_problem(error)}") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"it is not YAML: {one_line(error)[:200]}") from None
    except DocumentError:
        raise
    except ValueError:  # PyYAML takes 0x_ for a number
        raise DocumentError("it is not YAML: a number cannot be read") from None
    check_content(content, limits)
    return content


class _Loader(_SafeLoader):
    """Reads dates as texts."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rows if tag != _PREFIX + "timestamp"]
        for first, rows in _SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass
class _Open:
    """A list or mapping that has begun.

    Attributes:
        anchor: the name by which aliases repeat it; None without.
        before: number of values before it.
        keys: of a mapping so far, each with its kind; None for a list.
        key_is_next: whether the next value of a mapping is a key.
    """

    anchor: str | None
    before: int
    keys: set[tuple[str, str]] | None
    key_is_next: bool = True


@dataclass
class _Inspection:
    """Checks a document by its events.

    Attributes:
        limits: of the document.
        count: number of values so far.
        sizes: number of values that each anchor stands for.
        inside: the lists and mappings that are open, outermost first.
    """

    limits: Limits
    count: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    inside: list[_Open] = field(default_factory=list)

    def run(self, loader: Any) -> None:
        """Check everything; raises DocumentError or YAMLError."""
        try:
            while loader.check_event():
                event = loader.get_event()
                if isinstance(event, yaml.NodeEvent):
                    self._value(event, loader)
                elif isinstance(event, yaml.CollectionEndEvent):
                    self._end()
        finally:
            loader.dispose()

    def _value(self, event: yaml.NodeEvent, loader: Any) -> None:
        before = self.count
        if isinstance(event, yaml.AliasEvent):
            self.count += self._repeated(event.anchor)
        else:
            _check_tag(event)
            self.count += 1
        self.limits.check_values(self.count)
        kind = _kind(event, loader) if isinstance(event, yaml.ScalarEvent) else ""
        if self.inside:
            self._note_key(self.inside[-1], event, kind)
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            self.inside.append(_Open(event.anchor, before, set() if is_mapping else None))
            self.limits.check_depth(len(self.inside))

    def _end(self) -> None:
        done = self.inside.pop()
        if done.anchor:
            self.sizes[done.anchor] = self.count - done.before

    def _repeated(self, anchor: str | None) -> int:
        """Number of values that an alias stands for; 1 for that of a text or of nothing."""
        if any(place.anchor == anchor for place in self.inside):
            raise DocumentError(f"its alias {reprlib.repr(anchor)} stands for itself")
        return self.sizes.get(str(anchor), 1)

    def _note_key(self, place: _Open, event: yaml.NodeEvent, kind: str) -> None:
        """Note that a value of a list or mapping begins; a key must not be there already."""
        if place.keys is None:
            return
        if place.key_is_next and isinstance(event, yaml.ScalarEvent):
            key = (kind, event.value)
            if key in place.keys:
                raise key_twice(event.value)
            place.keys.add(key)
        place.key_is_next = not place.key_is_next


def _check_tag(event: Any) -> None:
    if event.tag not in _TAGS:
        raise DocumentError(f"it has the tag {reprlib.repr(event.tag)}: leave the tag out")


def _kind(event: yaml.ScalarEvent, loader: Any) -> str:
    """The kind of a scalar as a tag; raises DocumentError for a number that is too long."""
    kind: str = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    if kind in _NUMBERS and len(event.value) > _LONGEST_NUMBER:
        raise DocumentError(f"it has a number of more than {_LONGEST_NUMBER} letters")
    return kind


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What the parser complains about, and where."""
    text = one_line(error.problem or error.context or "the text is malformed")[:200]
    mark = error.problem_mark or error.context_mark
    return f"{text} in line {mark.line + 1}, column {mark.column + 1}" if mark else text
