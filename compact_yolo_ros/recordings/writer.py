# SPDX-License-Identifier: Apache-2.0
"""Writing recordings that every supported rosbag2 opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

METADATA_VERSION: Final = 8
"""Of metadata.yaml: from 9 on the quality of service is a list, where ROS 2 Humble and Iron demand
a text. They ignore what versions behind their own have added."""


def new_writer(folder: Path) -> Any:
    """A writer (``rosbags.rosbag2.Writer``, not open yet) of a recording in MCAP.

    Raises:
        rosbags.rosbag2.WriterError: ``folder`` exists.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    return Writer(folder, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
