# SPDX-License-Identifier: Apache-2.0
"""A model on a recording, from the files to the results: what the command does, for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compact_yolo_ros.apps.evaluate_bag import outputs
from compact_yolo_ros.apps.evaluate_bag.accuracy import Accuracy, Shown, judge, shared_classes
from compact_yolo_ros.apps.evaluate_bag.cluster import LOCAL, run_on_cluster
from compact_yolo_ros.apps.evaluate_bag.detection_run import (
    RESULTS,
    SESSIONS,
    Interrupted,
    Job,
    alone,
    lost_in,
    parts,
    records_of,
    run,
    shared,
)
from compact_yolo_ros.apps.evaluate_bag.frame_labels import (
    FrameLabels,
    labels_of_records,
    read_frame_labels,
)
from compact_yolo_ros.apps.evaluate_bag.frame_results import Record
from compact_yolo_ros.apps.evaluate_bag.label_matching import (
    LARGEST_TOLERANCE,
    match,
    no_overlap,
)
from compact_yolo_ros.apps.evaluate_bag.power_use import PowerLog
from compact_yolo_ros.apps.evaluate_bag.report_sections import sections
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import (
    OTHER_CLOCK,
    TopicStatistics,
    over_time,
    percentiles_ms,
    stages_ms,
)
from compact_yolo_ros.evaluation import ClassMapping
from compact_yolo_ros.evaluation.example_images import ExampleImage
from compact_yolo_ros.evaluation.report import (
    ReportError,
    ShownEvaluation,
    check_libraries,
    write_report,
)
from compact_yolo_ros.machine.description import describe_machine
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.files import replacing
from compact_yolo_ros.support.plain_values import to_plain

WORST = 9
"""Frames shown in a report."""

Tell = Callable[[str, int], object]
"""Told what is being done and the number of frames it is done for."""


@dataclass(frozen=True)
class Settings:
    """What to evaluate and what to write.

    Attributes:
        job: model, recording, topics.
        out: folder for the results.
        ground_truth: where the labels of a topic are; see ``read_frame_labels``.
        reference: model whose detections are the labels instead; empty for none.
        threshold: of the score, for all that is not average precision.
        rename: classes of the model that have another name in the labels.
        tolerance: between the stamps of a frame and a label in ns; see ``match``.
        workers: processes.
        restart: forget what an earlier call did.
        video: write a video of each topic.
        cluster: address of a Dask scheduler that spreads the work; empty for this machine alone.
    """

    job: Job
    out: Path
    ground_truth: Mapping[str, str] = field(default_factory=dict)
    reference: str = ""
    threshold: float = 0.3
    rename: Mapping[str, str] = field(default_factory=dict)
    tolerance: int | None = None
    workers: int = 1
    restart: bool = False
    video: bool = False
    cluster: str = ""


def evaluate(
    settings: Settings, bag: Bag | None = None, tell: Tell = lambda what, frames: None
) -> dict[str, Any]:
    """Evaluate, write everything into ``settings.out`` and return what is in results.json.

    What is wrong with the labels is told before the network is run.

    Raises:
        Interrupted: by a signal; calling it again goes on.
        BagError: recording, labels or folder cannot be used.
        ModelError, BackendError, ValueError: the model cannot be opened or run.
    """
    job, bag = settings.job, bag or Bag(settings.job.bags)
    _check_images(job, bag)
    card, model = find_model(job.model).card, _model(settings)
    labels = {
        topic: read_frame_labels(source, bag, card.classes, topic, settings.threshold)
        for topic, source in settings.ground_truth.items()
    }
    _check_overlap(bag, labels, settings.tolerance)
    if labels:
        shared_classes(card.classes, labels.values(), settings.rename)
    with alone(settings.out):
        if settings.reference:
            labels = _reference(settings, bag, tell)
        session = _run(job, bag, settings.out, settings, partial(tell, "frames"), model["device"])
        statistics = _statistics(settings, card)
        accuracy, facts = None, None
        if labels:
            mapping = shared_classes(card.classes, labels.values(), settings.rename)
            accuracy, facts = _accuracy(settings, bag, labels, statistics, mapping)
        results = _results(settings, bag, model, labels, statistics, session, facts)
        _write(settings, bag, card, results, statistics, accuracy)
    return results


def _check_images(job: Job, bag: Bag) -> None:
    """Raise BagError if there is no image in what is to be evaluated."""
    parts(job, bag)
    if next(bag.messages(job.topics, job.start, job.stop), None) is None:
        why = "".join(f"; {sentence}" for sentence in bag.lost)
        raise BagError(f"no image of {', '.join(job.topics)} is in that part of the recording{why}")


def _check_overlap(bag: Bag, labels: Mapping[str, FrameLabels], tolerance: int | None) -> None:
    """Raise BagError if labels and frames are of other times; cheaply, so a little too kindly."""
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


def _reference(settings: Settings, bag: Bag, tell: Tell) -> dict[str, FrameLabels]:
    """What the reference model finds in every frame, as labels of each topic."""
    job = replace(
        settings.job,
        model=settings.reference,
        precision="auto",
        input_size=None,
        realtime=False,
        latency=None,
    )
    folder = settings.out / "reference"
    card = find_model(job.model).card
    _run(job, bag, folder, settings, partial(tell, "reference"), "CPU")
    return {
        topic: labels_of_records(
            f"detections of {card.name}",
            (record for record in records_of(folder) if record.topic == topic),
            card.classes,
            settings.threshold,
        )
        for topic in job.topics
    }


def _run(
    job: Job,
    bag: Bag,
    folder: Path,
    settings: Settings,
    tell: Callable[[int], object],
    device: str,
) -> dict[str, Any]:
    """Run the job, and return what all its sessions took: seconds, frames, power.

    Seconds and frames are counted from the first frame that is done: opening a model takes long.
    """
    power = PowerLog(on_gpu=device != "CPU")
    before: int | None = None
    progress: list[tuple[int, float]] = []  # when the first frame was done, and the last one

    def note(done: int) -> None:
        nonlocal before
        before = done if before is None else before
        if done > before:
            progress[1 if progress else 0 :] = [(done, time.monotonic())]
        power.look()
        tell(done)

    path = folder / SESSIONS
    try:
        go = partial(run_on_cluster, address=settings.cluster) if settings.cluster else run
        go(job, bag, folder, workers=settings.workers, restart=settings.restart, tell=note)
    finally:
        session: dict[str, Any] = {"seconds": 0.0, "frames": 0, "power": power.close()}
        if len(progress) == 2:
            (first, began), (last, ended) = progress
            session |= {"seconds": ended - began, "frames": last - first}
        if settings.cluster not in ("", LOCAL):
            session["power"] |= {"watts": None, "problem": "other machines did the work"}
        if session["frames"]:
            _append(path, session)
    return _sum_of_sessions(path, session) | {"environment": describe_machine(power.summary)}


def _append(path: Path, session: dict[str, Any]) -> None:
    with outputs.explained(path), path.open("a") as file:
        # What a crash left of a line ends here.
        file.write(f"\n{json.dumps(session)}\n")


def _sum_of_sessions(path: Path, last: dict[str, Any]) -> dict[str, Any]:
    # Half a line, left by a crash, is no session.
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    sessions = [json.loads(line) for line in lines if line.endswith(b"}\n")]
    if not sessions:  # nothing was run here, so the power was not that of the network
        sessions = [last | {"power": last["power"] | {"watts": None}}]
    seconds = sum(session["seconds"] for session in sessions)
    watts = [(s["power"]["watts"], s["seconds"]) for s in sessions if s["power"]["watts"]]
    power = dict(sessions[-1]["power"])
    power["watts"] = sum(w * s for w, s in watts) / sum(s for _, s in watts) if watts else None
    frames = sum(session["frames"] for session in sessions)
    return {"seconds": seconds, "frames": frames, "sessions": len(sessions), "power": power}


def _statistics(settings: Settings, card: ModelCard) -> dict[str, TopicStatistics]:
    found = {
        topic: TopicStatistics(len(card.classes), settings.threshold)
        for topic in settings.job.topics
    }
    for record in records_of(settings.out):
        found[record.topic].add(record)
    return found


def _accuracy(
    settings: Settings,
    bag: Bag,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
    mapping: ClassMapping,
) -> tuple[Accuracy, dict[str, Any]]:
    matchings = {
        topic: match(
            part,
            statistics[topic].stamps,
            settings.tolerance,
            0 if part.numbers is None else _left_out(bag, topic, settings.job.start),
        )
        for topic, part in labels.items()
    }
    accuracy = judge(
        records_of(settings.out), labels, matchings, mapping, settings.threshold, WORST
    )
    against = "ground truth"
    if settings.reference:
        against = (
            f"agreement with {settings.reference}: its detections with a score from "
            f"{settings.threshold} on stand in for the truth"
        )
    return accuracy, {
        "against": against,
        "matching": {
            topic: {"labels_from": labels[topic].source, **matching.to_dict()}
            for topic, matching in matchings.items()
        },
        "unanswered": accuracy.unanswered,
        "left_out": mapping.left_out,
        **to_plain(accuracy.evaluation.figures()),
    }


def _left_out(bag: Bag, topic: str, start: int) -> int:
    """Images before ``start`` (ns)."""
    return sum(1 for _ in bag.messages([topic], 0, start)) if start else 0


def _results(
    settings: Settings,
    bag: Bag,
    model: Mapping[str, Any],
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
    session: Mapping[str, Any],
    accuracy: dict[str, Any] | None,
) -> dict[str, Any]:
    """Everything as plain values; see docs/bags.md."""
    job = settings.job
    spans = parts(job, bag)
    start, end = spans[0][0], spans[-1][1]
    seconds = np.concatenate([s.seconds for s in statistics.values()])
    answered, busy = len(seconds), float(seconds.sum())
    share = answered / sum(s.outcomes.total() for s in statistics.values())
    duration = (end - start) * 1e-9
    # Parts that were run elsewhere have no session, so nothing is known of their rate.
    rate = session["frames"] / session["seconds"] if session["frames"] else None
    if job.realtime:
        rate = answered / duration
    ages = np.concatenate([s.ages for s in statistics.values()]) if job.realtime else np.empty(0)
    power = dict(session["power"])
    # Of an answered frame: those that were dropped cost nothing.
    power["joules_per_frame"] = (
        power["watts"] * session["seconds"] / (session["frames"] * share)
        if power["watts"] and session["frames"] and share
        else None
    )
    power["frames_per_second_per_watt"] = (
        1 / power["joules_per_frame"] if power["joules_per_frame"] else None
    )
    return {
        "format": 1,
        "model": model,
        "recording": {
            "paths": [str(path) for path in job.bags],
            "start_ns": start,
            "end_ns": end,
            "seconds": duration,
            "lost": _lost(bag, job, labels, statistics, settings.out),
        },
        "mode": "realtime" if job.realtime else "offline",
        "fixed_latency_s": job.latency,
        "threshold": settings.threshold,
        "topics": {
            topic: {
                "frames": found.frames(),
                "problems": found.problems,
                "detections": {
                    "all": int(found.per_class.sum()),
                    "by_class": dict(zip(model["classes"], found.per_class.tolist(), strict=True)),
                    "flicker": found.flicker.to_dict(),
                },
                "over_time": over_time(found, start, end),
            }
            for topic, found in statistics.items()
        },
        "speed": {
            "frames_per_second": rate,
            "seconds": session["seconds"],
            "sessions": session["sessions"],
            "workers": settings.workers,
            "network_share": float(seconds[:, 2].sum()) / busy if busy else None,
            "stages_ms": stages_ms(seconds),
            "age_ms": percentiles_ms(ages),
        },
        "power": power,
        "accuracy": accuracy,
        "environment": session["environment"],
    }


def _model(settings: Settings) -> dict[str, Any]:
    """What ran, as found in the opened network."""
    with closing(shared(settings.job, settings.workers).open_detector()) as detector:
        backend = detector.backend
        height, width = backend.input.shape[1:3]
        return {
            "name": backend.card.name,
            "given": settings.job.model,
            "backend": backend.name,
            "device": backend.device,
            "warning": detector.opened.warning,
            "precision": backend.precision,
            "input_size": [height, width],
            "threads": backend.threads,
            "parameters": backend.card.parameters,
            "classes": list(backend.card.classes),
        }


def _lost(
    bag: Bag,
    job: Job,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
    folder: Path,
) -> list[str]:
    """Sentences, and for whole recordings how many images are missing of each topic."""
    sentences = [*bag.lost, *lost_in(folder)]
    missing = bool(sentences)
    if job.start <= bag.start and job.stop > bag.end:
        for topic, found in statistics.items():
            count = bag.expected.get(topic, 0) - found.outcomes.total()
            if count > 0:
                missing = True
                sentences.append(
                    f"{count} of {bag.expected[topic]} images of {topic} could not be read"
                )
    sentences += [
        f"the stamps of {topic} are {abs(found.delay):.0f} s from the times of recording: they are "
        "of another clock, so the age of the answers is not known"
        for topic, found in statistics.items()
        if job.realtime and abs(found.delay) > OTHER_CLOCK
    ]
    sentences += [
        f"the labels of {topic} go by the number of the frame: behind missing images they are "
        "those of other frames, and the accuracy is wrong"
        for topic, part in labels.items()
        if missing and part.numbers is not None
    ]
    return list(dict.fromkeys(sentences))


def _write(
    settings: Settings,
    bag: Bag,
    card: ModelCard,
    results: dict[str, Any],
    statistics: Mapping[str, TopicStatistics],
    accuracy: Accuracy | None,
) -> None:
    out, threshold = settings.out, settings.threshold
    records: Callable[[], Iterator[Record]] = partial(records_of, out)
    outputs.write_coco(out / "detections.json", records, card.classes)
    outputs.write_detections_bag(out / "detections", records, card.classes, threshold)
    if settings.video:
        for topic, name in outputs.video_names(settings.job.topics).items():
            outputs.write_video(out / name, bag, topic, records, card.classes, threshold)
    try:
        check_libraries()
    except ReportError as error:
        results["report"] = str(error)
    else:
        _write_page(settings, bag, results, statistics, accuracy)
    path = out / RESULTS  # the last one: where it is, the others are
    with outputs.explained(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


def _write_page(
    settings: Settings,
    bag: Bag,
    results: dict[str, Any],
    statistics: Mapping[str, TopicStatistics],
    accuracy: Accuracy | None,
) -> None:
    model, machine = results["model"], results["environment"]
    evaluated = []
    if accuracy is not None:
        examples = filter(None, (_picture(bag, frame) for frame in accuracy.worst))
        evaluated = [ShownEvaluation(model["name"], accuracy.evaluation, list(examples))]
    size = " x ".join(map(str, model["input_size"]))
    facts = {
        "Recording": ", ".join(results["recording"]["paths"]),
        "Length": f"{results['recording']['seconds']:.1f} s",
        "Model": f"{model['given']}, {model['precision']}, input {size}",
        "Run by": f"{model['backend']} on {model['device']}, {model['threads']} threads",
        **({"Warning": model["warning"]} if model["warning"] else {}),
        "Mode": _mode(results),
        "Compared with": results["accuracy"]["against"] if results["accuracy"] else "nothing",
        "Machine": f"{machine['processor']}, {machine['cores']} cores, {machine['system']}",
        "Evaluated": machine["time"],
    }
    seconds = np.concatenate([found.seconds for found in statistics.values()]).sum(1)
    ages = np.concatenate([found.ages for found in statistics.values()])
    if results["mode"] != "realtime":
        ages = ages[:0]
    path = settings.out / "report.html"
    title = f"{model['name']} on {settings.job.bags[0].name}"
    with outputs.explained(path):
        write_report(path, title, evaluated, facts, sections(results, seconds, ages))


def _mode(results: Mapping[str, Any]) -> str:
    if results["mode"] == "offline":
        return "every frame, as fast as possible"
    fixed = results["fixed_latency_s"]
    how = "as measured here" if fixed is None else f"{1e3 * fixed:.0f} ms"
    return f"as on a robot: the newest frame only, where a frame takes {how}"


def _picture(bag: Bag, frame: Shown) -> ExampleImage | None:
    pixels = outputs.read_picture(bag, Codec(bag.topics.values()), frame.topic, frame.time)
    if pixels is None:
        return None
    return ExampleImage(pixels, frame.truth, frame.detections, frame.caption)


__all__ = ["Interrupted", "Settings", "evaluate"]
