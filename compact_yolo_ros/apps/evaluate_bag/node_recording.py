# SPDX-License-Identifier: Apache-2.0
"""What a live detector node published while a recording was played to it.

Its detections, and their times, become the log of a run (``FrameLog``), as if the recording had
been played back here; everything after that is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.answer_matching import (
    Moment,
    explain,
    match_answers,
    outcomes_of_unanswered,
)
from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    UNMEASURED,
    FrameLog,
    FrameResult,
)
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.node_messages import Answer, NodeRun
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.apps.evaluate_bag.results import MeasuredPower
from compact_yolo_ros.apps.evaluate_bag.results_folder import SESSIONS, claim, log_path, writing
from compact_yolo_ros.apps.evaluate_bag.sessions import Session, write_session
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.losses import Losses
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.video import images
from compact_yolo_ros.support.files import replacing


@dataclass(frozen=True)
class _Frame:
    """A frame that was played: without an outcome as yet if it can be read, and has a size then."""

    result: FrameResult
    moment: Moment
    size: Size


def write_node_log(job: Job, bag: Bag, run: NodeRun, folder: Path, restart: bool = False) -> None:
    """Write what a node published as the finished log of ``job``, which must be a realtime one.

    Args:
        job: names the recording, the topic that was played, and the node's own recording.
        bag: that recording.
        run: of the node.
        folder: of the results, which is locked; what it holds of the same job is replaced.
        restart: forget what another job left there.

    Raises:
        BagError: the folder belongs to another job, or cannot be written.
    """
    claim(job, bag, folder, restart)
    frames, answered, path = _frames(job, bag), 0, log_path(folder, 0)
    with writing(path), replacing(path) as temporary, closing(FrameLog(temporary)) as log:
        for result in _results(frames, run):
            answered += result.outcome == ANSWERED
            log.append(result)
        lost = Losses(_strangers(answered, len(run.answers)))
        lost.add(bag.losses)
        log.finish(lost)
    with writing(folder / SESSIONS):
        (folder / SESSIONS).unlink(missing_ok=True)
    if run.watts is not None:
        power = MeasuredPower("the node", "", run.watts, "", "")
        write_session(folder, Session(run.seconds, 0, power))


def _strangers(answered: int, answers: int) -> list[str]:
    """A sentence about answers to no frame of the recording, if there are any."""
    if answers == answered:
        return []
    return [
        f"{answers - answered} of {answers} answers of the node are to images that are not in the "
        "recording, or not in its part that is evaluated"
    ]


def _frames(job: Job, bag: Bag) -> list[_Frame]:
    """The frames that were played."""
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    found = []
    for message in images(bag, job.topics, job.start, job.stop):
        frame = read_frame(message, codec, decoder)
        moment = Moment(frame.stamp if frame.stamped else 0, frame.time)
        size = Size(0, 0)
        if frame.image is not None:
            size = Size(*frame.image.size)
        found.append(_Frame(frame.unanswered(frame.error), moment, size))
    return found


def _results(frames: Sequence[_Frame], run: NodeRun) -> Iterator[FrameResult]:
    """The result of every frame."""
    readable = [number for number, frame in enumerate(frames) if not frame.result.outcome]
    pairs = match_answers([frames[number].moment for number in readable], run.arrivals())
    found = {readable[number]: run.answers[answer] for number, answer in pairs.items()}
    outcomes = iter(
        outcomes_of_unanswered(
            len(readable) - len(found),
            frames=len(frames),
            unreadable=len(frames) - len(readable),
            answers=len(run.answers),
            counters=run.counters,
        )
    )
    for number, frame in enumerate(frames):
        if frame.result.outcome:
            yield frame.result
        elif number in found:
            yield _answered(frame, found[number], run.rate)
        else:
            outcome = next(outcomes)
            yield replace(frame.result, outcome=outcome, problem=explain(outcome, run.counters))


def _answered(frame: _Frame, answer: Answer, rate: float) -> FrameResult:
    measured = answer.measured
    return replace(
        frame.result,
        outcome=ANSWERED,
        size=frame.size,
        detections=answer.detections,
        stages=measured.stages if measured else UNMEASURED,
        finished=_finished(frame.moment, answer, rate),
    )


def _finished(frame: Moment, answer: Answer, rate: float) -> int:
    """When the detections of a frame would have been there at rate 1, in ns."""
    measured = answer.measured
    if measured is None or math.isnan(measured.age):
        return frame.time + round((answer.moment.time - frame.time) / rate)
    if not frame.stamp:
        return frame.time + answer.waited
    # On the clock of the playback, what the node takes is as many times longer.
    return frame.time + round((frame.stamp - frame.time + measured.age * 1e9) / rate)
