# SPDX-License-Identifier: Apache-2.0
"""What a live node published becomes results: who was answered, when, and what became of others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="recordings are read with rosbags")
from bag_writer import (
    CODEC,
    PERIOD,
    START,
    TOPIC,
    Recorded,
    draw_scene,
    header_of,
    image,
    labelled,
    write_bag,
)

from compact_yolo_ros.apps.evaluate_bag.answer_matching import (
    Moment,
    NodeCounters,
    match_answers,
    outcomes_of_unanswered,
)
from compact_yolo_ros.apps.evaluate_bag.command import main
from compact_yolo_ros.apps.evaluate_bag.results_folder import locked

pytestmark = pytest.mark.usefixtures("no_report")

COUNT = 8
SCENES = [draw_scene(number) for number in range(COUNT)]
MS = 1_000_000
DELAY = 5 * MS
"""From the stamp of an image to its reception."""
TAKEN = 40 * MS
"""From the reception of an image to its detections."""
DIAGNOSTIC_ARRAY = "diagnostic_msgs/msg/DiagnosticArray"


def unstamped(message: Recorded) -> Recorded:
    """The message with zeros for the stamp: the first field behind CDR's four bytes."""
    return replace(message, data=message.data[:4] + bytes(8) + message.data[12:])


def played(path: Path, *, stamped: bool = True) -> Path:
    """A recording of all scenes, with the truth about them."""
    messages = []
    for number, scene in enumerate(SCENES):
        frame = image(scene, number, delay=DELAY)
        messages += [frame if stamped else unstamped(frame), labelled(scene, number)]
    return write_bag(path, sorted(messages, key=lambda message: message.time))


def answer(number: int, taken: int = TAKEN) -> Recorded:
    """What the node finds in a scene, as it is recorded."""
    found = labelled(SCENES[number], number, "/detector/detections")
    return replace(found, time=START + number * PERIOD + DELAY + taken)


def diagnostics(topic: str, stamp: int, time: int, values: Mapping[str, object]) -> Recorded:
    make = CODEC.store.types
    pairs = [make["diagnostic_msgs/msg/KeyValue"](key, str(v)) for key, v in values.items()]
    status = make["diagnostic_msgs/msg/DiagnosticStatus"](0, "detector", "", "", pairs)
    message = make[DIAGNOSTIC_ARRAY](header_of(stamp), [status])
    data = bytes(CODEC.store.serialize_cdr(message, DIAGNOSTIC_ARRAY))
    return Recorded(topic, DIAGNOSTIC_ARRAY, time, data)


def counted(
    received: int, processed: int, dropped: int, time: int = START + 10**9, **others: object
) -> Recorded:
    """The node's /diagnostics."""
    values = {
        "image_topic": TOPIC,
        "images_received": received,
        "images_processed": processed,
        "images_dropped": dropped,
        "images_too_old": 0,
        "images_skipped": 0,
        "errors": 0,
        **others,
    }
    return diagnostics("/diagnostics", time, time, values)


def measured(number: int, **values: object) -> Recorded:
    """The node's ~/performance of a scene."""
    return slow(number, TAKEN, **values)


def slow(number: int, taken: int, **values: object) -> Recorded:
    """The node's ~/performance of a scene that took so long."""
    stamp = START + number * PERIOD
    return diagnostics("/detector/performance", stamp, stamp + DELAY + taken + MS, values)


@pytest.fixture
def evaluate(tmp_path: Path, toy: str):
    def run(messages: Iterable[Recorded], *options: str, stamped: bool = True) -> dict[str, Any]:
        bag = played(tmp_path / "bag", stamped=stamped)
        in_order = sorted(messages, key=lambda message: message.time)
        node = write_bag(tmp_path / "node", in_order)
        given = ["--bag", bag, "--topic", TOPIC, "--model", toy, "--recorded", node]
        given += ["--ground-truth", "/truth", "--out", tmp_path / "out"]
        assert main([*map(str, given), *options]) == 0
        results: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
        return results

    return run


