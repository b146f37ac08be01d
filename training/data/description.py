# SPDX-License-Identifier: Apache-2.0
"""``data.yaml``: the description of a data set. ``README.md`` in this folder lists every key.

darknet's ``obj.data`` is read as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.labels.voc import VOC_CLASSES
from compact_yolo_ros.labels.yolo import class_names, keypoint_numbers
from compact_yolo_ros.support.document import DocumentError
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.yaml_files import read_yaml
from training.data import darknet_data

T = TypeVar("T")
SPLITS = ("train", "val", "test")
MOST_REPEATS = 100
_COMMON = {"valid": "val", "validation": "val"}
"""What other tools call a key."""
KEYS = (*SPLITS, "format", "path", "names", "labelled", "sources", "hold_out")


def remedy_without(split: str) -> str:
    """The end of a sentence about a split that there is not: what to do, if that is known."""
    if split != "val":
        return ""
    return ": give one, or write 'hold_out: 50' into a data.yaml, which takes 50 images of 'train'"


class DataError(ValueError):
    """A data set cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class Source:
    """A data set that another one includes.

    Attributes:
        data: its ``data.yaml``.
        classes: its class name -> the joining data set's; None or absent drops the class's boxes.
            None: classes of the same name.
        labelled: classes (of the joining data set) that it labels; None: those that its own
            classes become.
        splits: what is taken from it; None: all it has.
        repeat: how often each of its training images is shown in an epoch.
    """

    data: Path
    classes: dict[str, str | None] | None
    labelled: tuple[str, ...] | None
    splits: tuple[str, ...] | None
    repeat: int = 1


@dataclass(frozen=True)
class Description:
    """What a ``data.yaml`` says.

    Attributes:
        file: the ``data.yaml``.
        format: "yolo", "voc" or "coco"; unused if there are ``sources``.
        root: folder that the entries of ``splits`` are relative to.
        names: of the classes, in the order of their numbers; None: as in the annotations (COCO).
        splits: name -> where it is, as the format's reader understands it.
        labelled: classes that are labelled; None: all.
        sources: data sets that this one joins.
        keypoints: how many numbers follow a box in YOLO's label files; 0: not known.
        hold_out: how many images of ``train`` are ``val``; 0: ``val`` is a split of its own.
    """

    file: Path
    format: str
    root: Path
    names: tuple[str, ...] | None
    splits: dict[str, Any]
    labelled: tuple[str, ...] | None = None
    sources: tuple[Source, ...] = field(default=())
    keypoints: int = 0
    hold_out: int = 0

    def split(self, name: str) -> Any:
        """Return a split's entry.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError(f"{self.file} has no split '{name}'{remedy_without(name)}")
        return self.splits[name]


def read_description(data: Path) -> Description:
    """Read a ``data.yaml``.

    Raises:
        DataError: it cannot be read, or a key has a value that cannot be used.
    """
    content = _content(data)
    _check_keys(data, content)
    kind = content.get("format", "yolo")
    if kind not in ("yolo", "voc", "coco"):
        raise DataError(f"{data}: 'format' is '{kind}', and must be yolo, voc or coco")
    sources = content.get("sources", ())
    if "sources" in content and (not isinstance(sources, list) or not sources):
        raise DataError(f"{data}: 'sources' must be a list of data sets")
    splits = {name: content[name] for name in SPLITS if content.get(name)}
    if sources and (splits or "format" in content):
        raise DataError(f"{data} has 'sources': put splits and format into their own data.yaml")
    hold_out = _hold_out(data, content)
    if hold_out and not sources:
        splits["val"] = splits.get("train")
    names = _usable(data, class_names, content)
    if names is None and kind == "voc":
        names = VOC_CLASSES
    if names is None and (kind == "yolo" or sources):
        raise DataError(f"{data}: 'names' must list the classes, or map 0..n-1 to them")
    labelled = _strings(data, content, "labelled")
    if names is not None and (unknown := set(labelled or ()) - set(names)):
        raise DataError(f"{data}: 'labelled' has {sorted(unknown)}, not among 'names'")
    return Description(
        data,
        kind,
        data.parent / str(content.get("path") or "."),
        names,
        splits,
        labelled,
        tuple(_source(data, entry) for entry in sources),
        _usable(data, keypoint_numbers, content),
        hold_out,
    )


def _content(data: Path) -> dict[str, Any]:
    if data.suffix != darknet_data.SUFFIX:
        return _read_mapping(data)
    try:
        return darknet_data.read_data_file(data)
    except (OSError, ValueError) as error:
        raise DataError(f"{data} cannot be read: {reason(error)}") from None


def _check_keys(data: Path, content: dict[str, Any]) -> None:
    """Refuse misspelled keys; unknown ones are allowed, since other tools use the same file."""
    absent = [key for key in KEYS if key not in content]
    for key in content:
        close = get_close_matches(_COMMON.get(key, str(key)), absent, 1, cutoff=0.8)
        if close and key not in KEYS:
            raise DataError(f"{data}: there is no key '{key}', did you mean '{close[0]}'?")


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except (OSError, DocumentError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a mapping")
    return content


def _usable(data: Path, read: Callable[[dict[str, Any]], T], content: dict[str, Any]) -> T:
    """What a reader of labels finds in the content; raises DataError."""
    try:
        return read(content)
    except LabelError as error:
        raise DataError(f"{data}: {error}") from None


def _hold_out(data: Path, content: dict[str, Any]) -> int:
    count = content.get("hold_out", 0)
    if type(count) is not int or count < 0:
        raise DataError(f"{data}: 'hold_out' must be a number of images, not {count!r}")
    if count and ("val" in content or not (content.get("train") or "sources" in content)):
        raise DataError(f"{data}: 'hold_out' takes 'val' from 'train': give 'train', and no 'val'")
    return count


def _strings(data: Path, content: dict[str, Any], key: str) -> tuple[str, ...] | None:
    values = content.get(key)
    if values is None:
        return None
    if not isinstance(values, list):
        raise DataError(f"{data}: '{key}' must be a list")
    return tuple(str(value) for value in values)


def _source(data: Path, entry: Any) -> Source:
    known = {"data", "classes", "labelled", "splits", "repeat"}
    if not isinstance(entry, dict) or "data" not in entry or set(entry) - known:
        raise DataError(
            f"{data}: an entry of 'sources' needs 'data' and may have 'classes', 'labelled',"
            f" 'splits' and 'repeat', but one is {entry}"
        )
    classes = entry.get("classes")
    if classes is not None:
        if not isinstance(classes, dict):
            raise DataError(f"{data}: 'classes' of a source must map its names to names here")
        classes = {str(k): None if v is None else str(v) for k, v in classes.items()}
    splits = _strings(data, entry, "splits")
    if unknown := set(splits or ()) - set(SPLITS):
        raise DataError(f"{data}: 'splits' of a source has {sorted(unknown)}; known are {SPLITS}")
    repeat = entry.get("repeat", 1)
    if type(repeat) is not int or not 1 <= repeat <= MOST_REPEATS:
        raise DataError(f"{data}: 'repeat' of a source must be a whole number, 1 to {MOST_REPEATS}")
    labelled = _strings(data, entry, "labelled")
    return Source(data.parent / str(entry["data"]), classes, labelled, splits, repeat)
