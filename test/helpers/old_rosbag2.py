# SPDX-License-Identifier: Apache-2.0
"""What rosbag2 of ROS 2 Humble and Iron demands of metadata.yaml.

They read it with yaml-cpp: ``as<std::string>`` takes a scalar only, ``as<uint64_t>`` a scalar that
is a whole number, ``as<std::vector<...>>`` a sequence. Humble reads the fields up to version 5 and
ignores others; Iron reads those up to 8. Neither looks whether a version is newer than its own.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import yaml

TEXT, WHOLE = "text", "whole"

TIME = {"nanoseconds_since_epoch": WHOLE}
DURATION = {"nanoseconds": WHOLE}
TOPIC = {
    "name": TEXT,
    "type": TEXT,
    "serialization_format": TEXT,
    "offered_qos_profiles": TEXT,
    "type_description_hash": TEXT,
}
FILE = {"path": TEXT, "starting_time": TIME, "duration": DURATION, "message_count": WHOLE}
METADATA = {
    "version": WHOLE,
    "storage_identifier": TEXT,
    "relative_file_paths": [TEXT],
    "duration": DURATION,
    "starting_time": TIME,
    "message_count": WHOLE,
    "topics_with_message_count": [{"topic_metadata": TOPIC, "message_count": WHOLE}],
    "compression_format": TEXT,
    "compression_mode": TEXT,
    "files": [FILE],
    "ros_distro": TEXT,
}


def opened_by_old_rosbag2(folder: Path) -> dict[str, Any]:
    """The metadata of a recording, as they read it; ValueError where they refuse.

    They read it from metadata.yaml, and from the .mcap file if that is opened by itself.
    """
    (file,) = folder.glob("*.mcap")
    whole = _node((folder / "metadata.yaml").read_text())
    inside = _read(METADATA, _node(_metadata_in(file.read_bytes())), "")
    outside = _read({"rosbag2_bagfile_information": METADATA}, whole, "")
    if inside != outside["rosbag2_bagfile_information"]:
        raise ValueError("the file and metadata.yaml differ")
    return inside


def _metadata_in(content: bytes) -> str:
    """The text that rosbag2 finds in the record ``rosbag2`` of an .mcap file."""
    key = b"serialized_metadata"
    start = content.index(key) + len(key)
    (length,) = struct.unpack_from("<I", content, start)
    return content[start + 4 : start + 4 + length].decode()


def _node(text: str) -> yaml.Node:
    found = yaml.compose(text, yaml.SafeLoader)
    assert found is not None
    return found


def _read(kind: Any, node: yaml.Node, place: str) -> Any:
    if isinstance(kind, dict):
        fields = _fields(node, place)
        return {name: _read(inner, fields[name], f"{place}.{name}") for name, inner in kind.items()}
    if isinstance(kind, list):
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError(f"{place} is not a sequence")
        return [_read(kind[0], item, f"{place}[]") for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{place} is not a scalar")
    return int(node.value) if kind == WHOLE else node.value


def _fields(node: yaml.Node, place: str) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{place} is not a map")
    return {key.value: value for key, value in node.value}
