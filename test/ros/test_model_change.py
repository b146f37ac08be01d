# SPDX-License-Identifier: Apache-2.0
"""Another model while images come: nothing is lost, and a bad one changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from harness import LATCHED, PATIENCE, Client, Start, image_message, values_of
from onnx import TensorProto
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from toy_model import CARD, write_altered, write_toy_model
from vision_msgs.msg import LabelInfo

from compact_yolo_ros.backends import BackendError, RunOptions
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.ros.detector import backend_manager

pytestmark = pytest.mark.ros
OTHERS = ("rot", "gruen", "blau")


@pytest.fixture
def other(tmp_path: Path) -> str:
    """The same network, whose classes have other names."""
    return str(
        write_toy_model(tmp_path / "other.onnx", replace(CARD, name="other", classes=OTHERS))
    )


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """How models are opened: not those that are ``broken``, and only while it is ``allowed``."""
    opening = SimpleNamespace(broken=set(), allowed=Event(), tried=[])
    opening.allowed.set()
    opens = backend_manager.open_if_built

    def open_or_fail(options: RunOptions) -> Any:
        opening.tried.append(options.model)
        assert opening.allowed.wait(PATIENCE)
        if options.model in opening.broken:
            raise BackendError("out of memory")
        return opens(options)

    monkeypatch.setattr(backend_manager, "open_if_built", open_or_fail)
    return opening


@pytest.fixture
def seen(client: Client, start_inside: Start) -> Iterator[SimpleNamespace]:
    """A node that gets a green square as soon as it has answered the last one.

    If one were not answered, no other would come; while ``is_paused``, none comes.
    """
    seen = start_inside(governor_sizes=[288, 416])
    seen.is_paused = False
    pixels = np.zeros((320, 320, 3), np.uint8)
    pixels[96:112, 96:112, 1] = 250
    image, seen.sent = image_message(pixels), []

    def publish() -> None:
        if len(seen.results) == len(seen.sent) and not seen.is_paused:
            image.header.stamp = client.node.get_clock().now().to_msg()
            seen.sent.append(stamp_of(image))
            seen.camera.publish(image)

    client.wait_for(lambda: client.node.count_subscribers("/image"))
    client.wait_for(lambda: seen.camera.publish(image) or client.spin(0.05) or seen.results)
    client.spin(0.2)
    seen.results.clear()
    client.node.create_timer(0.01, publish)
    client.wait_for(lambda: seen.results)
    yield seen


def stamp_of(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def set_parameters(seen: SimpleNamespace, **values: Any) -> Any:
    given = [Parameter(name, value=value) for name, value in values.items()]
    return seen.node.set_parameters_atomically(given)


def found(seen: SimpleNamespace) -> list[str]:
    """Class of the object in each answer."""
    return [one.results[0].hypothesis.class_id for m in seen.results for one in m.detections]


def test_a_model_takes_over_between_two_images(
    client: Client, seen: SimpleNamespace, other: str, toy: str
) -> None:
    published = note_what_is_published(seen)
    infos = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    client.wait_for(lambda: infos)
    client.wait_for(lambda: "green" in published)  # the model that goes has answered
    set_parameters(seen, tracking="bytetrack")
    assert set_parameters(seen, model=other, classes=["gruen"]).successful
    client.wait_for(lambda: found(seen)[-1:] == ["gruen"])
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["model"] == other)
    assert found(seen) == sorted(found(seen))  # "green" to the last, then "gruen"
    answered = [stamp_of(result) for result in seen.results]
    assert answered == seen.sent[: len(answered)]  # every image
    client.wait_for(lambda: [each.class_name for each in infos[-1].class_map] == list(OTHERS))
    change = published.index(OTHERS)
    assert "green" in published[:change] and "gruen" not in published[:change]
    assert "green" not in published[change:] and "gruen" in published[change:]

    # Back again, and with a size and a runtime of one's own.
    assert set_parameters(seen, model=toy, classes=[""], input_size="352x352").successful
    client.wait_for(lambda: found(seen)[-1] == "green")
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["input_size"] == "352x352")


def note_what_is_published(seen: SimpleNamespace) -> list[Any]:
    """From now on: names of the classes, or the class of the object in a result, in their order."""
    session, order = seen.node._session, []
    camera, publisher = session.cameras[0], session._model._label_info
    publish, publish_info = camera.publish, publisher.publish

    def note(result: Any) -> None:
        labels = result.detections.labels.tolist()
        order.extend(result.settings.class_ids[label] for label in labels)
        publish(result)

    def note_info(info: LabelInfo) -> None:
        order.append(tuple(each.class_name for each in info.class_map))
        publish_info(info)

    camera.publish, publisher.publish = note, note_info
    return order


def test_a_model_that_comes_while_an_image_is_decoded_waits_for_the_next_one(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str
) -> None:
    session, classes = seen.node._session, []
    detector, camera = session.detector, session.cameras[0]
    decode, publish, replace_backend = camera.decode, camera.publish, detector.replace_backend
    is_replaced = Event()

    def replace_and_tell(opened: Any) -> None:
        replace_backend(opened)
        is_replaced.set()

    def decode_slowly(*given: Any) -> Any:
        opening.allowed.set()
        assert is_replaced.wait(PATIENCE)
        return decode(*given)

    def note(result: Any) -> None:
        classes.append((detector.card.classes, result.settings.class_ids))
        publish(result)

    opening.allowed.clear()
    detector.replace_backend = replace_and_tell
    assert set_parameters(seen, model=other).successful
    camera.decode, camera.publish = decode_slowly, note
    client.wait_for(lambda: classes[-1:] == [(OTHERS, OTHERS)])
    assert all(of_network == published for of_network, published in classes)
    assert classes[0] == (CARD.classes, CARD.classes)


def test_a_bad_model_leaves_the_old_one_at_work(
    client: Client, seen: SimpleNamespace, other: str, toy: str, tmp_path: Path
) -> None:
    assert "no class 'gruen'" in set_parameters(seen, classes=["gruen"]).reason
    assert set_parameters(seen, classes=["green"]).successful
    assert "no class 'green'" in set_parameters(seen, model=other).reason
    assert not set_parameters(seen, model=str(tmp_path / "none.onnx")).successful
    assert seen.node.get_parameter("model").value == toy
    assert not set_parameters(seen, backend="rocket").successful

    bad = write_altered(tmp_path / "bad.onnx", "scores", "Cast", to=TensorProto.DOUBLE)
    assert set_parameters(seen, model=bad).successful

    def refused() -> bool:
        return seen.diagnostics[-1].status[0].message.startswith(f"staying with {toy}: ")

    client.wait_for(refused)
    assert seen.diagnostics[-1].status[0].level == b"\1"
    assert values_of(seen.diagnostics[-1])["model"] == toy
    answers = len(seen.results)
    client.wait_for(lambda: len(seen.results) > answers + 3)
    assert set(found(seen)) == {"green"}
    assert set_parameters(seen, model=toy).successful
    client.wait_for(lambda: not refused())


WIDE = replace(CARD, name="wide", classes=OTHERS, default_size=480)
"""The card of the same network, at another size."""


@pytest.mark.parametrize(
    ("card", "inputs"),
    [(WIDE, (480, 288, 416)), (replace(WIDE, fixed_size=True), ((480, 480),))],
    ids=["any size", "a fixed size"],
)
def test_a_target_that_is_set_while_a_model_is_opened_is_for_its_sizes(
    client: Client,
    seen: SimpleNamespace,
    opening: SimpleNamespace,
    tmp_path: Path,
    card: ModelCard,
    inputs: tuple,
) -> None:
    wide = str(write_toy_model(tmp_path / "wide.onnx", card))
    opening.allowed.clear()
    assert set_parameters(seen, model=wide).successful
    assert set_parameters(seen, max_latency=5.0).successful
    opening.allowed.set()
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    client.spin(0.5)  # what was submitted behind it
    assert seen.node._session.detector.inputs == inputs
    assert warning(seen) == ""


def test_a_target_is_for_the_sizes_of_the_old_model_if_the_new_one_cannot_be_opened(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, tmp_path: Path, toy: str
) -> None:
    wide = str(write_toy_model(tmp_path / "wide.onnx", WIDE))
    opening.broken.add(wide)
    opening.allowed.clear()
    assert set_parameters(seen, model=wide, input_size="square").successful
    assert set_parameters(seen, max_latency=5.0).successful
    opening.allowed.set()
    client.wait_for(lambda: seen.node._session.detector.inputs == (320, 288))
    assert warning(seen) == f"staying with {toy}: out of memory"


TOGETHER = {
    "classes": ["gruen"],
    "class_heights": ["gruen:0.2"],
    "positions": "bearing",
    "tracking": "bytetrack",
    "max_latency": 5.0,
    "detect_once_timeout": 9.0,
}
"""Parameters that are set together with a model whose classes the one in use does not have."""


def test_what_is_set_together_with_a_model_takes_effect(
    client: Client, seen: SimpleNamespace, other: str
) -> None:
    assert set_parameters(seen, model=other, **TOGETHER).successful
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    expect_what_was_set(client, seen)
    session = seen.node._session
    assert session.settings.positions.heights == {1: 0.2}
    assert session.settings.selection.labels == {1}


def expect_what_was_set(client: Client, seen: SimpleNamespace) -> None:
    """Wait for what ``TOGETHER`` brings whatever the model."""
    for topic in ("tracks", "detections_3d", "markers"):
        client.wait_for(lambda topic=topic: client.node.count_publishers(f"/detector/{topic}"))
    client.wait_for(lambda: client.node.count_subscribers("/camera_info"))
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["governor"] == "holding")
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["governor_sizes"] == "320 288")
    assert seen.node._session.cameras[0].once.timeout == 9


def test_what_is_set_together_with_a_model_that_cannot_be_opened_takes_effect_too(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str, toy: str
) -> None:
    """All but the names of classes: the old model keeps those that it had."""
    assert set_parameters(seen, classes=["green", "blue"]).successful
    opening.broken.add(other)
    assert set_parameters(seen, model=other, **TOGETHER).successful
    client.wait_for(lambda: warning(seen) == f"staying with {toy}: out of memory")
    expect_what_was_set(client, seen)
    session = seen.node._session
    assert session.settings.selection.labels == {1, 2}
    assert set_parameters(seen, score_threshold=0.5).successful
    assert session.settings.selection.score_threshold == 0.5
    assert session.settings.selection.labels == {1, 2}
    assert "no class 'gruen'" in set_parameters(seen, class_thresholds=["green:0.5"]).reason
    names = {"classes": ["green"], "class_heights": [""]}  # of the model that runs
    assert set_parameters(seen, **names).successful
    assert session.settings.selection.labels == {1}
    answers = len(seen.results)
    client.wait_for(lambda: len(seen.results) > answers + 3)
    assert set(found(seen)) == {"green"}
    assert values_of(seen.diagnostics[-1])["errors"] == "0"


def test_names_are_those_of_the_model_that_is_being_opened(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str
) -> None:
    opening.allowed.clear()
    assert set_parameters(seen, model=other).successful
    assert "no class 'green'" in set_parameters(seen, classes=["green"]).reason
    assert set_parameters(seen, classes=["gruen"]).successful
    assert set_parameters(seen, score_threshold=0.5).successful
    opening.allowed.set()
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    assert seen.node._session.settings.selection.labels == {1}


def test_a_third_model_that_cannot_be_opened_leaves_the_second_with_its_own_names(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str, tmp_path: Path
) -> None:
    """The third is asked for, with a class of its own, before the second has had an image."""
    third = replace(CARD, name="third", classes=("eins", "zwei", "drei"))
    path = str(write_toy_model(tmp_path / "third.onnx", third))
    infos = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    opening.broken.add(path)
    seen.is_paused = True
    client.wait_for(lambda: len(seen.results) == len(seen.sent))
    assert set_parameters(seen, model=other, classes=["gruen", "blau"]).successful
    client.wait_for(lambda: seen.node._session.facts().get("model_change", "")[:6] == "opened")
    assert set_parameters(seen, model=path, classes=["zwei"], score_threshold=0.5).successful
    client.wait_for(lambda: warning(seen) == f"staying with {other}: out of memory")
    answers, seen.is_paused = len(seen.results), False
    client.wait_for(lambda: len(seen.results) > answers + 3)
    assert set(found(seen)[answers:]) == {"gruen"}
    client.wait_for(lambda: [each.class_name for each in infos[-1].class_map] == list(OTHERS))
    selection = seen.node._session.settings.selection
    assert (selection.labels, selection.score_threshold) == ({1, 2}, 0.5)
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["model"] == other)
    assert values_of(seen.diagnostics[-1])["errors"] == "0"


def test_a_model_that_could_not_be_opened_is_tried_again_when_it_is_set_again(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str, toy: str
) -> None:
    """As after the installation of what a backend needs, by ros2 param set."""

    def set_again(name: str, value: Any) -> None:
        given = [Parameter(name, value=value).to_parameter_msg()]
        (result,) = client.call(SetParameters, "/detector/set_parameters", parameters=given).results
        assert result.successful

    opening.broken.add(other)
    assert set_parameters(seen, model=other).successful
    client.wait_for(lambda: warning(seen))
    set_again("score_threshold", seen.node.get_parameter("score_threshold").value)
    set_again("score_threshold", 0.3)
    assert opening.tried.count(other) == 1
    for tries in (2, 3):
        set_again("model", other)
        client.wait_for(lambda tries=tries: opening.tried.count(other) == tries)
        client.wait_for(lambda: warning(seen) == f"staying with {toy}: out of memory")
    opening.broken.clear()
    set_again("backend", "auto")  # each of them asks for all
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    assert warning(seen) == ""
    set_again("model", other)  # it is there
    client.spin(0.2)
    assert opening.tried.count(other) == 4


def test_a_model_that_is_gone_when_it_is_set_again_is_refused(
    client: Client, seen: SimpleNamespace, opening: SimpleNamespace, other: str
) -> None:
    opening.broken.add(other)
    assert set_parameters(seen, model=other).successful
    client.wait_for(lambda: warning(seen))
    Path(other).unlink()
    assert "there is no model file" in set_parameters(seen, model=other).reason


def test_a_file_that_is_overwritten_is_not_taken_before_it_is_asked_for(
    client: Client, seen: SimpleNamespace, toy: str, tmp_path: Path
) -> None:
    """Else another size would bring classes that nobody was told of."""
    path = str(write_toy_model(tmp_path / "mine.onnx"))
    assert set_parameters(seen, model=path, classes=["green"]).successful
    client.wait_for(lambda: values_of(seen.diagnostics[-1])["model"] == path)
    infos = client.collect(LabelInfo, "/detector/label_info", LATCHED)
    write_toy_model(Path(path), replace(CARD, classes=OTHERS))
    assert set_parameters(seen, max_latency=5.0).successful  # needs another size
    sentence = f"staying with the input size: {path} has been overwritten since it was opened: "
    client.wait_for(lambda: seen.diagnostics[-1].status[0].message.startswith(sentence))
    assert seen.diagnostics[-1].status[0].level == b"\1"
    assert values_of(seen.diagnostics[-1])["reopenings_failed"] == "1"
    answers = len(seen.results)
    client.wait_for(lambda: len(seen.results) > answers + 3)
    assert set(found(seen)) == {"green"}
    assert [each.class_name for each in infos[-1].class_map] == list(CARD.classes)

    # Asked for again, it is checked like any other.
    assert "no class 'green'" in set_parameters(seen, model=path).reason
    assert set_parameters(seen, model=path, classes=["gruen"]).successful
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    client.wait_for(lambda: [each.class_name for each in infos[-1].class_map] == list(OTHERS))
    client.wait_for(lambda: seen.node._session.detector.inputs == (320, 288))
    assert warning(seen) == ""


def warning(seen: SimpleNamespace) -> str:
    return str(seen.node._session.backends.warning)


def test_of_several_changes_the_last_one_counts_and_cleanup_does_not_wait(
    client: Client, seen: SimpleNamespace, other: str, toy: str
) -> None:
    for model in (other, toy, other, toy, other):
        assert set_parameters(seen, model=model).successful
    client.wait_for(lambda: found(seen)[-1] == "gruen")
    assert set_parameters(seen, model=toy).successful
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        getattr(seen.node, f"trigger_{transition}")()
    seen.sent = seen.results.copy()  # the last image may have been forgotten
    client.wait_for(lambda: found(seen)[-1] == "green")
