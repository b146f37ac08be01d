# SPDX-License-Identifier: Apache-2.0
"""A recording played to a live detector over DDS, recorded and evaluated."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from harness import DETECTOR, PATIENCE, Client, ForkedNode, forked, values_of
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytest.importorskip("rosbags", reason="recordings are read with rosbags")
from bag_writer import (
    PERIOD,
    START,
    TOPIC,
    compressed,
    draw_scene,
    image,
    storage_file,
    write_bag,
    write_labelled_bag,
)

from compact_yolo_ros.apps.evaluate_bag.arguments import parse as evaluation_arguments
from compact_yolo_ros.apps.evaluate_bag.command import main as evaluate_bag
from compact_yolo_ros.recordings.compression import ZSTD
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.ros.launching.evaluation import EVALUATION_ARGUMENTS, read_evaluation
from compact_yolo_ros.ros.launching.params_file import parameters_of_file
from compact_yolo_ros.ros.players import bag_player, bag_recorder
from compact_yolo_ros.ros.players.bag_player import BagPlayerNode
from compact_yolo_ros.ros.players.bag_recorder import BagRecorderNode

PLAYER = "compact_yolo_ros.ros.run bag_player_node"
RECORDER = "compact_yolo_ros.ros.run bag_recorder_node"
COUNT = 8


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    return write_labelled_bag(tmp_path / "bag", COUNT)


def texts(**given: Any) -> dict[str, str]:
    return {argument.name: argument.default for argument in EVALUATION_ARGUMENTS} | {
        name: str(value) for name, value in given.items()
    }


def parameters_of(values: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, list) else v for k, v in values.items()}


def stamp(message: Image) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def test_images_come_with_their_stamps_at_their_pace(
    client: Client, bag: Path, tmp_path: Path
) -> None:
    images = client.collect(Image, TOPIC)
    clocks = client.collect(Clock, "/clock", 1000)
    given = {"bags": f"['{bag}']", "rate": 2.0, "start": 0.25}
    with forked(PLAYER, tmp_path / "player.log", given) as player:
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        client.spin(0.2)
        assert player.stop() == 0, player.output()
    # Of the images at 0.1 s and 0.2 s from the first, neither is played.
    assert [stamp(i) for i in images] == [START + n * PERIOD for n in range(3, COUNT)]
    assert bytes(images[0].data) == draw_scene(3).pixels.tobytes()
    times = [c.clock.sec * 10**9 + c.clock.nanosec for c in clocks]
    assert times == sorted(times) and START < times[0] < times[-1]
    assert times[-1] >= START + (COUNT - 1) * PERIOD


def test_the_next_recording_follows_at_once(client: Client, tmp_path: Path) -> None:
    """They may be of different days; within one, the pace is kept."""
    hour = 36_000
    numbers = ((0, 20), (hour, hour + 1))
    bags = [
        write_bag(tmp_path / f"{n}", [image(draw_scene(0), number) for number in part])
        for n, part in enumerate(numbers)
    ]
    images = client.collect(Image, TOPIC)
    clocks = client.collect(Clock, "/clock", 1000)
    given = {"bags": str(list(map(str, bags)))}
    with forked(PLAYER, tmp_path / "player.log", given) as player:
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        assert player.stop() == 0, player.output()
    assert [stamp(i) for i in images] == [START + n * PERIOD for part in numbers for n in part]
    times = sorted(c.clock.sec * 10**9 + c.clock.nanosec for c in clocks)
    # Time goes on for what was played to be processed, and then jumps.
    (played,) = [(a, b) for a, b in pairwise(times) if b - a > 1000 * 10**9]
    assert played[0] >= START + 20 * PERIOD + 9 * PERIOD
    assert played[1] < START + hour * PERIOD + PERIOD


def test_the_time_between_recordings_counts_neither_as_skipped_nor_as_played(
    client: Client, tmp_path: Path
) -> None:
    hour = 36_000
    bags = [
        write_bag(tmp_path / f"{first}", [image(draw_scene(0), first + n) for n in range(6)])
        for first in (0, hour)
    ]
    images = client.collect(Image, TOPIC)
    given = {"bags": str(list(map(str, bags))), "start": 0.35, "duration": 0.4}
    with forked(PLAYER, tmp_path / "player.log", given) as player:
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        assert player.stop() == 0, player.output()
    wanted = [4, 5, hour, hour + 1, hour + 2]
    assert [stamp(i) for i in images] == [START + n * PERIOD for n in wanted]


def test_a_clock_that_was_set_while_it_was_recorded_is_no_pause(
    client: Client, tmp_path: Path
) -> None:
    """A robot without a battery for its clock begins in 1970, until the network tells the time."""
    day = 24 * 3600 * 10
    numbers = (0, 1, 2 * day, 2 * day + 1)
    bag = write_bag(tmp_path / "bag", [image(draw_scene(0), number) for number in numbers])
    images = client.collect(Image, TOPIC)
    with forked(PLAYER, tmp_path / "player.log", {"bags": f"['{bag}']"}) as player:
        client.wait_for(lambda: len(images) == len(numbers))
        client.wait_for(lambda: not player.is_running())
        assert player.stop() == 0, player.output()
    assert [stamp(i) for i in images] == [START + n * PERIOD for n in numbers]


def test_a_recording_of_damaged_images_only_is_a_failure(client: Client, tmp_path: Path) -> None:
    message = replace(image(draw_scene(0), 0), data=ZSTD + b"nonsense")
    bag = write_bag(tmp_path / "bag", [message])
    client.collect(Image, TOPIC)
    with forked(PLAYER, tmp_path / "player.log", {"bags": f"['{bag}']"}) as player:
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        assert player.stop() == 1
    said = player.output()
    assert f"Nothing was played: 1 damaged image(s) left out: a message of {TOPIC}" in said
    assert "Traceback" not in said


def test_it_plays_again_and_again(client: Client, bag: Path, tmp_path: Path) -> None:
    images = client.collect(Image, TOPIC)
    given = {"bags": f"['{bag}']", "rate": 10.0, "duration": 0.15, "loop": True}
    with forked(PLAYER, tmp_path / "player.log", given) as player:
        client.wait_for(lambda: len(images) >= 4, 3 * PATIENCE)
        assert player.stop() == 0, player.output()
    assert [stamp(i) for i in images[:4]] == [START, START + PERIOD] * 2


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_recording_that_is_gone_when_it_begins_again_is_one_sentence(
    client: Client, tmp_path: Path, storage: str
) -> None:
    """As when a stick is pulled out."""
    bag = write_bag(tmp_path / "bag", [image(draw_scene(0), 0)], storage)
    images = client.collect(Image, TOPIC)
    with forked(PLAYER, tmp_path / "log", {"bags": f"['{bag}']", "loop": True}) as player:
        client.wait_for(lambda: images, 3 * PATIENCE)
        storage_file(bag).unlink()
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        assert player.stop() == 1
    said = player.output()
    assert "cannot be read any more: No such file or directory" in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "bags names no recording"),
        ({"bags": "['/nowhere']"}, "there is no recording /nowhere"),
        ({"bags": "['~no_user/bag']"}, "the home folder of '~no_user/bag' is not known: give the"),
        ({"bags": "['BAG']", "topics": "['/other']"}, "has no topic /other: its image topics are"),
        ({"bags": "['BAG']", "start": 100.0}, "nothing is left to play of 0."),
    ],
)
def test_what_cannot_be_played_is_one_sentence(
    bag: Path, tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    given = {k: v.replace("BAG", str(bag)) if isinstance(v, str) else v for k, v in given.items()}
    player = ForkedNode(PLAYER, tmp_path / "player.log", given)
    assert player.process.wait(3 * PATIENCE) == 1
    assert sentence in player.output() and "Traceback" not in player.output()


def test_damaged_images_are_left_out(client: Client, tmp_path: Path) -> None:
    messages = [image(draw_scene(number), number) for number in range(3)]
    messages[1] = replace(messages[1], data=ZSTD + b"nonsense")
    bag = write_bag(tmp_path / "bag", messages)
    images = client.collect(Image, TOPIC)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    with forked(PLAYER, tmp_path / "player.log", {"bags": f"['{bag}']"}) as player:
        client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
        assert player.stop() == 0, player.output()
    assert [stamp(i) for i in images] == [START, START + 2 * PERIOD]
    assert "Left out 1 damaged images" in player.output()
    status, values = diagnostics[-1].status[0], values_of(diagnostics[-1])
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith(f"1 damaged image(s) left out: a message of {TOPIC}")
    assert (values["images_published"], values["images_damaged"]) == ("2", "1")


def test_images_that_cannot_be_sent_are_counted_and_logged_once(
    client: Client,
    bag: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    publish = Publisher.publish

    def full(publisher: Publisher, message: Any) -> None:
        """What rclpy does when a reliable topic is flooded; a double, as flooding takes long."""
        if publisher.topic_name == TOPIC:
            raise RuntimeError("Failed to publish: cannot publish data")
        publish(publisher, message)

    monkeypatch.setattr(Publisher, "publish", full)
    client.collect(Image, TOPIC)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    overrides = [Parameter("bags", value=[str(bag)]), Parameter("loop", value=True)]
    node = client.host(BagPlayerNode(context=client.context, parameter_overrides=overrides))
    client.wait_for(lambda: diagnostics and values_of(diagnostics[-1])["images_failed"] == "8")
    client.release(node)
    assert diagnostics[-1].status[0].level == DiagnosticStatus.WARN
    assert "8 image(s) could not be sent" in diagnostics[-1].status[0].message
    logged = capfd.readouterr().err
    assert logged.count("could not be sent (Failed to publish: cannot publish data): ") == 1
    assert "lower the rate or use reliability best_effort" in logged


def test_time_stands_still_for_images_that_come_late(
    client: Client, bag: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a slow disk; else their ages would grow from image to image, for a reason of its own."""
    now = 100.0
    monkeypatch.setattr(bag_player, "time", SimpleNamespace(monotonic=lambda: now))
    images = client.collect(Image, TOPIC)
    clocks = client.collect(Clock, "/clock", 1000)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    overrides = [Parameter("bags", value=[str(bag)]), Parameter("patience", value=0.0)]
    node = client.host(BagPlayerNode(context=client.context, parameter_overrides=overrides))
    for number in range(COUNT):
        client.wait_for(lambda count=number + 1: len(images) == count and clocks)
        clock = clocks[-1].clock.sec * 10**9 + clocks[-1].clock.nanosec
        assert clock < stamp(images[-1]) + 2 * PERIOD
        now += 0.5  # to read and send the next one, which is due after 0.1 s
    client.wait_for(lambda: diagnostics and values_of(diagnostics[-1])["seconds_behind"] == "2.8")
    client.release(node)
    status = diagnostics[-1].status[0]
    assert status.level == DiagnosticStatus.WARN
    assert "playback took 2.8 s longer than at 1 times the recorded pace" in status.message
    assert "lower the rate" in capfd.readouterr().err


