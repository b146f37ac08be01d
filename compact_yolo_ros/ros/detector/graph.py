# SPDX-License-Identifier: Apache-2.0
"""What the ROS graph shows of a node's surroundings, and which mistakes that explains."""

from __future__ import annotations

from typing import NamedTuple

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy

from compact_yolo_ros.ros.transports import IMAGE_TRANSPORTS, RAW
from compact_yolo_ros.support.error_text import first_line

UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What ROS shows before it has heard of a publisher's node."""
_OF_TYPE = {transport.type_name: transport for transport in IMAGE_TRANSPORTS.values()}


class Announced(NamedTuple):
    """The publishers of an image topic.

    Attributes:
        publishers: how many they are.
        nodes: full names of their nodes.
        is_latched: whether one keeps its last image for late subscribers (transient_local).
        mistake: why none of them can be received, and what to set; empty if one can.
    """

    publishers: int
    nodes: tuple[str, ...]
    is_latched: bool
    mistake: str


def announced(node: Node, name: str, kind: str) -> Announced:
    """Look at the publishers of an image topic.

    Args:
        node: whose view of the graph it is.
        name: of the topic; remap rules are applied to it.
        kind: type of the messages that are wanted.
    """
    offers = node.get_publishers_info_by_topic(name)
    topic = node.resolve_topic_name(name)
    kinds = {offer.topic_type for offer in offers}
    if not offers:
        mistake = _other_transport(node, topic, kind)
    else:
        mistake = "" if kind in kinds else _wrong_type(topic, min(kinds), kind)
    nodes = {
        f"{offer.node_namespace.rstrip('/')}/{offer.node_name}"
        for offer in offers
        if offer.node_name != UNKNOWN_NODE
    }
    latched = {offer.qos_profile.durability for offer in offers}
    return Announced(
        publishers=len(offers),
        nodes=tuple(sorted(nodes)),
        is_latched=DurabilityPolicy.TRANSIENT_LOCAL in latched,
        mistake=mistake,
    )


def _wrong_type(topic: str, found: str, kind: str) -> str:
    """What to set for a topic of another type."""
    transport = _OF_TYPE.get(found)
    if transport is None:
        remedy = "check image_topic"
    elif transport is RAW:
        remedy = "set image_transport to raw, and image_topic to this topic"
    else:
        remedy = f"set image_transport to {transport.name}"
        if not topic.endswith(transport.suffix):
            remedy += f", and remap image{transport.suffix} to it"
    return f"{topic} is of type {found}, not {kind}: {remedy}"


def _other_transport(node: Node, topic: str, kind: str) -> str:
    """What to set if the same images are there in another form, or under another name."""
    own = _OF_TYPE.get(kind, RAW)
    images = topic.removesuffix(own.suffix)
    for other in IMAGE_TRANSPORTS.values():
        there = images + other.suffix
        if there == topic:
            continue
        types = {offer.topic_type for offer in node.get_publishers_info_by_topic(there)}
        if kind in types:
            return f"only {there} has a publisher, not {topic}: remap image{own.suffix} to it"
        if other.type_name in types:
            remedy = f"set image_transport to {other.name}"
            return f"only {there} has a publisher, not {topic}: {remedy}"
    return ""


def namesakes(node: Node) -> str:
    """Say that another node has this one's name; empty if none has."""
    own = (node.get_name(), node.get_namespace())
    if node.get_node_names_and_namespaces().count(own) < 2:
        return ""
    return (
        f"another node is called {node.get_fully_qualified_name()} too, so services and parameters "
        "reach either: give one of them another name or namespace (one that was killed fades "
        "within half a minute)"
    )


def refusal(error: RuntimeError) -> str:
    """What to say of rclpy's RCLError where a topic is created, as without SROS2's permission."""
    return f"ROS refuses a topic that would be needed: {first_line(error)}"


def missing_clock(node: Node) -> str:
    """Say that simulated time does not run; empty if it does, or is not used."""
    simulated: Parameter[bool] = node.get_parameter("use_sim_time")
    if not simulated.value or node.get_clock().now().nanoseconds:
        return ""
    return (
        "use_sim_time is true but no clock runs on /clock, so ages mean nothing: start the "
        "simulator, play the recording with --clock, or set use_sim_time to false"
    )
