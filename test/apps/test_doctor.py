# SPDX-License-Identifier: Apache-2.0
"""The command ``doctor`` and its probes: on recorded trees and made-up environments, one each."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from power_trees import JETSONS, LAPTOP, write
from toy_model import write_store, write_toy_model

from compact_yolo_ros.apps.doctor import (
    all_probes,
    dds_transport,
    devices,
    permissions,
    usable_backends,
    versions,
)
from compact_yolo_ros.apps.doctor import command as doctor
from compact_yolo_ros.apps.doctor import power_sources as power
from compact_yolo_ros.apps.doctor import stored_models as models
from compact_yolo_ros.apps.doctor.isolation import isolated
from compact_yolo_ros.apps.doctor.probe import Finding, Level, Surroundings, ok, problem
from compact_yolo_ros.backends import BACKENDS, RunOptions
from compact_yolo_ros.backends import choice as backend_choice
from compact_yolo_ros.backends import libraries as installing
from compact_yolo_ros.backends.fastest import Timing
from compact_yolo_ros.backends.libraries import Library
from compact_yolo_ros.backends.remembered import remember, subject_of
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.support.pip import pip_line
from compact_yolo_ros.support.termination import handling

ROOT = Path(__file__).resolve().parents[2]
PROFILE = str(ROOT / "config" / "fastdds_shm.xml")
FULL_HD = 1920 * 1080 * 3
MIB = 2**20
LONG = "a" * 300
"""A name that no file may have; the error is of the kind of that of a closed folder."""


@pytest.fixture
def around(tmp_path: Path) -> Callable[..., Surroundings]:
    """Surroundings of some files and variables."""

    def make(files: dict[str, str] | None = None, **environment: str) -> Surroundings:
        return Surroundings(write(tmp_path, files or {}), environment)

    return make


Around = Callable[..., Surroundings]


def one(findings: Iterator[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


# Isolation


def crash() -> Iterator[Finding]:
    yield ok("before", "fine")
    os.kill(os.getpid(), signal.SIGKILL)  # SIGSEGV would make pytest print a stack


def hang() -> Iterator[Finding]:
    yield ok("before", "fine")
    time.sleep(60)


def leave() -> Iterator[Finding]:
    yield ok("before", "fine")
    os._exit(3)


def ask_to_end() -> Iterator[Finding]:
    yield ok("before", "fine")
    sys.exit("no licence")


def fail() -> Iterator[Finding]:
    yield ok("before", "fine")
    raise KeyError("absent")


@pytest.mark.parametrize(
    ("probe", "sentence"),
    [
        (crash, "the examination crashed (SIGKILL)"),
        (hang, "the examination did not end within 1 s"),
        (leave, "the examination ended by itself with code 3"),
        (ask_to_end, "it failed: SystemExit: no licence"),
        (fail, "it failed: KeyError: 'absent'"),
    ],
)
def test_a_probe_that_goes_wrong_is_a_problem_after_what_it_found(
    probe: Callable[[], Iterator[Finding]], sentence: str
) -> None:
    before, after = isolated("library", probe, seconds=1)
    assert before.found == "fine"
    assert (after.level, after.found) == (Level.PROBLEM, sentence)
    assert after.remedy


def test_what_a_probe_prints_stays_out_of_the_report(capfd: pytest.CaptureFixture[str]) -> None:
    def chatter() -> Iterator[Finding]:
        os.write(1, b"a library says hello\n")
        yield ok("x", "y")

    assert len(list(isolated("x", chatter, 10))) == 1
    assert "hello" not in capfd.readouterr().out


# Versions


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """A made-up library that is there with this source."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(source: str, purpose: str = "") -> Library:
        (tmp_path / "madeup.py").write_text(source)
        return Library("Made-up", "madeup", "made-up", purpose)

    yield make
    sys.modules.pop("madeup", None)


def test_the_version_of_a_library_is_reported(library: Callable) -> None:
    (found,) = versions.library(library("__version__ = '1.2.3'"))
    assert (found.level, found.found) == (Level.OK, "1.2.3")


def test_a_library_without_a_version_has_that_of_its_distribution() -> None:
    (found,) = versions.library(Library("YAML", "yaml.tokens", "PyYAML"))
    assert found.found == metadata.version("PyYAML")