def test_what_was_recorded_behind_the_time_of_ros_is_left_out(tmp_path: Path) -> None:
    """As by a robot whose clock has no battery; on /clock it would be a time before 1970."""
    late = replace(image(draw_scene(0), 0), time=2**31 * 10**9)
    bag = write_bag(tmp_path / "bag", [late])
    player = ForkedNode(PLAYER, tmp_path / "player.log", {"bags": f"['{bag}']", "patience": 0.0})
    assert player.process.wait(PATIENCE) == 1
    said = player.output()
    assert "nothing is left to play of 0.0 s: images from 2038 on are left out" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("file/bag", "cannot write to"),
        ("long" * 64, "File name too long"),
        ("~no_user/bag", "the home folder of '~no_user/bag' is not known"),
    ],
)
def test_a_recording_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, out: str, sentence: str
) -> None:
    (tmp_path / "file").touch()
    given = {"out": out if out.startswith("~") else str(tmp_path / out)}
    recorder = ForkedNode(RECORDER, tmp_path / "recorder.log", given)
    assert recorder.process.wait(3 * PATIENCE) == 1
    said = recorder.output()
    assert sentence in said and "Traceback" not in said and "ROS cannot start" not in said


def recorder_without_time(client: Client, out: Path) -> BagRecorderNode:
    """A recorder that has detections and waits for the time on /clock."""
    given = {"out": str(out), "use_sim_time": True}
    recorder = BagRecorderNode(
        context=client.context,
        parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
    )
    client.host(recorder)
    found = client.node.create_publisher(Detection2DArray, "detector/detections", 10)
    client.wait_for(found.get_subscription_count)
    found.publish(Detection2DArray())
    client.wait_for(lambda: recorder.waiting)
    return recorder