@pytest.fixture
def command(tmp_path: Path, toy: str) -> list[str]:
    """The arguments that are common to evaluations of one recording into one folder."""
    bag = played(tmp_path / "bag")
    given = ["--bag", bag, "--topic", TOPIC, "--model", toy, "--out", tmp_path / "out"]
    return list(map(str, given))


def answers_of_node(path: Path, *numbers: int) -> str:
    """A recording of a live node that answered these scenes only."""
    return str(write_bag(path, [answer(number) for number in numbers]))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def frames_of(results: dict[str, Any]) -> dict[str, Any]:
    topic = results["topics"][TOPIC]
    return {**topic["frames"], "unanswered": topic["unanswered"]}


def test_images_without_a_stamp_are_answered_in_their_order(evaluate) -> None:
    answers = [unstamped(answer(number)) for number in range(COUNT)]
    results = evaluate([*answers, counted(COUNT, COUNT, 0)], stamped=False)
    frames = frames_of(results)
    assert (frames["answered"], frames["dropped"], frames["unanswered"]) == (COUNT, 0, {})
    assert results["accuracy"]["summary"]["AP50"] == 1.0  # each scene got its own detections
    assert results["speed"]["age_ms"]["p50"] == pytest.approx(TAKEN / MS)


def test_without_stamps_an_answer_is_that_of_the_newest_image_before_it(evaluate) -> None:
    done = (0, 2, 3, 6)
    answers = [unstamped(answer(number)) for number in done]
    results = evaluate([*answers, counted(COUNT, len(done), COUNT - len(done))], stamped=False)
    assert (frames_of(results)["answered"], frames_of(results)["dropped"]) == (4, 4)
    assert results["accuracy"]["summary"]["AP50"] == 1.0


def test_a_slow_answer_is_not_that_of_an_image_which_came_meanwhile(evaluate) -> None:
    """Played at rate 2, the node takes 150 ms, which are 300 ms of the recording."""
    done = (0, 3, 6)
    messages = [unstamped(answer(number, 300 * MS)) for number in done]
    messages += [unstamped(slow(number, 300 * MS, age_ms=150)) for number in done]
    results = evaluate(messages, "--rate", "2", stamped=False)
    assert results["accuracy"]["summary"]["AP50"] == 1.0
    assert results["speed"]["age_ms"]["p50"] == pytest.approx(150)


def test_the_nodes_age_counts_from_reception_where_there_is_no_stamp(evaluate) -> None:
    """Then it is on the machine's clock, whatever the playback rate."""
    pairs = [
        (unstamped(answer(n)), unstamped(measured(n, age_ms=33, inference_ms=9)))
        for n in range(COUNT)
    ]
    messages = [message for pair in pairs for message in pair]
    results = evaluate(messages, "--rate", "0.5", stamped=False)
    assert results["speed"]["age_ms"]["p50"] == pytest.approx(33)
    assert results["speed"]["stages_ms"]["inference"]["p50"] == pytest.approx(9)


