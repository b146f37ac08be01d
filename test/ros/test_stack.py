# SPDX-License-Identifier: Apache-2.0
"""The snippets of docs/stack.md, and the health check of docker/, with real messages."""

from __future__ import annotations

import ast
import configparser
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harness import PATIENCE, ROOT, Client, Start, green_square
from launching import LAUNCH
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

STACK = (ROOT / "docs" / "stack.md").read_text()
HEALTH = str(ROOT / "docker" / "healthcheck.py")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", STACK, re.DOTALL)


def program(name: str) -> str:
    (found,) = [code for code in blocks("python") if code.startswith(f"# {name}\n")]
    return found


def configurations() -> list[Any]:
    """Of Nav2's manager, and of diagnostic_aggregator."""
    return [yaml.safe_load(text) for text in blocks("yaml")]


def analyzed() -> str:
    """What diagnostic_aggregator looks for in the name of a status."""
    part: str
    (part,) = configurations()[1]["analyzers"]["ros__parameters"]["perception"]["contains"]
    return part


def a_person(column: float, sec: int = 7) -> Detection2DArray:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "person", 0.75
    detection = Detection2D(results=[hypothesis])
    detection.bbox.center.position.x, detection.bbox.size_y = column, 80.0
    message = Detection2DArray(detections=[detection])
    message.header.stamp.sec = sec
    return message


def answer_of(
    command: list[str], publish: Callable[[], None], expected: Sequence[str], client: Client
) -> None:
    """Publish until a program has printed lines with all the texts."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    printed: list[str] = []

    def answered() -> bool:
        publish()
        client.spin(0.1)
        printed.extend(process.stdout or ())
        return all(any(text in line for line in printed) for text in expected)

    try:
        client.wait_for(answered)
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_every_program_can_be_read() -> None:
    assert len(blocks("python")) == 4
    for code in blocks("python"):
        ast.parse(code)


def test_a_node_takes_the_detections(client: Client) -> None:
    publisher = client.node.create_publisher(Detection2DArray, "/detector/detections", 10)
    command = [sys.executable, "-c", program("follow.py")]
    message = a_person(320.0)
    answer_of(command, lambda: publisher.publish(message), ["person at column 320"], client)


def test_detections_join_their_images(client: Client) -> None:
    pytest.importorskip("message_filters", reason="comes with ROS 2, not as a Python wheel")
    found = client.node.create_publisher(Detection2DArray, "/detector/detections", 10)
    images = client.node.create_publisher(Image, "/camera/image_raw", 10)
    message, image = a_person(320.0), Image()
    image.header = message.header

    def publish() -> None:
        images.publish(image)
        found.publish(message)

    command = [sys.executable, "-c", program("overlay.py")]
    answer_of(command, publish, ["7 person 0.75 320.0"], client)


def test_a_program_listens_to_every_topic(client: Client, start_inside: Start) -> None:
    """Against the running node, with everything switched on that can be here."""
    seen = start_inside(tracking="bytetrack", positions="bearing")
    calibration = CameraInfo(width=320, height=240, k=[300.0, 0, 160, 0, 300, 120, 0, 0, 1])
    calibrations = client.node.create_publisher(CameraInfo, "/camera_info", 5)
    image = green_square()

    def publish() -> None:
        image.header.stamp = client.node.get_clock().now().to_msg()
        calibration.header = image.header
        calibrations.publish(calibration)
        seen.camera.publish(image)

    code = program("listen.py")
    expected = ["tracks ['", "positions [(", "markers ['", "labels {", "model toy", "age ",
                "picture 320 240", "jpeg ", "health /detector"]  # fmt: skip
    answer_of([sys.executable, "-c", code], publish, expected, client)
    assert all(analyzed() in status.name for status in seen.diagnostics[-1].status)
    named = set(re.findall(r'"(/detector/[\w/]+)"', code))
    manual = (ROOT / "docs" / "node.md").read_text()
    published = set(re.findall(r"^\| `(/detector/[\w/]+)` .* publisher", manual, re.MULTILINE))
    assert named == published - {"/detector/detections", "/detector/annotations"}


@pytest.mark.parametrize(
    ("mount", "right", "down", "forwards"),
    [(0, (0, -1, 0), (0, 0, -1), (1, 0, 0)), (1, (0, -1, 0), (-1, 0, 0), (0, 0, -1))],
    ids=["looks forward", "looks down"],
)
def test_the_optical_frame_of_a_drone_is_turned_as_the_camera_is_mounted(
    mount: int, right: tuple[int, ...], down: tuple[int, ...], forwards: tuple[int, ...]
) -> None:
    """The camera's x, y and z in base_link: x forward, y left, z up."""
    command = re.findall(r"static_transform_publisher (.*\n.*)", STACK)[mount]
    angles = dict(re.findall(r"--(roll|yaw) (\S+)", command))
    roll, yaw = float(angles["roll"]), float(angles["yaw"])
    about_x = np.array([[1, 0, 0], [0, cos(roll), -sin(roll)], [0, sin(roll), cos(roll)]])
    about_z = np.array([[cos(yaw), -sin(yaw), 0], [sin(yaw), cos(yaw), 0], [0, 0, 1]])
    expected = np.array([right, down, forwards]).T
    np.testing.assert_allclose(about_z @ about_x, expected, atol=1e-4)


