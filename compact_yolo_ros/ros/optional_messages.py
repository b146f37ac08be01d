# SPDX-License-Identifier: Apache-2.0
"""Messages that only some topics need: their packages are loaded when such a topic is wanted."""

from __future__ import annotations

from importlib import import_module

IMAGE_ANNOTATIONS = "foxglove_msgs/msg/ImageAnnotations"
MARKER_ARRAY = "visualization_msgs/msg/MarkerArray"


class MissingPackageError(ValueError):
    """A package of messages cannot be used; the sentence says how to get it."""

    def __init__(self, name: str, error: Exception) -> None:
        """Say that the message ``name`` cannot be used, and why."""
        package = name.partition("/")[0].replace("_", "-")
        super().__init__(
            f"{name} cannot be loaded ({error}): sudo apt install ros-$ROS_DISTRO-{package}"
        )


def message_class(name: str) -> type:
    """The class of a message, by its name as ``visualization_msgs/msg/MarkerArray``.

    Raises:
        MissingPackageError: its package cannot be loaded.
    """
    package, group, kind = name.split("/")
    try:
        found: type = getattr(import_module(f"{package}.{group}"), kind)
    except (ImportError, AttributeError) as error:  # absent, or of a version without the message
        raise MissingPackageError(name, error) from None
    return found
