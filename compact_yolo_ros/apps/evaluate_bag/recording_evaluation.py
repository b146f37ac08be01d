# SPDX-License-Identifier: Apache-2.0
"""A model on a recording, from the files to the results: what the command does, for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.accuracy import Accuracy, measure_accuracy, shared_classes
from compact_yolo_ros.apps.evaluate_bag.cluster import LOCAL, run_on_cluster
from compact_yolo_ros.apps.evaluate_bag.coco_output import write_coco
from compact_yolo_ros.apps.evaluate_bag.detection_run import run
from compact_yolo_ros.apps.evaluate_bag.detections_recording import write_detections_recording
from compact_yolo_ros.apps.evaluate_bag.frame_export import export_frames
from compact_yolo_ros.apps.evaluate_bag.frame_labels import (
    FrameLabels,
    labels_of_results,
    read_frame_labels,
)
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameResult
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts
from compact_yolo_ros.apps.evaluate_bag.label_matching import (
    LARGEST_TOLERANCE,
    Matching,
    labels_sha256,
    match,
    no_overlap,
)
from compact_yolo_ros.apps.evaluate_bag.node_messages import NodeRun, read_node_run
from compact_yolo_ros.apps.evaluate_bag.node_recording import write_node_log
from compact_yolo_ros.apps.evaluate_bag.report_page import write_page
from compact_yolo_ros.apps.evaluate_bag.results import (
    AccuracyResults,
    ModelFacts,
    Results,
    TrackingResults,
    write_results,
)
from compact_yolo_ros.apps.evaluate_bag.results_folder import (
    continued,
    locked,
    model_sha256,
    read_frame_results,
    writing,
)
from compact_yolo_ros.apps.evaluate_bag.run_summary import model_facts, summarise
from compact_yolo_ros.apps.evaluate_bag.sessions import (
    PowerLog,
    RunTotals,
    Session,
    append_session,
    total_of_sessions,
)
from compact_yolo_ros.apps.evaluate_bag.settings import Settings
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import (
    TopicStatistics,
)
from compact_yolo_ros.apps.evaluate_bag.tracks import follow, measure_tracking
from compact_yolo_ros.apps.evaluate_bag.video import video_names, write_video
from compact_yolo_ros.backends.registry import AUTO
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.evaluation.report import ReportError, check_libraries
from compact_yolo_ros.machine.description import describe_machine
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

EXAMPLES = 9
"""Frames shown in a report."""

Progress = Callable[[str, int], object]
"""Called with the name of what is being done, and the number of frames it is done for."""


def evaluate_recording(
    settings: Settings, bag: Bag | None = None, progress: Progress = lambda what, frames: None
) -> Results:
    """Evaluate, write everything into ``settings.out`` and return what is in results.json.

    Labels that cannot be used are an error before the network is run.

    Raises:
        Interrupted: by a signal; the next call continues.
        BagError: recording, labels or folder cannot be used.
        ModelError, BackendError, ValueError: the model cannot be opened or run.
    """
    job, bag = settings.job, bag or Bag(settings.job.bags)
    _check_images(job, bag)
    card = find_model(job.options.model).card
    settings.selection(card)  # what is wrong with it is said before the network is run
    settings, model = _settle(settings, bag)
    job = settings.job
    labels = {
        topic: read_frame_labels(source, bag, card.classes, topic, settings.threshold)
        for topic, source in settings.ground_truth.items()
    }
    _check_overlap(bag, labels, settings.tolerance)
    node = _read_node(settings, card)
    rate, behind = (None, 0.0) if node is None else (node.rate, node.behind)
    settings = replace(settings, playback_rate=rate, playback_behind=behind)
    if labels:
        shared_classes(card.classes, labels.values(), settings.rename)
    with locked(settings.out):
        if settings.reference:
            labels = _reference_labels(settings, bag, progress)
        totals = _run(
            job, bag, settings.out, settings, partial(progress, "frames"), model.device, node
        )
        statistics = _statistics(settings, card)
        accuracy, figures = None, None
        if labels:
            accuracy, figures = _accuracy(settings, bag, card, labels, statistics)
        results = summarise(settings, bag, model, labels, statistics, totals, figures)
        if (followed := settings.followed(card)) is not None:
            tracking = _tracking(settings, followed, bag, card, labels, statistics)
            results = replace(results, tracking=tracking)
        return _write(settings, bag, card, results, statistics, accuracy)


def _settle(settings: Settings, bag: Bag) -> tuple[Settings, ModelFacts]:
    """Open the model: as in the sessions before this one, or else as is best now."""
    job = settings.job if settings.restart else continued(settings.job, bag, settings.out)
    with closing(job.open_detector()) as detector:
        job = job.settled_on(detector, settings.workers)
        return replace(settings, job=job), model_facts(job, detector.backend)


def _read_node(settings: Settings, card: ModelCard) -> NodeRun | None:
    """What the live node of the job published; None if it has none."""
    job = settings.job
    if job.recorded is None:
        return None
    return read_node_run(job.recorded, job.topics, card.classes, settings.playback_rate)


def _check_images(job: Job, bag: Bag) -> None:
    """Raise BagError if there is no image in what is to be evaluated."""
    parts(job, bag)
    if next(bag.messages(job.topics, job.start, job.stop), None) is None:
        why = "".join(f"; {sentence}" for sentence in bag.lost)
        raise BagError(f"no image of {', '.join(job.topics)} is in that part of the recording{why}")


def _check_overlap(bag: Bag, labels: Mapping[str, FrameLabels], tolerance: int | None) -> None:
    """Raise BagError if labels and frames are of other times; a quick check, so with a margin."""
    codec = Codec(bag.topics.values())
    for topic, part in labels.items():
        first = next(bag.messages([topic]), None)
        if first is None or part.times is None:
            continue
        try:
            stamp = stamp_of(codec.read(first), first.time)
        except BagError:
            continue
        last = stamp + bag.end - first.time
        slack = (tolerance or LARGEST_TOLERANCE) + 10**9
        if part.times[-1] < stamp - slack or part.times[0] > last + slack:
            raise BagError(no_overlap(part, stamp, last, tolerance or LARGEST_TOLERANCE))


def _reference_labels(settings: Settings, bag: Bag, progress: Progress) -> dict[str, FrameLabels]:
    """What the reference model finds in every frame, as labels of each topic."""
    options = settings.job.options.change(model=settings.reference, precision=AUTO, input_sizes=())
    job = replace(settings.job, options=options, realtime=False, latency=None)
    job = replace(job, recorded=None, runtime=None)
    folder = settings.out / "reference"
    card = find_model(settings.reference).card
    _run(job, bag, folder, settings, partial(progress, "reference"), "CPU")
    labels = {
        topic: labels_of_results(
            f"detections of {card.name}",
            (result for result in read_frame_results(folder) if result.topic == topic),
            card.classes,
            settings.threshold,
        )
        for topic in job.topics
    }
    for topic, part in labels.items():
        if not len(part):
            own = (result for result in read_frame_results(folder) if result.topic == topic)
            why = next((result.problem for result in own if result.problem), "it has none")
            raise BagError(f"the reference model could answer no image of {topic}: {why}")
    return labels


def _run(
    job: Job,
    bag: Bag,
    folder: Path,
    settings: Settings,
    progress: Callable[[int], object],
    device: str,
    node: NodeRun | None = None,
) -> RunTotals:
    """Run the job, and measure its time and power.

    What a live ``node`` did is written down instead, with its own power.
    """
    power = PowerLog(on_gpu=device != "CPU")
    before: int | None = None
    marks: list[tuple[int, float]] = []  # when the first frame was done, and the last one

    def note(done: int) -> None:
        nonlocal before
        before = done if before is None else before
        if done > before:
            marks[1 if marks else 0 :] = [(done, time.monotonic())]
        power.look()
        progress(done)

    try:
        if node is not None:
            write_node_log(job, bag, node, folder, settings.restart)
        else:
            go = partial(run_on_cluster, address=settings.cluster) if settings.cluster else run
            go(job, bag, folder, workers=settings.workers, restart=settings.restart, progress=note)
    finally:
        watts = power.close()
        session = Session(0.0, 0, watts, _environment(power.summary, settings.cluster))
        if len(marks) == 2:
            (first, began), (last, ended) = marks
            session = replace(session, seconds=ended - began, frames=last - first)
        if settings.cluster not in ("", LOCAL):
            unknown = replace(session.power, watts=None, problem="other machines did the work")
            session = replace(session, power=unknown)
        if session.frames:
            append_session(folder, session)
    return total_of_sessions(folder, session)


def _environment(power: PowerSummary, cluster: str) -> dict[str, str]:
    """Facts about what does the work, for people; of a cluster all have the same versions only."""
    facts = describe_machine(power)
    if cluster in ("", LOCAL):
        return facts
    facts.pop("clocks", None)
    unknown = ("cores", "memory", "system", "load before", "power mode", "power")
    return facts | dict.fromkeys(unknown, "unknown") | {"processor": f"those of {cluster}"}


def _statistics(settings: Settings, card: ModelCard) -> dict[str, TopicStatistics]:
    selection = settings.selection(card)
    found = {topic: TopicStatistics(len(card.classes), selection) for topic in settings.job.topics}
    for result in read_frame_results(settings.out):
        found[result.topic].add(result)
    return found


def _accuracy(
    settings: Settings,
    bag: Bag,
    card: ModelCard,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
) -> tuple[Accuracy, AccuracyResults]:
    matchings = _matchings(settings, bag, labels, statistics)
    mapping = shared_classes(card.classes, labels.values(), settings.rename)
    accuracy = measure_accuracy(
        read_frame_results(settings.out),
        labels,
        matchings,
        mapping,
        settings.threshold,
        EXAMPLES,
        realtime=settings.job.realtime,
    )
    against, digest = "ground truth", labels_sha256(labels, matchings)
    if settings.reference:
        # Its detections would differ in their last digits where another runtime found them.
        digest = model_sha256(settings.reference)
        against = (
            f"agreement with {settings.reference}: its detections with a score from "
            f"{settings.threshold} on are taken for the ground truth"
        )
    return accuracy, AccuracyResults(
        **vars(accuracy.evaluation.figures()),
        against=against,
        matching={topic: m.counts(labels[topic].source) for topic, m in matchings.items()},
        unanswered=accuracy.unanswered,
        left_out=mapping.left_out,
        topics={topic: each.summary() for topic, each in accuracy.topics.items()},
        streaming=accuracy.streaming,
        labels_sha256=digest,
    )


def _matchings(
    settings: Settings,
    bag: Bag,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
) -> dict[str, Matching]:
    """Which label belongs to which frame, by topic."""
    return {
        topic: match(
            part,
            statistics[topic].stamps,
            settings.tolerance,
            0 if part.numbers is None else _images_before(bag, topic, settings.job.start),
        )
        for topic, part in labels.items()
    }


def _tracking(
    settings: Settings,
    options: TrackingOptions,
    bag: Bag,
    card: ModelCard,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
) -> TrackingResults:
    mapping = shared_classes(card.classes, labels.values(), settings.rename) if labels else None
    matchings = _matchings(settings, bag, labels, statistics)
    return measure_tracking(read_frame_results(settings.out), options, labels, matchings, mapping)


def _images_before(bag: Bag, topic: str, start: int) -> int:
    """Number of images before ``start`` (ns)."""
    return sum(1 for _ in bag.messages([topic], 0, start)) if start else 0


def _frames(settings: Settings, card: ModelCard) -> Iterator[FrameResult]:
    """All results; with ids if objects are followed."""
    results = read_frame_results(settings.out)
    tracking = settings.followed(card)
    if tracking is None:
        return results
    return (result for result, _ in follow(results, tracking))


def _write(
    settings: Settings,
    bag: Bag,
    card: ModelCard,
    results: Results,
    statistics: Mapping[str, TopicStatistics],
    accuracy: Accuracy | None,
) -> Results:
    """Write all files; results.json is the last one, so that where it is the others are."""
    out, selection = settings.out, settings.selection(card)
    frames: Callable[[], Iterator[FrameResult]] = partial(_frames, settings, card)
    write_coco(out / "detections.json", frames, card.classes)
    write_detections_recording(out / "detections", frames(), card.classes, selection)
    if settings.video:
        for topic, name in video_names(settings.job.topics).items():
            write_video(out / name, bag, topic, frames, card.classes, selection)
    if settings.export_apart is not None:
        for topic, name in video_names(settings.job.topics).items():
            folder = out / "frames" / Path(name).stem
            export_frames(folder, bag, topic, frames(), settings.export_apart)
    path = out / "report.html"
    try:
        check_libraries()
    except ReportError as error:
        results = replace(results, report=str(error))
    else:
        with writing(path):
            write_page(path, bag, results, statistics, accuracy)
    write_results(out, results)
    return results