def test_an_including_launch_file_keeps_its_arguments_to_itself(tmp_path: Path) -> None:
    """Its own ``namespace`` does not reach the detector, which the group has put into /front."""
    pytest.importorskip("launch_ros", reason="launch comes with ROS 2, not as a Python wheel")
    (tmp_path / "robot.launch.py").write_text(program("robot.launch.py"))
    code = LAUNCH.replace(
        "sys.exit(service.run())",
        "from launch_ros.actions import Node; Node.execute = lambda self, context: "
        "[self._perform_substitutions(context), print('node', self.node_name)][:0];"
        "sys.exit(service.run())",
    )
    command = [sys.executable, "-c", code, str(tmp_path / "robot.launch.py"), "namespace:=front"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "node /front/detector" in done.stdout, done.stdout + done.stderr


def test_the_configurations_can_be_read() -> None:
    manager, _ = configurations()
    assert manager["lifecycle_manager_perception"]["ros__parameters"]["bond_timeout"] == 0.0
    assert analyzed() in "/robot1/detector: front"


def test_the_unit_stops_launch_with_the_signal_that_it_hands_on() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(blocks("ini")[0])
    assert unit["Service"]["KillSignal"] == "SIGINT"
    assert "exec ros2 launch compact_yolo_ros detector.launch.py" in unit["Service"]["ExecStart"]


@pytest.mark.parametrize(
    ("level", "code"),
    [(DiagnosticStatus.OK, 0), (DiagnosticStatus.WARN, 0), (DiagnosticStatus.ERROR, 1)],
    ids=["OK", "WARN", "ERROR"],
)
def test_the_health_check_follows_the_diagnostics(client: Client, level: bytes, code: int) -> None:
    publisher = client.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    other = DiagnosticStatus(name="/camera: driver", level=DiagnosticStatus.ERROR)
    own = DiagnosticStatus(name="/detector: detections", level=level, message="so it is")
    with subprocess.Popen([sys.executable, HEALTH], stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            publisher.publish(DiagnosticArray(status=[other, own]))
            client.spin(0.1)
        assert process.stdout is not None
        assert (process.returncode, process.stdout.read()) == (code, "so it is\n")


@pytest.mark.ros
@pytest.mark.parametrize(("state", "code"), [("active", 0), ("inactive", 1), ("unconfigured", 1)])
def test_a_detector_that_is_not_active_is_not_healthy(
    client: Client, state: str, code: int
) -> None:
    """Such as one that was started again and waits to be configured: its status is at OK."""
    values = [KeyValue(key="state", value=state)]
    own = DiagnosticStatus(name="/detector: detections", level=DiagnosticStatus.OK, values=values)
    publisher = client.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    with subprocess.Popen([sys.executable, HEALTH], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            publisher.publish(DiagnosticArray(status=[own]))
            client.spin(0.1)
        assert process.returncode == code


def test_a_silent_detector_is_not_healthy() -> None:
    code = f"import runpy; names = runpy.run_path({HEALTH!r}); main = names['main']; "
    code += "main.__globals__['PATIENCE'] = 0.5; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("no status '/detector: detections' on /diagnostics")


def test_the_compose_file_shares_memory_and_names_our_files() -> None:
    text = (ROOT / "docker/compose.yaml").read_text()
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    assert services["camera"]["ipc"] == "shareable"
    assert all(services[name]["ipc"] == "service:camera" for name in ("detector", "foxglove"))
    for variable, path in services["camera"]["environment"].items():
        if variable.startswith("FAST"):
            assert (ROOT / "config" / Path(path).name).is_file()
    # It passes no signal on to the node.
    assert not any("ros2 run" in service["command"] for service in services.values())


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_the_images_stop_with_sigint_and_report_their_health(name: str) -> None:
    text = (ROOT / "docker" / name).read_text()
    assert "STOPSIGNAL SIGINT" in text
    assert 'CMD ["/entrypoint.sh", "python3", "/healthcheck.py"]' in text
    for source in re.findall(r"^COPY (\S+) src/", text, re.MULTILINE):
        assert (ROOT / source).exists()
    assert "-c src/compact_yolo_ros/config/pip_constraints.txt" in text.replace("\\\n", " ")
