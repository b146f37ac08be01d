# SPDX-License-Identifier: Apache-2.0
"""The launch file with the real ``launch``, starting the real node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ament_index_python.packages import get_packages_with_prefixes
from diagnostic_msgs.msg import DiagnosticArray
from harness import PATIENCE, ROOT, Client, Start, values_of
from launching import LAUNCH
from rcl_interfaces.srv import GetParameters

pytest.importorskip("launch_ros", reason="launch comes with ROS 2, not as a Python wheel")
if "compact_yolo_ros" not in get_packages_with_prefixes():
    pytest.skip("compact_yolo_ros is not installed", allow_module_level=True)

# What a developer's shell may hold, and the tests set themselves.
CHOOSING_PROFILES = (
    "ROS_DISTRO",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
)


def begin(log: Path, arguments: dict[str, Any], **environment: str) -> subprocess.Popen[bytes]:
    """Start the launch file; everything it and the node print goes to ``log``."""
    texts = [f"{name}:={value}" for name, value in arguments.items()]
    variables = {k: v for k, v in os.environ.items() if k not in CHOOSING_PROFILES}
    variables |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment}
    with log.open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(ROOT / "launch/detector.launch.py"), *texts],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
        )


@pytest.fixture
def start(tmp_path: Path, client: Client) -> Iterator[Start]:
    """Launch, and return what is seen of the node; in the end everything must stop cleanly."""
    log = tmp_path / "launch.log"
    processes: list[subprocess.Popen[bytes]] = []

    def launch(environment: dict[str, str] | None = None, **arguments: Any) -> SimpleNamespace:
        diagnostics = client.collect(DiagnosticArray, "/diagnostics")
        processes.append(begin(log, arguments, **(environment or {})))
        try:
            client.wait_for(lambda: diagnostics)
        except AssertionError:
            raise AssertionError(log.read_text()) from None
        name = diagnostics[0].status[0].name.split(":")[0]

        def parameter(parameter_name: str) -> Any:
            service = f"{name}/get_parameters"
            (value,) = client.call(GetParameters, service, names=[parameter_name]).values
            fields = ("", "bool", "integer", "double", "string")
            return getattr(value, f"{fields[value.type]}_value")

        return SimpleNamespace(name=name, parameter=parameter, diagnostics=diagnostics)

    yield launch
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0, log.read_text()
        assert "finished cleanly" in log.read_text()


def node_pid() -> int:
    """The process of this test's node: the only one in its ROS domain."""
    domain = f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}\0".encode()
    (pid,) = (
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"detector_node\0" in _read(folder / "cmdline") and domain in _read(folder / "environ")
    )
    return pid


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes() + b"\0"
    except OSError:
        return b""