def test_what_comes_before_the_time_is_recorded_with_the_first_time(
    client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    recorder = recorder_without_time(client, out)
    clock = client.node.create_publisher(Clock, "/clock", 10)
    client.wait_for(lambda: clock.publish(Clock(clock=Time(sec=5))) or recorder.time)
    client.release(recorder)
    (message,) = Bag([out]).messages(["/detector/detections"])
    assert message.time == 5 * 10**9


def test_what_is_too_much_before_the_time_is_counted_and_told(
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bag_recorder, "QUEUE", QoSProfile(depth=3))
    out = tmp_path / "out"
    recorder = recorder_without_time(client, out)
    found = client.node.create_publisher(Detection2DArray, "detector/detections", 10)
    client.wait_for(lambda: found.publish(Detection2DArray()) or recorder.lost == 2)
    said = "".join(capfd.readouterr())
    assert said.count("there is no time on /clock yet, and only the last 3 messages wait") == 1
    clock = client.node.create_publisher(Clock, "/clock", 10)
    client.wait_for(lambda: clock.publish(Clock(clock=Time(sec=5))) or recorder.time)
    client.release(recorder)
    assert len(list(Bag([out]).messages(["/detector/detections"]))) == 3
    said = "".join(capfd.readouterr())
    assert "Recorded 3 messages, without 2 that came before the first time on /clock" in said


def test_a_recording_without_the_time_is_a_failure(
    client: Client, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = recorder_without_time(client, tmp_path / "out")
    with pytest.raises(SystemExit) as end:
        recorder.close()
    recorder.close = lambda: None
    assert end.value.code == 1
    assert "Nothing is recorded: no time arrived on /clock" in "".join(capfd.readouterr())


def test_a_live_node_is_evaluated(client: Client, bag: Path, toy: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = read_evaluation(
        texts(bag=bag, out=out, model=toy, backend="onnxruntime", ground_truth="/truth", rate=0.5)
    )
    detector = {**run.detector, "cpu_threads": 1}
    remap = ("-r", f"image:={run.topic}")
    with forked(DETECTOR, tmp_path / "detector.log", detector, *remap):
        recorder = ForkedNode(RECORDER, tmp_path / "recorder.log", run.recorder)
        with forked(PLAYER, tmp_path / "player.log", parameters_of(run.bag_player)) as player:
            client.wait_for(lambda: not player.is_running(), 3 * PATIENCE)
            assert player.stop() == 0, player.output()
        assert recorder.stop() == 0, recorder.output()
    assert evaluate_bag(run.evaluate_bag) == 0
    results = json.loads((out / "results.json").read_text())
    frames = results["topics"][TOPIC]["frames"]
    assert results["mode"] == "realtime"
    assert results["playback_rate"] == 0.5
    lost = results["topics"][TOPIC]["unanswered"]
    assert frames["answered"] + frames["dropped"] + sum(lost.values()) == COUNT
    # A busy machine drops some, and some are replaced before they reach the node.
    assert lost.keys() <= {"lost before the node"} and frames["answered"] >= COUNT // 2
    assert results["accuracy"]["matching"]["/camera/image_raw"]["labels_from"]
    assert results["accuracy"]["summary"]["AP50"] >= 0.4
    assert 0 < results["speed"]["age_ms"]["p50"] < 5000
    assert results["speed"]["stages_ms"]["inference"]["p50"] > 0  # from ~/performance
    assert (out / "report.html").is_file()


def test_arguments_become_those_of_every_process(bag: Path, toy: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = read_evaluation(texts(bag=bag, out=out, model=toy, input_size=352, start=0.2, rate=2))
    assert run.topic == TOPIC and run.detector["input_size"] == 352
    assert run.detector["use_sim_time"] is True and run.detector["image_transport"] == "raw"
    assert run.ros2_bag_play[:5] == [str(bag), "--clock", "100", "--topics", TOPIC]
    assert run.ros2_bag_play[-4:] == ["--rate", "2.0", "--start-offset", "0.2"]
    assert run.evaluate_bag[-2:] == ["--start", "0.2"]
    assert (run.image, run.detector["score_threshold"]) == ("image", 0.3)
    packed = write_bag(tmp_path / "packed", [compressed(draw_scene(0), 0)])
    run = read_evaluation(texts(bag=packed, out=out, model=toy))
    # The name is that of the recording, whether or not it ends in /compressed.
    assert (run.image, run.detector["image_transport"]) == ("image/compressed", "compressed")


PARAMETERS = """
/**:
  ros__parameters: {backend: onnxruntime, score_threshold: 0.4, cpu_threads: 1}
detector:
  ros__parameters:
    model: MODEL
    score_threshold: 0.1
    input_size: 352
    rotation: 90
    roi: [0, 8, 64, 48]
    tiles: 2x1
    class_thresholds: ["square:0.6"]
    min_box_size: [4, 6]
other:
  ros__parameters: {model: micro_yolo}
/robot:
  detector:
    ros__parameters: {model: micro_yolo}
"""


# rclpy takes each of them for /detector.
@pytest.mark.parametrize(
    "names",
    ["/**", "/*", "detector", "/detector", "/**/detector", "/: {detector", "/**: {detector"],
)
def test_a_node_has_several_names_in_a_file_of_parameters(names: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(f"{names}: {{ros__parameters: {{model: m}}}}" + "}" * names.count("{"))
    assert parameters_of_file(file, "detector") == {"model": "m"}
    command = [sys.executable, "-c", DECLARED, "--ros-args", "--params-file", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["m"]


DECLARED = """
import rclpy, sys
rclpy.init(args=sys.argv)
print(rclpy.create_node("detector").declare_parameter("model", "default").value)
"""


def test_what_the_file_of_parameters_says_is_evaluated(bag: Path, toy: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMETERS.replace("MODEL", toy))
    given = {"bag": bag, "out": tmp_path / "out", "params_file": file}
    run = read_evaluation(texts(**given))
    assert (run.detector["model"], run.detector["input_size"]) == (toy, 352)
    assert (run.detector["backend"], run.detector["score_threshold"]) == ("onnxruntime", 0.1)
    settings = evaluation_arguments(run.evaluate_bag)
    assert settings.model == toy and settings.score == 0.1 and settings.backend == "onnxruntime"
    assert (settings.rotation, settings.roi, settings.tiles) == (90, [0, 8, 64, 48], "2x1")
    assert settings.class_threshold == ["square:0.6"]
    assert (settings.min_box_size, settings.max_box_size) == ((4, 6), (0, 0))
    over = read_evaluation(texts(**given, score_threshold=0, backend="openvino"))
    assert (over.detector["backend"], over.detector["score_threshold"]) == ("openvino", 0.0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "it is not YAML"),
        ("/**: {ros__parameters: {rotation: 45}}", "rotation"),
        ("/**: {ros__parameters: {model: 5}}", "model is 5, of another type than 'yolo_ret_m075'"),
        ("/**: {ros__parameters: {cpu_threads: many}}", "cpu_threads is 'many', of another type"),
        ("detector: {ros__parameters: {cameras: [front, rear]}}", "leave out cameras"),
        ("detector: {ros__parameters: {rotation: [90, 0]}}", "rotation is given for 2 cameras"),
    ],
)
def test_a_file_of_parameters_that_cannot_be_used_is_named(
    bag: Path, toy: str, tmp_path: Path, content: str, sentence: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_evaluation(texts(bag=bag, out=tmp_path / "out", model=toy, params_file=file))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"bag": ""}, "bag is missing: give bag:=PATH"),
        ({"out": ""}, "out is missing: give out:=PATH"),
        ({"bag": "/nowhere"}, "there is no recording /nowhere"),
        ({"bag": "~no_user/bag"}, "the home folder of '~no_user/bag' is not known"),
        ({"out": "~no_user/out"}, "the home folder of '~no_user/out' is not known"),
        ({"topic": "/none"}, "has no topic /none"),
        ({"model": "yolo_what"}, "there is no model 'yolo_what'"),
        ({"rate": "fast"}, "rate is 'fast': give a number from 0.01 to 100"),
        ({"rate": "0.001"}, "rate is '0.001': give a number from 0.01 to 100"),
        ({"start": "-1"}, "start is '-1': give a number from 0 to 1e+06"),
        ({"duration": "nan"}, "duration is 'nan': give a number from 0 to 1e+06"),
        ({"input_size": "300"}, "give a multiple of 32"),
        ({"params_file": "/nowhere.yaml"}, "there is no file /nowhere.yaml"),
        ({"ground_truth": "/nowhere.json"}, "ground_truth: /nowhere.json is neither there nor a"),
        ({"ground_truth": "/nowhere:/truth"}, "ground_truth: /nowhere is neither there nor a"),
        ({"ground_truth": "~no_user/a"}, "the home folder of '~no_user/a' is not known"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_sentence(
    bag: Path, toy: str, tmp_path: Path, given: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        read_evaluation(texts(**{"bag": bag, "out": tmp_path / "out", "model": toy, **given}))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/truth", "/truth"),
        (f"{TOPIC}=/truth", "/truth"),
        ("~/labels.json", "HOME/labels.json"),
        ("~/labels.json:/truth", "HOME/labels.json:/truth"),
    ],
)
def test_labels_are_found_before_anything_is_played(
    bag: Path,
    toy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    expected: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "labels.json").touch()
    run = read_evaluation(texts(bag=bag, out=tmp_path / "out", model=toy, ground_truth=given))
    (labels,) = evaluation_arguments(run.evaluate_bag).ground_truth
    assert labels == expected.replace("HOME", str(tmp_path))


def test_a_folder_of_another_evaluation_is_refused_before_it_is_played(
    bag: Path, toy: str, tmp_path: Path
) -> None:
    assert evaluate_bag(["--bag", str(bag), "--model", toy, "--out", str(tmp_path / "out")]) == 0
    with pytest.raises(ValueError, match="out: .* holds another evaluation"):
        read_evaluation(texts(bag=bag, out=tmp_path / "out", model=toy))
