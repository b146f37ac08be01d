# SPDX-License-Identifier: Apache-2.0
"""All probes in their order, each in its own process, by section of the report."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from compact_yolo_ros.apps.doctor import (
    cameras,
    dds_transport,
    devices,
    permissions,
    usable_backends,
    versions,
)
from compact_yolo_ros.apps.doctor import power_sources as power
from compact_yolo_ros.apps.doctor import stored_models as models
from compact_yolo_ros.apps.doctor.isolation import isolated
from compact_yolo_ros.apps.doctor.probe import Finding, Level, Probe, Surroundings, problem
from compact_yolo_ros.backends import BACKENDS
from compact_yolo_ros.machine.libraries import LIBRARIES
from compact_yolo_ros.support.error_text import reason

PATIENCE = 60.0
"""Time limit of a probe in seconds: TensorRT's first start takes some on a small board."""
PROOF_PATIENCE = 3 * 3600.0
"""The same for ``--gpu``: building one engine may take half an hour on a small board."""
ASSUMED_FRAME = 640 * 480 * 3
"""Bytes of an image if no camera was found and no image size was given."""


Result = TypeVar("Result")


@dataclass(frozen=True)
class DoctorOptions:
    """What the user chose.

    Attributes:
        around: the machine to examine.
        model: name or path of the model that the backends run.
        image_size: (width, height) of the camera's images in pixels; None is that of the cameras
            found.
        listen: longest time in seconds to look for cameras.
        gpu: also prove TensorRT.
    """

    around: Surroundings
    model: str
    image_size: tuple[int, int] | None = None
    listen: float = 4.0
    gpu: bool = False


Report = Generator[tuple[str, Finding], None, Result]
"""Yields the title of the section with each finding, and returns what later probes need."""


def examine(options: DoctorOptions) -> Iterator[tuple[str, Finding]]:
    """Run all probes; yield the title of the section and the finding, as they come."""
    around = options.around
    ros_works = yield from _versions(around)
    yield from _section(
        "devices",
        partial(devices.processor, around),
        partial(devices.memory, around),
        partial(devices.jetson, around),
        partial(devices.gpus, around),
    )
    frame = yield from _cameras(options, ros_works)
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
    if not (yield from _models(options)):
        return  # there is no model for the backends to run
    yield from _section(
        "backends",
        *(
            partial(usable_backends.usable, around, info, options.model)
            for info in BACKENDS.values()
        ),
        partial(usable_backends.choice, around, options.model),
        partial(usable_backends.timings, around, options.model),
    )
    if options.gpu:
        yield from _proof(options)


def _versions(around: Surroundings) -> Report[bool]:
    """Return whether ROS works, if it is there."""
    yield from _section("versions", partial(versions.system, around))
    ros_works = True
    for title, finding in _section("versions", partial(versions.ros, around)):
        ros_works = ros_works and finding.level is not Level.PROBLEM
        yield title, finding
    yield from _section(
        "versions",
        *(partial(versions.library, library) for library in LIBRARIES),
        partial(versions.cuda_driver, around),
    )
    return ros_works


def _cameras(options: DoctorOptions, ros_works: bool) -> Report[int]:
    """Return the bytes of the largest image; 0 if there is none."""
    frame = 0
    can_look = ros_works and dds_transport.has_domain(options.around)
    probes = [partial(cameras.cameras, options.listen)] if can_look else []
    for title, finding in _section("cameras", *probes, patience=PATIENCE + options.listen):
        frame = max(frame, finding.data.get("frame", 0))
        yield title, finding
    if options.image_size:
        frame = options.image_size[0] * options.image_size[1] * 3
    return frame


def _transports(around: Surroundings, frame: int) -> Iterator[tuple[str, Finding]]:
    """Compare DDS with images of so many bytes; 0 if no image is known."""
    segment = dds_transport.BUILT_IN_SEGMENT
    memory = partial(dds_transport.shared_memory, around, frame or ASSUMED_FRAME, frame > 0)
    for title, finding in _section("transports", memory):
        segment = finding.data.get("segment", segment)
        yield title, finding
    yield from _section(
        "transports",
        partial(dds_transport.memory_folder, around, segment),
        partial(dds_transport.discovery, around),
        partial(dds_transport.container, around),
    )


def _models(options: DoctorOptions) -> Report[bool]:
    """Return whether the backends have a model to run."""
    around = options.around
    yield from _section(
        "models", partial(models.own_models, around), partial(models.user_models, around)
    )
    found = True
    for title, finding in _section("models", partial(models.missing, options.model)):
        found = False
        yield title, finding
    return found


def _proof(options: DoctorOptions) -> Iterator[tuple[str, Finding]]:
    """Prove TensorRT, in a folder of this process: that of the probe may be killed."""
    from compact_yolo_ros.apps.doctor.tensorrt_proof import proof

    try:
        folder = TemporaryDirectory(prefix="compact_yolo_ros_proof_", ignore_cleanup_errors=True)
    except OSError as error:
        found = f"there is no temporary folder to build in: {reason(error)}"
        yield "TensorRT", problem("not proved", found, "set TMPDIR to a folder that can be written")
        return
    with folder as name:
        probe = partial(proof, options.around, options.model, Path(name))
        yield from _section("TensorRT", probe, patience=PROOF_PATIENCE)


def _section(
    title: str, *probes: Probe, patience: float = PATIENCE
) -> Iterator[tuple[str, Finding]]:
    for probe in probes:
        for finding in isolated(title, probe, patience):
            yield title, finding


def exit_code(findings: list[Finding]) -> int:
    """1 if there is a problem, else 0."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))
