# SPDX-License-Identifier: Apache-2.0
"""The examination: all probes in their order, each isolated, by section of the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from compact_yolo_ros.apps.doctor import (
    cameras,
    devices,
    permissions,
    runtimes,
    transport,
    versions,
)
from compact_yolo_ros.apps.doctor import power_sources as power
from compact_yolo_ros.apps.doctor import stored_models as models
from compact_yolo_ros.apps.doctor.finding import Finding, Level, Probe, Surroundings
from compact_yolo_ros.apps.doctor.isolation import isolated

PATIENCE = 60.0
"""Seconds after which a probe is ended: TensorRT's first start takes some on a small board."""
PROOF_PATIENCE = 3 * 3600.0
"""The same for the proof: an engine may take half an hour on a small board."""
ASSUMED_FRAME = 640 * 480 * 3
"""Bytes of an image if no camera was seen and none was asked about."""


@dataclass(frozen=True)
class Order:
    """What the user asks for.

    Attributes:
        around: where to look.
        model: name or path of the model that the backends are tried with.
        image_size: (width, height) of the camera's images in pixels; None is what is seen.
        listen: most seconds to look for cameras.
        gpu: prove TensorRT, too.
    """

    around: Surroundings
    model: str
    image_size: tuple[int, int] | None = None
    listen: float = 4.0
    gpu: bool = False


def examine(order: Order) -> Iterator[tuple[str, Finding]]:
    """Yield the section's title with each finding, as they come."""
    around = order.around
    yield from _section("versions", partial(versions.system, around))
    ros_works = True
    for title, finding in _section("versions", partial(versions.ros, around)):
        ros_works = ros_works and finding.level is not Level.PROBLEM
        yield title, finding
    yield from _section(
        "versions",
        *(partial(versions.library, which) for which in versions.LIBRARIES),
        partial(versions.cuda_driver, around),
    )
    yield from _section(
        "devices",
        partial(devices.processor, around),
        partial(devices.memory, around),
        partial(devices.jetson, around),
        partial(devices.gpus, around),
    )
    frame = 0
    looking = [partial(cameras.cameras, order.listen)] if ros_works else []
    for title, finding in _section("cameras", *looking, patience=PATIENCE + order.listen):
        frame = max(frame, finding.data.get("frame", 0))
        yield title, finding
    if order.image_size:
        frame = order.image_size[0] * order.image_size[1] * 3
    yield from _transports(around, frame)
    yield from _section(
        "permissions",
        partial(permissions.devices, around),
        partial(permissions.meters, around),
        partial(permissions.cache, around),
    )
    on_gpu = bool(devices.gpu_devices(around))
    yield from _section(
        "power", partial(power.sources, around), partial(power.choice, around, on_gpu)
    )
    yield from _section(
        "models", partial(models.own_models, around), partial(models.user_models, around)
    )
    missing = list(_section("models", partial(models.missing, order.model)))
    yield from missing
    if missing:
        return  # nothing to try the backends with
    yield from _section(
        "backends",
        *(
            partial(runtimes.runtime, around, name, order.model)
            for name in ("onnxruntime", "openvino", "tensorrt")
        ),
        partial(runtimes.choice, around, order.model),
    )
    if order.gpu:
        from compact_yolo_ros.apps.doctor.tensorrt_proof import proof

        for finding in isolated("TensorRT", partial(proof, around, order.model), PROOF_PATIENCE):
            yield "TensorRT", finding


def _transports(around: Surroundings, frame: int) -> Iterator[tuple[str, Finding]]:
    segment = transport.BUILT_IN_SEGMENT
    memory = partial(transport.shared_memory, around, frame or ASSUMED_FRAME, frame > 0)
    for title, finding in _section("transports", memory):
        segment = finding.data.get("segment", segment)
        yield title, finding
    yield from _section(
        "transports",
        partial(transport.memory_folder, around, segment),
        partial(transport.discovery, around),
        partial(transport.container, around),
    )


def _section(
    title: str, *probes: Probe, patience: float = PATIENCE
) -> Iterator[tuple[str, Finding]]:
    for probe in probes:
        for finding in isolated(title, probe, patience):
            yield title, finding


def exit_code(findings: list[Finding]) -> int:
    """0 if nothing is broken."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))
