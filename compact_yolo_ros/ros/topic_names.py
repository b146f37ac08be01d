# SPDX-License-Identifier: Apache-2.0
"""Names of image topics, as a subscription or publisher must be given them.

ROS applies its remap rules to every name that it is given. A name that was remapped already would
be remapped twice: with left:=right and right:=rear, ``left`` would become ``rear``.
"""

from __future__ import annotations

from rclpy.node import Node

COMPRESSED = "/compressed"


def compressed_name(node: Node, name: str, suffix: str = COMPRESSED) -> str:
    """The name to give to ROS for the images of another form that belong to the topic ``name``.

    It is <name>/compressed where a rule remaps that, else ``compressed`` below what ``name`` is
    remapped to, unless that ends in it. Other forms have another ``suffix``.

    Raises:
        ValueError: a second rule would remap the result again.
    """
    below = name + suffix
    if node.resolve_topic_name(below) != node.resolve_topic_name(below, only_expand=True):
        return below
    images = node.resolve_topic_name(name)
    if images.endswith(suffix):
        return name
    topic = images + suffix
    if (again := node.resolve_topic_name(topic)) != topic:
        raise ValueError(
            f"{name} is remapped to {images}, and {topic} to {again}: remap {below} instead"
        )
    return topic