def test_what_was_lost_before_and_after_the_node_is_not_called_dropped(
    evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of 8 images 2 never arrived, 3 were dropped, and one of 3 answers was lost.
    earlier = counted(2, 1, 0, time=START)
    results = evaluate([answer(3), answer(6), earlier, counted(6, 3, 3)])
    frames = frames_of(results)
    assert (frames["all"], frames["answered"], frames["dropped"]) == (8, 2, 3)
    assert frames["unanswered"] == {"lost before the node": 2, "lost after the node": 1}
    assert frames["errors"] == {}
    assert sum(results["topics"][TOPIC]["over_time"]["unreadable"]) == 0
    printed = capsys.readouterr().out
    assert f"{TOPIC}: lost before the node: they did not reach the node" in printed
    assert f"{TOPIC}: lost after the node: the node answered them" in printed


@pytest.mark.parametrize(
    ("others", "unanswered"),
    [
        ({"images_too_old": 3}, {"too old": 3}),
        ({"images_skipped": 3}, {"skipped": 3}),
        ({"errors": 3, "last_error": "the GPU is gone"}, {"failed in the node": 3}),
        ({}, {"not answered": 3}),
    ],
)
def test_the_nodes_other_reasons_are_told_apart(
    evaluate, others: dict[str, object], unanswered: dict[str, int]
) -> None:
    answers = [answer(number) for number in range(COUNT - 3)]
    results = evaluate([*answers, counted(COUNT, COUNT - 3, 0, **others)])
    assert frames_of(results)["unanswered"] == unanswered
    problems = results["topics"][TOPIC]["problems"]
    assert problems.keys() == unanswered.keys()
    assert others.get("last_error", "") in " ".join(problems.values())


def test_without_the_nodes_counters_nothing_is_called_dropped(evaluate) -> None:
    frames = frames_of(evaluate([answer(0)]))
    assert (frames["answered"], frames["dropped"]) == (1, 0)
    assert frames["unanswered"] == {"not answered": COUNT - 1}


def test_counters_of_other_cameras_and_nodes_are_not_taken(evaluate) -> None:
    other = counted(0, 0, 0, image_topic="/other", time=START + 2 * 10**9)
    alien = diagnostics("/diagnostics", START, START + 3 * 10**9, {"images_received": "?"})
    messages = [answer(0), counted(COUNT, 1, COUNT - 1), other, alien]
    assert frames_of(evaluate(messages))["dropped"] == COUNT - 1


def test_the_nodes_topic_may_have_another_name(evaluate) -> None:
    """Where the recording was played under another name, to a node with one camera."""
    results = evaluate([answer(0), counted(COUNT, 1, COUNT - 1, image_topic="/image")])
    assert frames_of(results)["dropped"] == COUNT - 1


def test_counters_of_several_other_cameras_say_nothing(evaluate) -> None:
    others = [counted(COUNT, 1, COUNT - 1, image_topic=topic) for topic in ("/left", "/right")]
    assert frames_of(evaluate([answer(0), *others]))["unanswered"] == {"not answered": COUNT - 1}


def test_answers_to_unknown_images_are_told(evaluate) -> None:
    results = evaluate([answer(0), replace(answer(1), data=answer(0).data)])
    assert any("1 of 2 answers" in sentence for sentence in results["recording"]["lost"])


def test_the_rate_is_the_one_that_the_player_reported(evaluate) -> None:
    messages = [answer(number, 2 * TAKEN) for number in range(COUNT)]
    report = diagnostics("/diagnostics", 0, START, {"playback_rate": 2})
    results = evaluate([*messages, report, counted(COUNT, COUNT, 0)])
    assert results["playback_rate"] == 2
    assert results["speed"]["age_ms"]["p50"] == pytest.approx((DELAY + TAKEN) / MS)


@pytest.mark.parametrize(("reported", "told"), [(["0.0", "0.9"], 0), (["0.0", "2.5", "3.0"], 1)])
def test_a_playback_that_was_too_slow_is_told(evaluate, reported: list[str], told: int) -> None:
    reports = [diagnostics("/diagnostics", 0, START, {"seconds_behind": s}) for s in reported]
    doubts = evaluate([*(answer(number) for number in range(COUNT)), *reports])["recording"][
        "doubts"
    ]
    assert len(doubts) == told
    assert not told or doubts[0].startswith("the player took 3.0 s longer than it should have, ")


def test_a_rate_that_is_given_counts_more_than_the_report(evaluate) -> None:
    report = diagnostics("/diagnostics", 0, START, {"playback_rate": 2})
    assert evaluate([answer(0), report], "--rate", "4")["playback_rate"] == 4


@pytest.mark.parametrize("with_performance", [True, False])
def test_ages_are_those_of_the_recorded_pace(evaluate, with_performance: bool) -> None:
    # Played twice as fast, the 40 ms of the node are 80 ms of the recording; the 5 ms before are 5.
    messages = [answer(number, 2 * TAKEN) for number in range(COUNT)]
    if with_performance:
        messages += [measured(number, age_ms=(DELAY + 2 * TAKEN) / MS) for number in range(COUNT)]
    results = evaluate(messages, "--rate", "2")
    assert results["playback_rate"] == 2
    assert results["speed"]["age_ms"]["p50"] == pytest.approx((DELAY + TAKEN) / MS)
    seconds = results["recording"]["seconds"] / 2
    assert results["speed"]["frames_per_second"] == pytest.approx(COUNT / seconds)


def test_figures_that_are_no_numbers_do_not_end_it(evaluate) -> None:
    results = evaluate([answer(0), measured(0, age_ms="soon", inference_ms="nan", power_w="inf")])
    assert results["speed"]["age_ms"]["p50"] == pytest.approx((DELAY + TAKEN) / MS)


STAGES = {"decode_ms": 1, "preprocess_ms": 2, "inference_ms": 30, "postprocess_ms": 4}


def test_stages_that_were_not_measured_are_not_known(
    evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are not 0 ms, which would be the fastest of all."""
    results = evaluate([answer(number) for number in range(COUNT)])
    assert set(results["speed"]["stages_ms"].values()) == {None}
    assert results["speed"]["network_share"] is None
    assert results["speed"]["frames_per_second"] == COUNT / results["recording"]["seconds"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "total, p50" in line)
    assert "0.0" not in line and "-" in line


def test_stages_are_those_of_the_images_whose_were_recorded(evaluate) -> None:
    messages = [answer(number) for number in range(COUNT)]
    results = evaluate([*messages, *(measured(number, **STAGES) for number in (1, 4))])
    stages = {name: found["p50"] for name, found in results["speed"]["stages_ms"].items()}
    assert stages == pytest.approx(
        {"decode": 1, "preprocess": 2, "inference": 30, "postprocess": 4, "total": 37}
    )
    assert results["speed"]["network_share"] == pytest.approx(30 / 37)
    assert frames_of(results)["answered"] == COUNT


def test_a_stage_that_is_missing_is_not_zero(evaluate) -> None:
    """Nor is the sum known then, or the power if that is no number."""
    known = {key: value for key, value in STAGES.items() if key != "inference_ms"}
    results = evaluate([answer(0), measured(0, **known, inference_ms="?", power_w="nan")])
    stages = results["speed"]["stages_ms"]
    assert stages["decode"]["p50"] == pytest.approx(1)
    assert stages["inference"] is None and stages["total"] is None
    assert results["power"]["watts"] is None


@pytest.mark.parametrize("given", [["--rate", "2"], ["--recorded", "node", "--rate", "0"]])
def test_a_rate_is_that_of_a_playback(given: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--bag", "bag", "--model", "toy", "--out", "out", *given])


def test_what_a_node_answered_is_not_taken_for_a_run_of_the_model(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = answers_of_node(tmp_path / "node", 1, 3)
    assert main([*command, "--recorded", node]) == 0
    before = contents(tmp_path / "out")
    assert main([*command, "--realtime"]) == 1
    assert "holds a run of a live node" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before
    assert main([*command, "--realtime", "--restart"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["playback_rate"] is None and frames_of(results)["unanswered"] == {}


@pytest.mark.parametrize("mode", [[], ["--realtime"]])
def test_another_run_is_not_replaced_by_what_a_node_answered(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: list[str]
) -> None:
    node = answers_of_node(tmp_path / "node", 1, 3)
    assert main([*command, *mode]) == 0
    before = contents(tmp_path / "out")
    assert main([*command, "--recorded", node]) == 1
    said = capsys.readouterr().err
    assert "holds a run of the model itself" in said and "--restart" in said
    assert contents(tmp_path / "out") == before
    assert main([*command, "--recorded", node, "--restart"]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["playback_rate"] == 1


def test_each_recording_of_a_node_is_a_run_of_its_own(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (answers_of_node(tmp_path / f"node{n}", n) for n in (1, 3))
    assert main([*command, "--recorded", first]) == 0
    assert main([*command, "--recorded", second]) == 1
    assert "with another recording of a live node" in capsys.readouterr().err
    # The same one may be read again, at another rate.
    assert main([*command, "--recorded", first, "--rate", "2"]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["playback_rate"] == 2
    assert results["speed"]["age_ms"]["p50"] == pytest.approx((DELAY + TAKEN / 2) / MS)


def test_what_a_node_answered_is_written_when_nobody_else_writes(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = answers_of_node(tmp_path / "node", 1, 3)
    assert main(command) == 0
    before = contents(tmp_path / "out")
    with locked(tmp_path / "out"):
        assert main([*command, "--recorded", node, "--restart"]) == 1
    assert "another evaluation is writing" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


def test_a_live_node_has_no_fixed_latency() -> None:
    given = ["--bag", "bag", "--model", "toy", "--out", "out", "--recorded", "node"]
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--latency", "40"])


def moments(*pairs: tuple[int, int]) -> list[Moment]:
    return [Moment(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("frames", "answers", "expected"),
    [
        # by stamp, whatever the order
        ([(7, 1), (8, 2)], [(8, 3), (7, 4)], {0: 1, 1: 0}),
        # two images of one stamp
        ([(7, 1), (7, 2)], [(7, 3), (7, 4)], {0: 0, 1: 1}),
        # played twice: the later answer counts
        ([(7, 1)], [(7, 3), (7, 4)], {0: 1}),
        # no stamps: the newest frame that was there
        ([(0, 1), (0, 2), (0, 90 * MS)], [(0, 3)], {1: 0}),
        ([(0, 1), (0, 2), (0, 90 * MS)], [(0, 3), (0, 4)], {0: 0, 1: 1}),
        # the clock of the recorder may be a step behind
        ([(0, 50 * MS), (0, 90 * MS)], [(0, 85 * MS)], {1: 0}),
        ([(0, 50 * MS), (0, 90 * MS)], [(0, 79 * MS)], {0: 0}),
        ([(0, 50 * MS), (0, 90 * MS)], [(0, 39 * MS)], {}),
        # as many answers as frames: the order is enough
        ([(0, 10), (0, 20)], [(0, 1), (0, 2)], {0: 0, 1: 1}),
        ([], [(0, 1)], {}),
        ([(0, 1)], [], {}),
    ],
)
def test_frames_get_their_answers(
    frames: list[tuple[int, int]], answers: list[tuple[int, int]], expected: dict[int, int]
) -> None:
    assert match_answers(moments(*frames), moments(*answers)) == expected


BEFORE, AFTER, FAILED = "lost before the node", "lost after the node", "failed in the node"


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        # those lost before come first, whatever else there is
        ((7, 5, 2, 0, 0, 0), [BEFORE] * 3 + ["dropped"] * 2),
        ((10, 7, 1, 0, 0, 2), ["dropped", FAILED, AFTER, AFTER, "not answered"]),
        # counters of more than this part of the recording
        ((90, 80, 9, 9, 9, 9), ["dropped"] * 5),
        ((10, 1, 0, 0, 0, 0), ["not answered"] * 5),
    ],
)
def test_what_became_of_the_unanswered_is_by_the_nodes_numbers(
    counters: tuple[int, ...], expected: list[str]
) -> None:
    """Of ten frames one is unreadable, which is an error of the node too, and five have answers."""
    node = NodeCounters(*counters, last_error="")
    found = outcomes_of_unanswered(5, frames=10, unreadable=1, answers=5, counters=node)
    assert found == expected


def test_an_answer_that_is_not_a_number_is_an_error(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be a NaN in JSON, which no other program reads."""
    scene = SCENES[1]
    broken = replace(scene, boxes=np.full_like(scene.boxes, np.nan))
    answers = [answer(0), replace(labelled(broken, 1, "/detector/detections"), time=answer(1).time)]
    node = write_bag(tmp_path / "node", answers)
    assert main([*command, "--recorded", str(node)]) == 1
    assert "a box or a score that is not finite" in capsys.readouterr().err