def profiles_of(pid: int) -> dict[str, str]:
    """The environment variables of a process that name Fast DDS a file."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(v.split("=", 1) for v in variables if "_DEFAULT_PROFILES_FILE=" in v)


def write_parameters(path: Path, pattern: str = "/**", **parameters: Any) -> Path:
    path.write_text(yaml.safe_dump({pattern: {"ros__parameters": parameters}}))
    return path


def test_arguments_reach_the_node(client: Client, start: Start, toy: str) -> None:
    node = start(
        model=toy,
        backend="onnxruntime",
        precision="fp32",
        input_size=352,
        image_topic="camera/image_raw",
        image_transport="compressed",
        namespace="robot",
        use_sim_time="True",
        log_level="warn",
    )
    assert node.name == "/robot/detector"
    values = client.wait_for(
        lambda: "image_topic" in (v := values_of(node.diagnostics[-1])) and v, PATIENCE
    )
    assert values["state"] == "active"  # autostart is true
    assert values["input_size"] == "352x352"
    assert values["image_topic"] == "/robot/camera/image_raw/compressed"
    for name, value in {"model": toy, "backend": "onnxruntime", "precision": "fp32"}.items():
        assert node.parameter(name) == value
    assert node.parameter("use_sim_time") is True
    profile = Path(profiles_of(node_pid())["FASTDDS_DEFAULT_PROFILES_FILE"])
    assert profile.name == "fastdds_detector.xml"
    assert profile.is_file()


def test_cameras_are_looked_for_below_their_names(client: Client, start: Start, toy: str) -> None:
    node = start(
        model=toy, cameras="['front', 'yes']", image_topic="color/image_raw", namespace="robot"
    )
    topics = ("/robot/front/color/image_raw", "/robot/yes/color/image_raw")
    # Two subscriptions each, as long as no publisher says how reliable it is.
    client.wait_for(lambda: all(client.node.count_subscribers(topic) == 2 for topic in topics))
    published = "/robot/detector/yes/detections"
    assert client.node.count_publishers(published) == 1
    assert node.name == "/robot/detector"


@pytest.mark.parametrize("pattern", ["/**", "detector", "/**/detector"])
def test_what_is_not_given_is_as_in_the_file(
    start: Start, tmp_path: Path, toy: str, pattern: str
) -> None:
    file = write_parameters(
        tmp_path / "own.yaml",
        pattern,
        model=toy,
        input_size=416,
        autostart=False,
        score_threshold=0.7,
        image_transport="compressed",
        use_sim_time=True,
    )
    node = start(params_file=file, input_size=320)
    assert node.parameter("input_size") == 320  # given, so it counts
    assert node.parameter("model") == toy
    assert node.parameter("image_transport") == "compressed"
    assert node.parameter("score_threshold") == 0.7
    assert node.parameter("use_sim_time") is True
    assert node.parameter("autostart") is False
    assert values_of(node.diagnostics[-1])["state"] == "unconfigured"


def test_it_starts_by_itself_with_a_file_that_does_not_say_so(
    start: Start, tmp_path: Path, toy: str
) -> None:
    file = write_parameters(tmp_path / "own.yaml", model=toy)
    assert start(params_file=file).parameter("autostart") is True


def test_older_distributions_know_another_variable(start: Start, toy: str) -> None:
    start({"ROS_DISTRO": "humble"}, model=toy)
    assert set(profiles_of(node_pid())) == {"FASTRTPS_DEFAULT_PROFILES_FILE"}


def test_the_environment_of_the_machine_is_respected(start: Start, toy: str) -> None:
    own = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds_shm.xml")}
    start(own, model=toy)
    assert profiles_of(node_pid()) == own


def test_dds_can_be_left_alone(start: Start, toy: str) -> None:
    start(model=toy, dds_profile="none")
    assert profiles_of(node_pid()) == {}


def test_a_killed_node_comes_back(client: Client, start: Start, toy: str) -> None:
    node = start(model=toy, respawn="true")
    first = node_pid()
    os.kill(first, signal.SIGKILL)
    node.diagnostics.clear()
    client.wait_for(lambda: node.diagnostics)
    assert node_pid() != first


@pytest.mark.parametrize(
    ("argument", "value", "sentence"),
    [
        ("backend", "abacus", "backend 'abacus' is not known: give one of auto, "),
        ("image_transport", "pigeon", "give one of raw, compressed"),
        ("input_size", "big", "'big' is not of the form 320 or WIDTHxHEIGHT"),
        ("input_size", "300", "give a multiple of 32 from 160 to 1280"),
        ("autostart", "perhaps", "autostart must be true or false, not 'perhaps'"),
        ("respawn", "[", "respawn must be true or false, not '['"),
        ("log_level", "loud", "Valid options are"),
        ("image_topic", "my camera", "Invalid topic name"),
        ("cameras", "front", "cameras must be a list as ['a', 'b'], not 'front'"),
        ("cameras", "['front', 'front']", "cameras: 'front' is given twice"),
        ("namespace", "my robot", "Invalid namespace"),
        ("params_file", "/nowhere.yaml", "params_file: there is no file /nowhere.yaml"),
        ("dds_profile", "nowhere.xml", "dds_profile: there is no file /"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_sentence(
    tmp_path: Path, argument: str, value: str, sentence: str
) -> None:
    log = tmp_path / "launch.log"
    assert begin(log, {argument: value}).wait(PATIENCE) == 1
    assert sentence in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "process started" not in log.read_text()


def test_a_name_that_has_no_effect_is_told(tmp_path: Path) -> None:
    log = tmp_path / "launch.log"
    given = {"modle": "x", "score_threshold": 0.5, "input_size": 300}
    assert begin(log, given).wait(PATIENCE) == 1
    assert "modle is not an argument and has no effect: model is one" in log.read_text()
    assert "score_threshold is a parameter of the node" in log.read_text()