def test_a_library_that_is_installed_but_broken_is_a_problem(library: Callable) -> None:
    broken = library("raise ImportError('libfoo.so.3: not found\\nmore')", "something")
    (found,) = versions.library(broken)
    assert found.level is Level.PROBLEM
    assert found.found == "installed, but it cannot be imported: libfoo.so.3: not found"
    assert found.remedy == pip_line("--force-reinstall", "made-up")


@pytest.mark.parametrize(
    "said",
    [
        "numpy.core.multiarray failed to import",
        "numpy.dtype size changed, may indicate binary incompatibility.",
        "module compiled against ABI version 0x1000009 but this version of numpy is 0x2000000",
    ],
)
def test_a_library_for_another_numpy_comes_with_the_numpy_that_fits(
    library: Callable, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    page = "print('A module that was compiled using NumPy 1.x', file=__import__('sys').stderr)"
    (found,) = versions.library(library(f"{page}\nraise ImportError({said!r})"))
    assert found.level is Level.PROBLEM
    assert found.found.startswith(f"it was built for another NumPy than {np.__version__} in /")
    assert found.remedy == pip_line("numpy")
    assert capfd.readouterr() == ("", "")


def test_what_a_library_prints_that_works_is_shown(
    library: Callable, capfd: pytest.CaptureFixture[str]
) -> None:
    [*versions.library(library("import sys; print('old', file=sys.stderr)"))]
    assert capfd.readouterr().err == "old\n"


def test_a_library_that_crashes_is_a_problem(library: Callable) -> None:
    broken = library("import os; os.kill(os.getpid(), 9)")
    (found,) = isolated("versions", lambda: versions.library(broken), 20)
    assert (found.level, "SIGKILL" in found.found) == (Level.PROBLEM, True)


def test_a_missing_library_matters_only_if_it_is_needed() -> None:
    missing = Library("Nowhere", "no_such_module", "no-such-module")
    (found,) = versions.library(missing)
    assert (found.level, found.remedy) == (Level.PROBLEM, pip_line("no-such-module"))
    (found,) = versions.library(dataclasses.replace(missing, purpose="sports"))
    assert (found.level, found.found) == (Level.OK, "not installed; only needed for sports")


def test_without_ros_the_installation_to_source_is_named(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "find_spec", lambda name: None)
    (found,) = versions.ros(around({"opt/ros/humble/setup.bash": "", "opt/ros/jazzy/x": ""}))
    assert (found.level, found.remedy) == (Level.NOTE, "source /opt/ros/humble/setup.bash")


def test_a_middleware_that_cannot_be_loaded_is_named(
    around: Around, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "python"  # rcl ends the process that loads it
    said = "[ERROR] [17.5] [rcl]: Expected rmw_x, found y"
    python.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 102")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(versions, "find_spec", lambda name: object())
    seen = around(ROS_DISTRO="jazzy", RMW_IMPLEMENTATION="rmw_zenoh_cpp")
    distribution, middleware = versions.ros(seen)
    assert (distribution.level, distribution.found) == (Level.OK, "jazzy")
    assert middleware.level is Level.PROBLEM
    assert middleware.found == "rmw_zenoh_cpp cannot be loaded: Expected rmw_x, found y"


def test_the_cuda_version_of_the_driver_is_reported(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuDriverGetVersion(self, version: object) -> int:  # noqa: N802
            version._obj.value = 12060  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(versions.ctypes, "CDLL", Library)
    module = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03"
    (found,) = versions.cuda_driver(around({"proc/driver/nvidia/version": f"{module}\nGCC"}))
    assert found.found == f"for CUDA 12.6, {module}"


def test_a_missing_cuda_driver_is_fine(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(versions.ctypes, "CDLL", missing)
    (found,) = versions.cuda_driver(around())
    assert found.level is Level.OK


# Devices


def test_model_release_and_accelerators_of_a_jetson_are_reported(around: Around) -> None:
    tree = {
        **JETSONS["AGX Orin"][0],
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        "dev/nvhost-ctrl-nvdla0": "",
        "dev/nvhost-ctrl-nvdla1": "",
    }
    board, dla = devices.jetson(around(tree))
    assert (board.level, board.found) == (
        Level.OK,
        "NVIDIA Jetson AGX Orin Developer Kit, L4T 35.6.0",
    )
    assert dla.found == "/dev/nvhost-ctrl-nvdla0, /dev/nvhost-ctrl-nvdla1"


@pytest.mark.parametrize("board", ["Nano", "Xavier NX", "AGX Xavier"])
def test_a_jetpack_that_is_too_old_is_named(board: str, around: Around) -> None:
    found = one(devices.jetson(around(JETSONS[board][0])), "Jetson")
    assert (found.level, "L4T 32.7.1" in found.found) == (Level.NOTE, True)


def test_a_jetson_is_reported_in_a_container_that_does_not_name_it(around: Around) -> None:
    found = one(devices.jetson(around({"sys/devices/soc0/family": "Tegra"})), "Jetson")
    assert (found.level, "bind that file from the host" in found.remedy) == (Level.NOTE, True)


def test_other_machines_are_not_jetsons(around: Around) -> None:
    assert list(devices.jetson(around(LAPTOP))) == []


CARD = {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA A2\nIRQ: 1"}


def test_a_graphics_card_is_named(around: Around) -> None:
    (found,) = devices.gpus(around({**CARD, "dev/nvidia0": ""}))
    assert (found.level, found.found) == (Level.OK, "NVIDIA A2 (/dev/nvidia0)")


def test_a_card_that_the_container_hides_is_a_note(around: Around) -> None:
    (found,) = devices.gpus(around(CARD))
    assert (found.level, "--gpus all" in found.remedy) == (Level.NOTE, True)


def test_a_missing_card_is_fine(around: Around) -> None:
    (found,) = devices.gpus(around())
    assert found.level is Level.OK


@pytest.mark.parametrize(("available", "level"), [("16000000", Level.OK), ("100000", Level.NOTE)])
def test_little_memory_is_a_note(around: Around, available: str, level: Level) -> None:
    text = f"MemTotal:       16384000 kB\nMemFree: 9 kB\nMemAvailable:   {available} kB"
    (found,) = devices.memory(around({"proc/meminfo": text}))
    assert found.level is level


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "250000 100000"},
        {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
    ],
    ids=["cgroup 2", "cgroup 1"],
)
def test_the_threads_of_a_container_are_those_that_it_has_time_for(
    around: Around, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    limited = around({f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    _, cores = devices.processor(limited)
    assert (cores.level, cores.data["threads"]) == (Level.OK, 2)
    assert "for the time of 2.5, so cpu_threads 0 means 2" in cores.found


def test_a_container_with_less_time_than_a_core_has_is_a_note(around: Around) -> None:
    _, cores, limit = devices.processor(around({"sys/fs/cgroup/cpu.max": "50000 100000"}))
    assert cores.data["threads"] == 1
    assert (limit.level, "50% of the time of one core" in limit.found) == (Level.NOTE, True)


def test_a_container_without_a_limit_is_no_note(around: Around) -> None:
    free = devices.processor(around({"sys/fs/cgroup/cpu.max": "max 100000"}))
    assert [finding.name for finding in free] == ["processor", "cores"]


# Transports


def memory(around: Surroundings, frame: int = FULL_HD, known: bool = True) -> Finding:
    (found,) = dds_transport.shared_memory(around, frame, known)
    return found


def test_a_frame_that_does_not_fit_is_a_problem_with_the_line_that_fixes_it(around: Around) -> None:
    found = memory(around())
    assert found.level is Level.PROBLEM
    # docs/dds.md has what was measured of both
    assert found.found.endswith("best-effort ones are mostly lost, reliable ones are late")
    assert found.data == {"segment": 512 * 1024, "frame": FULL_HD}
    assert found.remedy.startswith(f"export FASTDDS_DEFAULT_PROFILES_FILE={PROFILE} ")


def test_a_frame_that_no_camera_sends_is_only_a_note(around: Around) -> None:
    found = memory(around(), known=False)
    assert found.level is Level.NOTE and "would mostly be lost, reliable ones be" in found.found


def test_a_small_frame_fits_as_it_is(around: Around) -> None:
    assert memory(around(), frame=320 * 240 * 3).level is Level.OK


def test_with_the_profile_of_the_package_it_fits(around: Around) -> None:
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=PROFILE))
    assert (found.level, found.data["segment"]) == (Level.OK, 32 * MIB)
    assert PROFILE in found.found


def test_on_older_distributions_the_other_variable_counts(around: Around) -> None:
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=PROFILE, ROS_DISTRO="jazzy"))
    assert found.level is Level.PROBLEM
    assert "jazzy reads FASTRTPS_DEFAULT_PROFILES_FILE only" in found.found
    assert found.remedy.startswith("export FASTRTPS_DEFAULT_PROFILES_FILE=")
    found = memory(around(FASTRTPS_DEFAULT_PROFILES_FILE=PROFILE, ROS_DISTRO="jazzy"))
    assert found.level is Level.OK


def profile(default: str = "true", built_in: str = "false", kind: str = "SHM") -> str:
    return f"""<profiles><transport_descriptors>
      <transport_descriptor><transport_id>a</transport_id><type>{kind}</type>
        <segment_size>20000000</segment_size></transport_descriptor>
      <transport_descriptor><transport_id>unused</transport_id><type>SHM</type>
        <segment_size>90000000</segment_size></transport_descriptor></transport_descriptors>
      <participant is_default_profile="{default}"><rtps>
        <userTransports><transport_id>a</transport_id></userTransports>
        <useBuiltinTransports>{built_in}</useBuiltinTransports></rtps></participant></profiles>"""


@pytest.mark.parametrize(
    ("text", "segment"),
    [
        (profile(), 20_000_000),
        (profile(default="false"), 512 * 1024),
        (profile(kind="UDPv4"), 0),
        (profile(kind="UDPv4", built_in="true"), 512 * 1024),
    ],
)
def test_a_profile_counts_only_as_far_as_it_is_in_force(
    around: Around, tmp_path: Path, text: str, segment: int
) -> None:
    path = tmp_path / "own.xml"
    path.write_text(text)
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=str(path)))
    assert found.data["segment"] == segment


