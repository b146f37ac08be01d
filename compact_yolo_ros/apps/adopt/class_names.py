# SPDX-License-Identifier: Apache-2.0
"""Names of the classes: from a file, or from what the exporter wrote into the network's metadata.

Ultralytics writes the text of a Python dictionary, ``{0: 'person', 1: 'car'}``. It is taken apart
by a pattern, so that nothing in it is ever evaluated but the text of one name.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.labels.ground_truth import LabelError
from compact_yolo_ros.labels.yolo import class_names, listed_names
from compact_yolo_ros.model.card import MOST_CLASSES
from compact_yolo_ros.support.error_text import reason, shortened
from compact_yolo_ros.support.yaml_files import read_yaml

COCO = "coco"
"""What ``--classes`` may be instead of a file: the 80 classes of COCO, in their usual order."""
LONGEST = 1_000_000
"""Letters of a text with names."""

_ENTRY = re.compile(
    r"""\s*(?:(?P<quote>['"]?)(?P<key>\d{1,6})(?P=quote)\s*:\s*)?"""
    r"""(?P<name>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")\s*(?:,|$)"""
)
_COCO = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,
stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,
umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,
skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,
sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,
toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,
clock,vase,scissors,teddy bear,hair drier,toothbrush"""


def read_names(source: str) -> tuple[str, ...]:
    """Read the names of a file, or those of ``COCO``.

    Args:
        source: ``coco``, a text file with a name on each line, or a ``data.yaml``.

    Raises:
        AdoptError: the file cannot be read, or lists no names.
    """
    if source == COCO:
        return tuple(name.strip() for name in _COCO.split(","))
    path = Path(source)
    try:
        if path.suffix not in (".yaml", ".yml"):
            return listed_names(path)
        names = _of_yaml(path)
    except LabelError as error:
        raise AdoptError(str(error)) from None
    except (OSError, ValueError) as error:
        raise AdoptError(
            f"the names of the classes cannot be read from {shortened(path)}: {reason(error)}"
        ) from None
    if not names:
        raise AdoptError(f"{shortened(path)} names no classes")
    return names


def parse_names(text: str) -> tuple[str, ...]:
    """Read the text of a Python or JSON dictionary or list of names.

    Raises:
        AdoptError: it is something else; give the names in a file.
    """
    text = text.strip()
    if len(text) <= LONGEST and text[:1] + text[-1:] in ("{}", "[]"):
        found = _entries(text[1:-1])
        if found and sorted(found) == list(range(len(found))):
            return tuple(found[number] for number in range(len(found)))
    raise AdoptError(
        "the names of the classes in the file's metadata cannot be read: give them with --classes"
    )


def _entries(text: str) -> dict[int, str]:
    """Names by number; nothing if the text has another form."""
    found: dict[int, str] = {}
    text, position = text.rstrip(), 0
    while position < len(text) and len(found) < MOST_CLASSES:
        entry = _ENTRY.match(text, position)
        if entry is None:
            return {}
        number = int(entry["key"]) if entry["key"] else len(found)
        try:
            found[number] = str(ast.literal_eval(entry["name"]))
        except (ValueError, SyntaxError):  # an escape that does not exist
            return {}
        position = entry.end()
    return found


def _of_yaml(path: Path) -> tuple[str, ...]:
    content = read_yaml(path)
    return (class_names(content) if isinstance(content, dict) else None) or ()
