# SPDX-License-Identifier: Apache-2.0
"""DDS: whether camera images fit into its shared memory, and which processes find each other."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple
from xml.etree import ElementTree

from compact_yolo_ros.apps.doctor.probe import Finding, Surroundings, note, ok, problem
from compact_yolo_ros.ros.fast_dds import (
    OLD_PROFILE_VARIABLE,
    PROFILE_VARIABLE,
    is_old,
    profile_variable,
)
from compact_yolo_ros.support.resources import resource_directory

FAST_DDS = "rmw_fastrtps"
BUILT_IN_SEGMENT = 512 * 1024
"""Bytes of Fast DDS's shared memory by default (Fast DDS documentation, SHM)."""
IMAGES = 2
"""Images that a segment must hold: one is written while another is still read."""
DOCKER_MEMORY = 64 * 2**20
"""Bytes of /dev/shm in a container that was started without --shm-size."""
SAFE_DOMAINS, LAST_DOMAIN = range(102), 232
"""On Linux, higher domains use ports that the system gives to other programs (ROS 2, Domain ID)."""
TRANSPORTS_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
RANGE_VARIABLE = "ROS_AUTOMATIC_DISCOVERY_RANGE"


class SharedMemory(NamedTuple):
    """The shared memory of one DDS participant.

    Attributes:
        segment: its size in bytes; 0 is no shared memory.
        source: what sets the size, for people.
    """

    segment: int
    source: str


BUILT_IN = SharedMemory(BUILT_IN_SEGMENT, "built into Fast DDS")


def shared_memory(around: Surroundings, frame: int, known: bool) -> Iterator[Finding]:
    """Compare the shared memory of Fast DDS with the size of a camera's images.

    Args:
        around: the machine to examine.
        frame: bytes of one image.
        known: whether a camera sends such images; if not, too little memory is only a note.
    """
    middleware = around.environment.get("RMW_IMPLEMENTATION", "")
    if middleware and not middleware.startswith(FAST_DDS):
        yield note(
            "shared memory",
            f"{middleware} is in use, and this command knows only Fast DDS",
            "see its manual for images between processes, or unset RMW_IMPLEMENTATION",
        )
        return
    try:
        memory = in_force(around)
    except ValueError as error:
        yield problem("shared memory", str(error), _remedy(around))
        return
    if memory == BUILT_IN and _is_large_data(around):
        yield ok(
            "shared memory",
            f"{_megabytes(memory.segment)}, and {TRANSPORTS_VARIABLE} sends larger images by TCP",
        )
        return
    found = f"{_megabytes(memory.segment)} ({memory.source}) for images of {_megabytes(frame)}" + (
        "" if known else " (assumed)"
    )
    values = {"segment": memory.segment, "frame": frame}
    if memory.segment >= IMAGES * frame:
        yield ok("shared memory", found, **values)
    elif known:
        lost = f"{found}: best-effort ones are mostly lost, reliable ones are late"
        yield problem("shared memory", lost, _remedy(around), **values)
    else:
        lost = f"{found}: best-effort ones would mostly be lost, reliable ones be late"
        yield note("shared memory", lost, _remedy(around), **values)


def in_force(around: Surroundings) -> SharedMemory:
    """Return the shared memory of a process started with these environment variables.

    Raises:
        ValueError: they name a profile file that cannot be used.
    """
    old = is_old(around.environment)
    variable = profile_variable(around.environment)
    other = PROFILE_VARIABLE if old else OLD_PROFILE_VARIABLE
    if old and around.environment.get(other) and not around.environment.get(variable):
        raise ValueError(
            f"{other} is set, but {around.environment['ROS_DISTRO']} reads {variable} only"
        )
    path = around.environment.get(variable) or around.environment.get(other)
    if path:
        segment = profile_segment(Path(path))
        if segment is not None:
            return SharedMemory(segment, path)
    return _built_in(around)