def test_a_profile_that_cannot_be_used_is_a_problem(around: Around, tmp_path: Path) -> None:
    path = tmp_path / "own.xml"
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=str(path)))
    assert (found.level, "cannot be read: No such file" in found.found) == (Level.PROBLEM, True)
    path.write_text("<dds>")
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=str(path)))
    assert (found.level, "is not XML" in found.found) == (Level.PROBLEM, True)
    path.write_text(profile().replace("20000000", "20 MB"))
    found = memory(around(FASTDDS_DEFAULT_PROFILES_FILE=str(path)))
    assert (found.level, "segment_size '20 MB', which is not" in found.found) == (
        Level.PROBLEM,
        True,
    )


def test_udp_alone_has_no_shared_memory(around: Around) -> None:
    assert memory(around(FASTDDS_BUILTIN_TRANSPORTS="UDPv4")).data["segment"] == 0


def test_large_data_carries_large_images_unless_it_has_no_effect(around: Around) -> None:
    large = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA?max_msg_size=1MB"}
    assert memory(around(**large)).level is Level.OK
    local = memory(around(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST", **large))
    assert local.level is Level.PROBLEM


def test_another_middleware_is_not_judged(around: Around) -> None:
    assert memory(around(RMW_IMPLEMENTATION="rmw_zenoh_cpp")).level is Level.NOTE


@pytest.mark.parametrize(
    ("total", "free", "level", "remedy"),
    [
        (1024, 900, Level.OK, ""),
        (64, 60, Level.NOTE, "--shm-size=1g"),
        (64, 20, Level.PROBLEM, "--shm-size=1g"),
    ],
)
def test_dockers_shared_memory_is_found_small(
    around: Around,
    monkeypatch: pytest.MonkeyPatch,
    total: int,
    free: int,
    level: Level,
    remedy: str,
) -> None:
    facts = SimpleNamespace(f_blocks=total, f_bavail=free, f_frsize=MIB)
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    (found,) = dds_transport.memory_folder(around(), 32 * MIB)
    assert (found.level, remedy in found.remedy) == (level, True)


@pytest.mark.parametrize(
    ("domain", "level"),
    [
        *(("", Level.OK), ("42", Level.OK), ("150", Level.NOTE), ("233", Level.PROBLEM)),
        *((text, Level.PROBLEM) for text in ("x", "²", "٣", "9" * 5000)),
    ],
)
def test_a_domain_that_cannot_be_used_is_a_problem(
    around: Around, domain: str, level: Level
) -> None:
    found = one(dds_transport.discovery(around(ROS_DOMAIN_ID=domain)), "ROS_DOMAIN_ID")
    assert found.level is level


def test_nobody_looks_for_cameras_in_a_domain_that_is_none(around: Around) -> None:
    """DDS ends the process there, which was a problem to report to the maintainers."""
    options = all_probes.DoctorOptions(around(ROS_DOMAIN_ID="999"), "toy", listen=0)
    assert list(all_probes._cameras(options, True)) == []


@pytest.mark.parametrize(
    ("variables", "level", "sentence"),
    [
        ({}, Level.OK, "subnet"),
        ({"ROS_LOCALHOST_ONLY": "1"}, Level.NOTE, "only processes on this machine"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, Level.NOTE, "only processes on"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, Level.PROBLEM, "no process finds another"),
        (
            {
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
            },
            Level.NOTE,
            "LARGE_DATA has no effect",
        ),
    ],
)
def test_the_range_of_discovery_is_reported(
    around: Around, variables: dict[str, str], level: Level, sentence: str
) -> None:
    _, found, *_ = dds_transport.discovery(around(**variables))
    assert (found.level, sentence in found.found) == (level, True)


def test_a_container_is_a_note_with_what_it_must_share(around: Around) -> None:
    assert list(dds_transport.container(around())) == []
    (found,) = dds_transport.container(around({".dockerenv": ""}))
    assert (found.level, "--ipc=host" in found.remedy) == (Level.NOTE, True)


# Permissions


def test_devices_that_may_not_be_opened_come_with_the_group(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "_group", lambda path: "video")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: "nv" not in p.name and allowed(p, mode))
    tree = {f"dev/{name}": "" for name in ("nvmap", "nvhost-gpu", "nvhost-ctrl", "video0")}
    machine = around(tree)
    for name in tree:
        (machine.root / name).chmod(0o660)
    (found,) = permissions.devices(machine)
    assert found.level is Level.PROBLEM
    assert found.found.startswith("/dev/nvhost-ctrl, /dev/nvhost-gpu, /dev/nvmap may not be")
    assert found.remedy.startswith("sudo usermod -aG video $USER")


@pytest.mark.parametrize(("group", "mode"), [("root", 0o660), ("video", 0o600), ("video", 0o640)])
def test_nobody_is_sent_into_a_group_that_does_not_help(
    around: Around, monkeypatch: pytest.MonkeyPatch, group: str, mode: int
) -> None:
    monkeypatch.setattr(permissions, "_group", lambda path: group)
    monkeypatch.setattr(os, "access", lambda *_: False)
    machine = around({"dev/video0": ""})
    (machine.root / "dev/video0").chmod(mode)
    (found,) = permissions.devices(machine)
    assert found.level is Level.PROBLEM
    assert "usermod" not in found.remedy and "udev" in found.remedy


def test_devices_that_may_be_opened_are_counted(around: Around) -> None:
    (found,) = permissions.devices(around({"dev/nvmap": "", "dev/nvidia-caps/cap1": ""}))
    assert (found.level, found.found) == (Level.OK, "all 1 of GPUs and cameras may be used")


def test_a_counter_that_is_for_root_only_is_a_note(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(permissions.meters(around(LAPTOP)), "RAPL").level is Level.OK
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "energy_uj")
    found = one(permissions.meters(around(LAPTOP)), "RAPL")
    assert (found.level, "udev" in found.remedy) == (Level.NOTE, True)


def test_tegrastats_is_looked_for_on_a_jetson_only(around: Around, tmp_path: Path) -> None:
    assert list(permissions.meters(around())) == []
    tool = tmp_path / "bin" / "tegrastats"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    jetson = around(JETSONS["Nano"][0], PATH=str(tool.parent))
    assert one(permissions.meters(jetson), "tegrastats").found == str(tool)


def test_a_cache_that_cannot_be_written_is_a_note(
    around: Around, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (found,) = permissions.cache(around())
    assert found.level is Level.OK
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nobody")  # where not even root can make a file
    (found,) = permissions.cache(around())
    assert (found.level, "/proc may not be written" in found.found) == (Level.NOTE, True)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody_of_that_name")
    (found,) = permissions.cache(around())
    assert (found.level, "home folder is not known" in found.found) == (Level.NOTE, True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / LONG))
    (found,) = permissions.cache(around())
    assert (found.level, "File name too long" in found.found) == (Level.NOTE, True)
    assert "engine_cache" in found.remedy


# Power


@pytest.mark.parametrize("board", JETSONS)
def test_every_source_of_a_jetson_shows_what_it_reads(
    board: str, around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLE", 0)
    tree, source, watts, mode, *_ = JETSONS[board]
    found = {finding.name: finding for finding in power.sources(around(tree))}
    assert f"{watts:.2f} W" in found["INA3221"].found
    assert f"mode {mode}" in found["Jetson"].found
    assert found["RAPL"].found.startswith("not used: ")
    chosen = {finding.name: finding for finding in power.choice(around(tree), True)}
    assert chosen["watts"].found == f"{watts:.2f} W by {source}"
    assert ("throttling" in chosen) == (board == "AGX Orin")


def test_unknown_watts_are_a_note_with_the_reasons(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLE", 0)
    (found,) = power.choice(around(), False)
    assert found.level is Level.NOTE
    assert "RAPL: no processor package" in found.found


def test_a_source_that_reads_nonsense_is_a_note(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SETTLE", 0)
    tree = {**LAPTOP, "sys/class/power_supply/BAT0/power_now": "lots"}
    found = one(power.sources(around(tree)), "battery")
    assert (found.level, "'lots' makes no sense" in found.found) == (Level.NOTE, True)


# Models


def test_the_shipped_models_are_checked() -> None:
    found = list(models.own_models(Surroundings(Path("/"), {})))
    assert found
    assert all(f.level is Level.OK and "checksum right" in f.found for f in found)


def test_an_altered_model_is_a_problem(
    around: Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path)
    monkeypatch.setattr("compact_yolo_ros.model.store.resource_directory", lambda name: store)
    (found,) = models.own_models(around())
    assert (found.name, found.level) == ("toy", Level.OK)
    (store / "toy.onnx").write_bytes(b"altered")
    (found,) = models.own_models(around())
    assert (found.level, "SHA-256 differs" in found.found) == (Level.PROBLEM, True)


def test_the_users_folders_are_examined(around: Around, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    seen = around(COMPACT_YOLO_MODELS=f"{folder}:{tmp_path / 'nowhere'}")
    empty, absent = models.user_models(seen)
    assert (empty.level, absent.level) == (Level.NOTE, Level.PROBLEM)
    write_toy_model(folder / "good.onnx")
    write_toy_model(folder / "bare.onnx", card=None)
    bare, good, _ = models.user_models(seen)
    assert (bare.name, bare.level) == ("bare", Level.PROBLEM)
    assert (good.name, good.level) == ("good", Level.OK)


@pytest.mark.parametrize(
    ("folder", "why"),
    [("nowhere", "No such file"), ("file", "Not a directory"), (LONG, "name too long")],
)
def test_why_a_folder_of_the_user_cannot_be_read(
    around: Around, tmp_path: Path, folder: str, why: str
) -> None:
    (tmp_path / "file").touch()
    (found,) = models.user_models(around(COMPACT_YOLO_MODELS=str(tmp_path / folder)))
    assert (found.level, found.name) == (Level.PROBLEM, "COMPACT_YOLO_MODELS")
    assert why in found.found


def test_a_model_that_replaces_one_of_the_package_is_named(
    around: Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = tmp_path / "store", tmp_path / "mine"
    for each in (store, folder):
        each.mkdir()
    write_store(store)
    write_toy_model(folder / "toy.onnx")
    monkeypatch.setattr("compact_yolo_ros.model.store.resource_directory", lambda name: store)
    monkeypatch.setenv("COMPACT_YOLO_MODELS", str(folder))
    (found,) = models.own_models(around())
    assert found.level is Level.OK and f"checksum right: {store / 'toy.onnx'}" in found.found
    (found,) = models.user_models(around(COMPACT_YOLO_MODELS=str(folder)))
    assert (found.name, found.level) == ("toy", Level.OK)
    assert "used for the package's own of that name" in found.found


# Backends


@pytest.fixture
def toy(tmp_path: Path) -> str:
    return str(write_toy_model(tmp_path / "toy.onnx"))


def test_the_backend_that_auto_takes_is_named_with_the_reason(
    around: Around, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(backend_choice, "GPU_DEVICES", (tmp_path / "none",))
    (found,) = usable_backends.choice(around(), toy)
    assert found.level is Level.OK
    assert found.found.startswith("onnxruntime on CPU: no TensorRT: TensorRT cannot be imported")


def test_what_was_timed_here_is_shown(
    around: Around, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (found,) = usable_backends.timings(around(), toy)
    assert (found.level, found.found.partition(":")[0]) == (Level.OK, "none yet")
    model = find_model(toy)
    options = RunOptions(toy).resolved(model.card)
    remember(model, options, [Timing("onnxruntime", "fp32", 2, 8.5, 12.0)])
    (found,) = usable_backends.timings(around(), toy)
    expected = "onnxruntime fp32 2 threads 8.5 ms (CPU 12.0 ms), timed here at 320x320"
    assert (found.level, found.found) == (Level.OK, expected)
    assert found.data["timings"][0]["threads"] == 2
    path = subject_of(model).path
    path.write_text("{")
    (found,) = usable_backends.timings(around(), toy)
    assert found.level is Level.NOTE
    assert found.found.startswith(f"the timings in {path} are ignored: it is not JSON")


def test_tensorrt_is_missed_only_where_there_is_a_gpu(
    around: Around, toy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(installing, "JETSON_RELEASE", tmp_path / "none")
    (found,) = usable_backends.usable(around(), BACKENDS["tensorrt"], toy)
    assert found.level is Level.OK
    (found,) = usable_backends.usable(around({"dev/nvidia0": ""}), BACKENDS["tensorrt"], toy)
    assert (found.level, found.remedy) == (Level.PROBLEM, pip_line("tensorrt"))


def test_onnx_runtime_is_always_needed(
    around: Around, toy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = usable_backends.usable(around(), BACKENDS["onnxruntime"], toy)
    assert (found.level, "runs toy in fp32 on CPU" in found.found) == (Level.OK, True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (found,) = usable_backends.usable(around(), BACKENDS["onnxruntime"], toy)
    assert (found.level, found.remedy) == (Level.PROBLEM, pip_line("onnxruntime"))


# The command


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without ROS, on which only one thing is broken or nothing."""
    monkeypatch.setattr("compact_yolo_ros.apps.doctor.versions.find_spec", absent)
    monkeypatch.setattr("compact_yolo_ros.apps.doctor.cameras.find_spec", absent)
    monkeypatch.setattr(all_probes, "LIBRARIES", all_probes.LIBRARIES[:1])
    monkeypatch.setattr(power, "SETTLE", 0)
    monkeypatch.delenv("RMW_IMPLEMENTATION", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def absent(name: str) -> object | None:
    return None if name == "rclpy" else object()


ALONE = """
import sys
from compact_yolo_ros.apps.doctor import all_probes, cameras, command, power_sources, versions

def absent(name):
    return None if name == "rclpy" else object()

versions.find_spec = cameras.find_spec = absent
all_probes.LIBRARIES = all_probes.LIBRARIES[:1]
power_sources.SETTLE = 0
sys.exit(command.main(sys.argv[1:]))
"""


@pytest.fixture
def run_doctor(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command on the machine of ``examined``, in a process of its own.

    Its probes are forks: in one of this process, a runtime that another test has loaded would wait
    for threads that are not there.
    """

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        left_out = ("RMW_IMPLEMENTATION", "FASTDDS_DEFAULT_PROFILES_FILE")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return subprocess.run(
            [sys.executable, "-c", ALONE, *arguments],
            cwd=ROOT,
            env={**kept, "XDG_CACHE_HOME": str(tmp_path), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


Doctor = Callable[..., "subprocess.CompletedProcess[str]"]

WITHOUT_ROS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"rclpy", "rcl_interfaces", "diagnostic_msgs", "launch"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())
import compact_yolo_ros.apps.build_engine
import compact_yolo_ros.apps.doctor.command
"""


def test_the_commands_can_be_loaded_without_ros() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_a_middleware_the_rest_is_examined(
    examined: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(around: Surroundings) -> Iterator[Finding]:
        yield problem("middleware", "it cannot be loaded", "install it")

    def deadly(seconds: float) -> Iterator[Finding]:
        os._exit(102)
        yield

    monkeypatch.setattr(versions, "ros", broken)
    monkeypatch.setattr("compact_yolo_ros.apps.doctor.cameras.cameras", deadly)
    assert doctor.main(["--model", "nowhere.onnx"]) == 1
    assert "\nproblems: 2, " in capsys.readouterr().out  # the model is the other one


def test_it_runs_without_ros_and_without_a_gpu(run_doctor: Doctor, toy: str) -> None:
    done = run_doctor("--model", toy)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    sections = [line for line in lines if line and not line.startswith(" ")][:-1]
    assert sections == [
        *("versions", "devices", "cameras", "transports", "permissions", "power", "models"),
        "backends",
    ]
    assert all(len(line) <= doctor.WIDTH or " " not in line.strip() for line in lines)
    assert lines[-1].startswith("problems: 0, ")


def test_a_problem_is_the_exit_code_and_comes_with_a_remedy(run_doctor: Doctor, toy: str) -> None:
    done = run_doctor("--model", toy, ROS_DOMAIN_ID="999")
    assert done.returncode == 1
    assert (
        "  problem ROS_DOMAIN_ID: '999' is not a domain\n          -> set it to 0 to 101"
        in done.stdout
    )


def test_a_model_that_is_not_there_is_one_problem(
    examined: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.main(["--gpu", "--model", "nowhere.onnx"]) == 1
    printed = capsys.readouterr().out
    assert "  problem --model: no backend was tried: there is no model file nowhere.onnx" in printed
    assert "\nproblems: 1, " in printed


def test_listening_for_a_long_time_is_not_cut_short(
    examined: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(seconds: float) -> Iterator[Finding]:
        time.sleep(1)
        yield ok("/image", "640x480 bgr8")

    monkeypatch.setattr("compact_yolo_ros.apps.doctor.cameras.cameras", slow)
    monkeypatch.setattr("compact_yolo_ros.apps.doctor.all_probes.PATIENCE", 0.5)
    doctor.main(["--listen", "20", "--model", "nowhere.onnx"])
    assert "OK      /image: 640x480 bgr8" in capsys.readouterr().out


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_it_ends_quietly_when_interrupted_or_its_reader_leaves(
    end: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def examine(order: object) -> Iterator[tuple[str, Finding]]:
        raise end
        yield

    monkeypatch.setattr(doctor, "examine", examine)
    monkeypatch.setattr(os, "dup2", lambda *arguments: None)  # pytest still needs its output
    assert doctor.main([]) == code


def test_a_report_that_cannot_be_written_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda _: iter([("versions", ok("Python", "3"))]))
    with Path("/dev/full").open("w", 1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert doctor.main([]) == 1
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    said = capsys.readouterr().err
    assert said == "doctor: the report cannot be written: No space left on device\n"


def test_sigterm_ends_the_probe_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[int] = []

    def slow() -> Iterator[Finding]:
        yield ok("process", str(os.getpid()))
        time.sleep(60)

    def examine(order: object) -> Iterator[tuple[str, Finding]]:
        for finding in isolated("slow", slow, 60):
            probes.append(int(finding.found))
            yield "slow", finding
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(doctor, "examine", examine)
    with handling(signal.SIGTERM, lambda *_: pytest.fail("it would have ended at once")):
        assert doctor.main([]) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(probes[0], 0)


def test_json_holds_the_same(run_doctor: Doctor, toy: str) -> None:
    done = run_doctor("--json", "--model", toy, "--image-size", "1920x1080")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["exit_code"] == 1
    (memory,) = [f for f in report["sections"]["transports"] if f["name"] == "shared memory"]
    assert memory["level"] == "problem"
    assert memory["data"] == {"segment": 512 * 1024, "frame": FULL_HD}
    assert "fastdds_shm.xml" in memory["remedy"]


@pytest.mark.parametrize("size", ["1920", "0x10", "axb", "1920x1080x3"])
def test_an_image_size_that_makes_no_sense_is_refused(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        doctor.main(["--image-size", size])
    assert end.value.code == 2
    assert f"'{size}' is not like 1920x1080" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["-1", "nan", "long"])
def test_an_impossible_time_to_listen_is_refused(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        doctor.main(["--listen", seconds])
    assert f"'{seconds}' is not a number of seconds" in capsys.readouterr().err


def test_a_limit_of_open_files_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def probe() -> Iterator[Finding]:
        exhausted()
        yield ok("never", "")

    (inside,) = isolated("library", probe, 10)
    monkeypatch.setattr(os, "pipe", exhausted)
    (before,) = isolated("library", probe, 10)
    for found in (inside, before):
        assert (found.level, "Too many open files" in found.found) == (Level.PROBLEM, True)
        assert found.remedy.startswith("raise the limit")
