# SPDX-License-Identifier: Apache-2.0
"""What the evaluation of a recording says: the content of results.json, see docs/bags.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.results_folder import RESULTS, writing
from compact_yolo_ros.detection.selection import ANY_SIZE
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import View
from compact_yolo_ros.evaluation.result import EvaluationFigures, Summary
from compact_yolo_ros.evaluation.tracking import TrackingFigures
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.error_text import reason
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.plain_values import from_plain, to_plain

FORMAT = 2
OFFLINE, REALTIME = "offline", "realtime"


@dataclass(frozen=True)
class ModelFacts:
    """What ran, as found in the opened network.

    Attributes:
        name: from the model's card.
        given: name or path by which the user called it.
        backend: the runtime.
        device: what it runs on.
        warning: what differs from the options, for people; empty if nothing does.
        precision: number format, as found in the network.
        input_size: in pixels.
        threads: of the CPU.
        parameters: number of them.
        classes: names.
    """

    name: str
    given: str
    backend: str
    device: str
    warning: str
    precision: str
    input_size: Size
    threads: int
    parameters: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class RecordingFacts:
    """The recording, and the part of it that was evaluated.

    Attributes:
        paths: absolute.
        start_ns: beginning of the part.
        end_ns: end of the part.
        seconds: length of the part, without the time between several recordings.
        lost: a sentence for everything that could not be read.
        doubts: a sentence for everything else that makes figures doubtful.
    """

    paths: tuple[str, ...]
    start_ns: int
    end_ns: int
    seconds: float
    lost: tuple[str, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrameCounts:
    """Number of frames of a topic: all, answered, dropped, and errors by their kind.

    Of a live node, those in ``TopicResults.unanswered`` are in none but the first.
    """

    all: int
    answered: int
    dropped: int
    errors: dict[str, int]


@dataclass(frozen=True)
class FlickerCounts:
    """How unsteady the detections of a topic are, see ``topic_statistics.Flicker``.

    Attributes:
        flashes: detections in one frame only.
        gaps: detections missing in one frame.
        per_detection: both, as a part of all detections; None without any.
    """

    flashes: int
    gaps: int
    per_detection: float | None


@dataclass(frozen=True)
class DetectionCounts:
    """Number of detections of a topic, with a score from the threshold on."""

    all: int
    by_class: dict[str, int]
    flicker: FlickerCounts


@dataclass(frozen=True)
class TimeCourse:
    """Counts over a recording, in equal steps of at least 1 s.

    Attributes:
        second: beginning of each step.
        frames: in the step, also the next two.
        dropped: number of dropped frames, and of those that a live node did not answer otherwise.
        unreadable: number of frames that could not be decoded.
        detections: per answered frame; nan where none was answered.
    """

    second: tuple[float, ...]
    frames: tuple[int, ...]
    dropped: tuple[int, ...]
    unreadable: tuple[int, ...]
    detections: tuple[float, ...]


@dataclass(frozen=True)
class StreamFigures:
    """How the images of a topic came, by the recorder's clock; None where there are too few.

    Attributes:
        rate: images per second: one over the median time between two.
        interval_ms: between two images.
        jitter_ms: median deviation of that time from its median.
        longest_gap_ms: longest time without an image.
        longest_gap_at: when it began, in seconds of the evaluated part.
    """

    rate: float | None
    interval_ms: Percentiles | None
    jitter_ms: float | None
    longest_gap_ms: float | None
    longest_gap_at: float | None


@dataclass(frozen=True)
class TopicResults:
    """The results of a topic.

    Attributes:
        frames: how many.
        problems: a sentence about the first error of each kind.
        detections: how many.
        over_time: the course of both.
        unanswered: of a live node, number of frames that it has not answered and not dropped for a
            newer one, by the reason: lost before or after the node, too old, skipped.
        stream: how the images came; None in results of earlier versions.
    """

    frames: FrameCounts
    problems: dict[str, str]
    detections: DetectionCounts
    over_time: TimeCourse
    unanswered: dict[str, int] = field(default_factory=dict)
    stream: StreamFigures | None = None


@dataclass(frozen=True)
class StagePercentiles:
    """Percentiles in ms of each stage, see ``FrameStages``, and of their sum for each frame.

    None where nothing was measured.
    """

    decode: Percentiles | None
    preprocess: Percentiles | None
    inference: Percentiles | None
    postprocess: Percentiles | None
    total: Percentiles | None

    def named(self) -> dict[str, Percentiles]:
        """Those that are known, by the names of the stages."""
        return {name: values for name, values in vars(self).items() if values is not None}


@dataclass(frozen=True)
class Speed:
    """How fast it was.

    Attributes:
        frames_per_second: None if nothing was run here; in realtime, of the answered frames. Of a
            live node at another playback rate: in seconds of the playback.
        seconds: of the run, without the opening of the model.
        sessions: number of times that it was begun or continued.
        workers: number of processes.
        network_share: part of the frames' time that the network takes; None if no frame's is known.
        stages_ms: of the answered frames whose stages are known; None where there is none.
        age_ms: from the stamp to the detections, in realtime; None if it is not known. Of a live
            node at another playback rate: as it would be at the recorded one.
    """

    frames_per_second: float | None
    seconds: float
    sessions: int
    workers: int
    network_share: float | None
    stages_ms: StagePercentiles
    age_ms: Percentiles | None


@dataclass(frozen=True)
class MeasuredPower:
    """The power during a run.

    Attributes:
        source: where it was read.
        mode: power mode of the machine; None or empty if it is not known.
        watts: mean; None if it could not be read.
        throttling: events and states, for people; empty if there were none.
        problem: why it could not be read.
    """

    source: str
    mode: str | None
    watts: float | None
    throttling: str
    problem: str


@dataclass(frozen=True)
class Energy(MeasuredPower):
    """The power during a run, and what an answered frame costs; None where it is not known."""

    joules_per_frame: float | None
    frames_per_second_per_watt: float | None


@dataclass(frozen=True)
class LabelCounts:
    """Which frames of a topic have labels, see ``label_matching.Matching``.

    Attributes:
        labels_from: names the labels to a person.
        labels: number of labels.
        frames: number of frames.
        matched: number of pairs.
        labels_without_frame: number of labels in no pair.
        frames_without_label: number of frames in no pair.
        tolerance_ms: largest offset; 0 if frames are known by number.
        mean_offset_ms: stamp of the label - stamp of the frame; None without pairs.
        largest_offset_ms: either way; None without pairs.
    """

    labels_from: str
    labels: int
    frames: int
    matched: int
    labels_without_frame: int
    frames_without_label: int
    tolerance_ms: float
    mean_offset_ms: float | None
    largest_offset_ms: float | None


@dataclass(frozen=True)
class AccuracyResults(EvaluationFigures):
    """How good the detections are.

    Attributes:
        against: what they were compared with.
        matching: by topic.
        unanswered: labelled frames without detections; they count in ``streaming`` only.
        left_out: a sentence on classes that were not evaluated; may be empty.
        topics: the means of each labelled topic, if there are several.
        streaming: what a robot knew when each labelled frame came, dropped ones included, see
            ``streaming.StreamingAccuracy``; None unless in realtime.
        labels_sha256: of what the labels of the matched frames say, or of the file of the model
            whose detections they are; empty in results of earlier versions.
    """

    against: str
    matching: dict[str, LabelCounts]
    unanswered: int
    left_out: str
    topics: dict[str, Summary] = field(default_factory=dict)
    streaming: Summary | None = None
    labels_sha256: str = ""


@dataclass(frozen=True)
class TrackCounts:
    """The tracks of a topic, without labels.

    Attributes:
        tracks: number of them.
        brief: those that last half a second at most.
        median_seconds: from the first to the last frame of a track; None without any.
        interruptions: times that a track was missing in an answered frame and came back.
        fragmentation: interruptions a track; None without any. The fragmentations of Li, Huang and
            Nevatia (CVPR 2009), as far as they show without labels.
        flicker: of the tracks' boxes, as that of the detections.
    """

    tracks: int
    brief: int
    median_seconds: float | None
    interruptions: int
    fragmentation: float | None
    flicker: FlickerCounts


@dataclass(frozen=True)
class TrackingResults:
    """What following the objects gave.

    Attributes:
        options: how they were followed.
        topics: by name.
        accuracy: against labels with tracks, of all topics together; None without such labels.
        left_out: why labels with ids were not compared; empty if they were, or there are none.
    """

    options: TrackingOptions
    topics: dict[str, TrackCounts]
    accuracy: TrackingFigures | None
    left_out: str = ""


@dataclass(frozen=True)
class Results:
    """The content of results.json.

    Attributes:
        model: what ran.
        recording: what it ran on.
        mode: ``OFFLINE`` or ``REALTIME``.
        fixed_latency_s: seconds that a frame takes in realtime; None if they were measured.
        threshold: of the score, for all that is not average precision.
        topics: by name.
        speed: how fast it was.
        power: what it cost.
        accuracy: None without labels.
        environment: facts about the machine, for people.
        report: why there is no report.html; empty if there is one.
        playback_rate: at which the recording was played to a live node; None if it was not.
        tracking: None unless the objects were followed.
        class_thresholds: of classes that have one of their own instead of ``threshold``.
        min_box_size: least width and height of a box in pixels.
        max_box_size: most of them; 0 is no limit.
        view: how the network saw the images; None in results of earlier versions.
        format: of the file.
    """

    model: ModelFacts
    recording: RecordingFacts
    mode: str
    fixed_latency_s: float | None
    threshold: float
    topics: dict[str, TopicResults]
    speed: Speed
    power: Energy
    accuracy: AccuracyResults | None
    environment: dict[str, str]
    report: str = ""
    playback_rate: float | None = None
    tracking: TrackingResults | None = None
    class_thresholds: dict[str, float] = field(default_factory=dict)
    min_box_size: tuple[int, int] = ANY_SIZE
    max_box_size: tuple[int, int] = ANY_SIZE
    view: View | None = None
    format: int = FORMAT

    def failures(self) -> list[str]:
        """A sentence for each topic without a single answer, and if no answer has a label."""
        found = [
            f"no image of {name} was answered: {_outcomes(topic)}"
            for name, topic in self.topics.items()
            if not topic.frames.answered
        ]
        if not found and self.accuracy and not self.accuracy.images:
            found.append(
                f"none of the {self.accuracy.unanswered} labelled images was answered, so nothing "
                "is known of the accuracy"
            )
        return found


def _outcomes(topic: TopicResults) -> str:
    """What happened to the images of a topic instead of an answer."""
    counts = {"dropped": topic.frames.dropped} if topic.frames.dropped else {}
    counts |= topic.unanswered | topic.frames.errors
    parts = (
        f"{count} {kind}" + (f" ({topic.problems[kind]})" if kind in topic.problems else "")
        for kind, count in counts.items()
    )
    return "; ".join(parts) or "there is none"


def write_results(folder: Path, results: Results) -> None:
    """Write results.json; BagError if it cannot be written."""
    path = folder / RESULTS
    with writing(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(to_plain(results), indent=1, allow_nan=False) + "\n")


def read_results(folder: Path) -> Results:
    """Read the results.json of an earlier evaluation.

    Raises:
        BagError: it is something else, or was written by another version.
    """
    path = folder / RESULTS
    try:
        results = from_plain(Results, read_json(path, LARGE))
    except (OSError, ValueError) as error:
        raise BagError(
            f"{path} was not written by this version of evaluate_bag: {reason(error)}"
        ) from None
    if results.format != FORMAT:
        raise BagError(
            f"{path} was not written by this version of evaluate_bag: its format is "
            f"{results.format}, not {FORMAT}"
        )
    return results