def profile_segment(path: Path) -> int | None:
    """Bytes of shared memory in the default profile of a Fast DDS file; None if it has none.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        tree = ElementTree.parse(path)
    except OSError as error:
        raise ValueError(f"the profile {path} cannot be read: {error.strerror}") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"the profile {path} is not XML: {error}") from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]  # the namespace is optional
    chosen = next(
        (p for p in tree.iter("participant") if p.get("is_default_profile") == "true"), None
    )
    if chosen is None:
        return None
    used = {element.text for element in chosen.iterfind("rtps/userTransports/transport_id")}
    segments = [
        _bytes(transport, path)
        for transport in tree.iter("transport_descriptor")
        if transport.findtext("transport_id") in used and transport.findtext("type") == "SHM"
    ]
    if segments:
        return max(segments)
    return 0 if chosen.findtext("rtps/useBuiltinTransports") == "false" else None


def _bytes(transport: ElementTree.Element, path: Path) -> int:
    size = transport.findtext("segment_size", str(BUILT_IN_SEGMENT)).strip()
    if not size.isdecimal():
        raise ValueError(f"the profile {path} has the segment_size '{size}', which is not a number")
    return int(size)


def _built_in(around: Surroundings) -> SharedMemory:
    transports = around.environment.get(TRANSPORTS_VARIABLE, "DEFAULT")
    if transports.startswith(("UDP", "TCP")):
        return SharedMemory(0, f"{TRANSPORTS_VARIABLE}={transports}")
    return BUILT_IN


def _is_large_data(around: Surroundings) -> bool:
    """Whether Fast DDS sends images that exceed its shared memory by TCP."""
    chosen = around.environment.get(TRANSPORTS_VARIABLE, "").startswith("LARGE_DATA")
    return chosen and not _is_local(around)


def _is_local(around: Surroundings) -> bool:
    """Whether discovery is limited to processes on this machine."""
    variables = around.environment
    return (
        variables.get("ROS_LOCALHOST_ONLY") == "1" or variables.get(RANGE_VARIABLE) == "LOCALHOST"
    )


def _remedy(around: Surroundings) -> str:
    variable = profile_variable(around.environment)
    try:
        path = str(resource_directory("config") / "fastdds_shm.xml")
    except FileNotFoundError:
        path = "<share of compact_yolo_ros>/config/fastdds_shm.xml"
    return f"export {variable}={quote(path)} where the camera is started"


def memory_folder(around: Surroundings, segment: int) -> Iterator[Finding]:
    """Report whether /dev/shm has room for the segment, in bytes, of one more process."""
    try:
        facts = os.statvfs(around.root / "dev/shm")
    except OSError as error:
        yield problem("/dev/shm", error.strerror or str(error), "mount a tmpfs there")
        return
    total, free = facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize
    found = f"{_megabytes(free)} of {_megabytes(total)} are free"
    larger = "start the container with --shm-size=1g, or share the host's with --ipc=host"
    values = {"total": total, "free": free}
    if free < segment:
        yield problem("/dev/shm", f"{found}, one process needs {_megabytes(segment)}", larger)
    elif total <= DOCKER_MEMORY:
        yield note("/dev/shm", f"{found}: enough for few processes", larger, **values)
    else:
        yield ok("/dev/shm", found, **values)


def has_domain(around: Surroundings) -> bool:
    """Whether the domain is one: DDS ends the process of a node where it is not."""
    given = around.environment.get("ROS_DOMAIN_ID", "") or "0"
    return bool(re.fullmatch(r"\d{1,9}", given, re.ASCII)) and int(given) <= LAST_DOMAIN


def discovery(around: Surroundings) -> Iterator[Finding]:
    """Report the domain, the range and what else decides which processes find each other."""
    given = around.environment.get("ROS_DOMAIN_ID", "")
    if not given:
        yield ok("ROS_DOMAIN_ID", "not set: 0")
    elif not has_domain(around):
        yield problem("ROS_DOMAIN_ID", f"'{given}' is not a domain", "set it to 0 to 101")
    elif int(given) not in SAFE_DOMAINS:
        yield note(
            "ROS_DOMAIN_ID", f"{given} may collide with other programs' ports", "use 0 to 101"
        )
    else:
        yield ok("ROS_DOMAIN_ID", given)
    yield from _range(around)
    for name in (PROFILE_VARIABLE, OLD_PROFILE_VARIABLE, TRANSPORTS_VARIABLE):
        if value := around.environment.get(name):
            yield ok(name, value)
    if value := around.environment.get("ROS_DISCOVERY_SERVER"):
        yield note(
            "ROS_DISCOVERY_SERVER",
            f"{value}: only processes registered there are found",
            "set it for all processes or for none",
        )


def _range(around: Surroundings) -> Iterator[Finding]:
    reach = around.environment.get(RANGE_VARIABLE, "")
    local = around.environment.get("ROS_LOCALHOST_ONLY") == "1"
    if reach == "OFF":
        yield problem(RANGE_VARIABLE, "OFF: no process finds another", f"unset {RANGE_VARIABLE}")
    elif _is_local(around):
        found = "only processes on this machine are found"
        if around.environment.get(TRANSPORTS_VARIABLE, "").startswith("LARGE_DATA"):
            found += f", and then {TRANSPORTS_VARIABLE}=LARGE_DATA has no effect"
        yield note(
            "ROS_LOCALHOST_ONLY" if local else RANGE_VARIABLE,
            found,
            "unset it if the camera is on another machine",
        )
    else:
        yield ok("discovery range", reach or "not set: the whole subnet")


def container(around: Surroundings) -> Iterator[Finding]:
    """Report a container, which sees others' shared memory and devices only with extra options."""
    if any((around.root / sign).exists() for sign in (".dockerenv", "run/.containerenv")):
        yield note(
            "container",
            "this command runs in one",
            "containers that exchange images need --ipc=host --network=host, and the same user",
        )


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
