# SPDX-License-Identifier: Apache-2.0
"""What a health is found from: the node's and each camera's situation at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from compact_yolo_ros.ros.diagnostics.frame_counters import Snapshot


class Work(NamedTuple):
    """The image in work.

    Attributes:
        camera: where it came from; empty for a single camera.
        stage: what is done with it, for example ``decode``.
        seconds: how long ago it was taken.
    """

    camera: str
    stage: str
    seconds: float

    def __str__(self) -> str:
        which = f"an image of {self.camera}" if self.camera else "an image"
        return f"{which} has been in work for {self.seconds:.0f} s, now in {self.stage}"


@dataclass(frozen=True)
class NodeSituation:
    """What concerns all cameras.

    Attributes:
        state: lifecycle state, for example ``active``.
        enabled: whether ``~/enable`` lets images through.
        failure: why configuring or activating failed; empty if it did not.
        warning: what differs from the parameters although it works, logged where it arose; empty
            if nothing does.
        leftover: what goes on although it should have ended, logged too; empty if nothing does.
        concerns: what else is wrong with the node's targets and surroundings, a sentence each.
        throttling: what slowed the machine down in the last seconds; empty if nothing did.
        work: the image in work; None if there is none.
    """

    state: str
    enabled: bool = True
    failure: str = ""
    warning: str = ""
    leftover: str = ""
    concerns: tuple[str, ...] = ()
    throttling: str = ""
    work: Work | None = None


@dataclass(frozen=True)
class CameraSituation:
    """What surrounds the images of one camera.

    Attributes:
        topic: the image topic.
        publishers: publishers on it.
        incompatible_qos: a publisher offers less than the subscription asks for.
        reliability: that of the subscription.
        subscribers: of the detections, as far as they are connected.
        nodes: names of the nodes that announce images on the topic.
        is_latched: whether its last image is kept for late subscribers only.
        asks_for_latched: whether the subscription asks for that image.
        mistake: why no image can arrive, as far as the graph shows it, and what to set; empty if
            it shows nothing.
        concern: what does not come of an image besides its detections, and why; empty if all does.
    """

    topic: str
    publishers: int
    incompatible_qos: bool
    reliability: str
    subscribers: int = 0
    nodes: tuple[str, ...] = ()
    is_latched: bool = False
    asks_for_latched: bool = False
    mistake: str = ""
    concern: str = ""


class CameraState(NamedTuple):
    """One camera at one moment.

    Attributes:
        snapshot: counts and times of its images.
        situation: what surrounds them.
        counts: of its tracks and positions, by their keys on /diagnostics.
    """

    snapshot: Snapshot
    situation: CameraSituation
    counts: Mapping[str, int] = MappingProxyType({})


class Description(NamedTuple):
    """What only a subscriber needs to know of the node.

    Attributes:
        device: what the network runs on; empty if nothing is loaded.
        facts: key-value pairs.
    """

    device: str
    facts: Mapping[str, object]
