# SPDX-License-Identifier: Apache-2.0
"""What a run and its frames say in numbers: all of results.json but accuracy and tracking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.doubts import doubts
from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.job import Job, parts, recorded
from compact_yolo_ros.apps.evaluate_bag.results import (
    OFFLINE,
    REALTIME,
    AccuracyResults,
    Energy,
    ModelFacts,
    RecordingFacts,
    Results,
    Speed,
    TopicResults,
)
from compact_yolo_ros.apps.evaluate_bag.results_folder import lost_in
from compact_yolo_ros.apps.evaluate_bag.sessions import RunTotals
from compact_yolo_ros.apps.evaluate_bag.settings import Settings
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import (
    TopicStatistics,
    over_time,
    percentiles_ms,
    stage_percentiles,
    stream_figures,
)
from compact_yolo_ros.backends import Backend
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.recordings.reader import Bag


def model_facts(job: Job, backend: Backend) -> ModelFacts:
    """What runs in a job with a runtime, as whose network ``backend`` was opened."""
    assert job.runtime is not None
    height, width = backend.input.shape[1:3]
    return ModelFacts(
        name=backend.card.name,
        given=job.options.model,
        backend=backend.name,
        device=backend.device,
        warning=job.runtime.warning,
        precision=backend.precision,
        input_size=Size(width, height),
        threads=job.runtime.threads or backend.threads,
        parameters=backend.card.parameters,
        classes=backend.card.classes,
    )


def summarise(
    settings: Settings,
    bag: Bag,
    model: ModelFacts,
    labels: Mapping[str, FrameLabels],
    statistics: Mapping[str, TopicStatistics],
    totals: RunTotals,
    accuracy: AccuracyResults | None,
) -> Results:
    """All of results.json but the tracking.

    Args:
        settings: what was evaluated.
        bag: on which recording.
        model: what ran.
        labels: by topic.
        statistics: of the frames of each topic.
        totals: of the sessions of the run.
        accuracy: against the labels; None without any.
    """
    job = settings.job
    spans = parts(job, bag)
    start, end = spans[0][0], spans[-1][1]
    stretches = recorded(job, bag)
    duration = sum(b - a for a, b in stretches) * 1e-9
    lost = _lost(bag, job, statistics, settings.out)
    return Results(
        model=model,
        recording=RecordingFacts(
            paths=tuple(map(str, job.bags)),
            start_ns=start,
            end_ns=end,
            seconds=duration,
            lost=lost,
            doubts=doubts(
                statistics,
                labels,
                realtime=job.realtime,
                lost=bool(lost),
                behind=settings.playback_behind,
            ),
        ),
        mode=REALTIME if job.realtime else OFFLINE,
        fixed_latency_s=job.latency,
        threshold=settings.threshold,
        topics={
            topic: TopicResults(
                frames=found.frame_counts(),
                problems=found.problems,
                detections=found.detection_counts(model.classes),
                over_time=over_time(found, start, end),
                unanswered=found.unanswered_counts(),
                stream=stream_figures(found.received, start, stretches),
            )
            for topic, found in statistics.items()
        },
        speed=_speed(settings, statistics, totals, duration),
        power=_energy(statistics, totals),
        accuracy=accuracy,
        environment=totals.environment,
        playback_rate=settings.playback_rate,
        class_thresholds=dict(settings.class_thresholds),
        min_box_size=job.min_box_size,
        max_box_size=job.max_box_size,
        view=job.view,
    )


def _speed(
    settings: Settings,
    statistics: Mapping[str, TopicStatistics],
    totals: RunTotals,
    duration: float,
) -> Speed:
    """The speed of a run; ``duration`` is the length of the recording in seconds."""
    seconds = np.concatenate([found.seconds for found in statistics.values()])
    measured = seconds[~np.isnan(seconds).any(1)]
    busy = float(measured.sum())
    # Parts that were run elsewhere have no session, so nothing is known of their rate.
    rate = totals.frames / totals.seconds if totals.frames else None
    ages = np.empty(0)
    if settings.job.realtime:
        rate = len(seconds) / duration * (settings.playback_rate or 1.0)
        ages = np.concatenate([found.ages for found in statistics.values()])
    return Speed(
        frames_per_second=rate,
        seconds=totals.seconds,
        sessions=totals.sessions,
        workers=settings.workers,
        network_share=float(measured[:, 2].sum()) / busy if busy else None,
        stages_ms=stage_percentiles(seconds),
        age_ms=percentiles_ms(ages),
    )


def _energy(statistics: Mapping[str, TopicStatistics], totals: RunTotals) -> Energy:
    answered = sum(len(found.seconds) for found in statistics.values())
    share = answered / sum(found.outcomes.total() for found in statistics.values())
    watts, joules = totals.power.watts, None
    if watts and totals.frames and share:
        # Of an answered frame: those that were dropped cost nothing.
        joules = watts * totals.seconds / (totals.frames * share)
    return Energy(
        **vars(totals.power),
        joules_per_frame=joules,
        frames_per_second_per_watt=1 / joules if joules else None,
    )


def _lost(
    bag: Bag, job: Job, statistics: Mapping[str, TopicStatistics], folder: Path
) -> tuple[str, ...]:
    """Sentences, and for whole recordings how many images are missing of each topic."""
    losses = bag.losses
    losses.add(lost_in(folder))
    sentences = losses.sentences()
    if job.start <= bag.start and job.stop > bag.end:
        for topic, found in statistics.items():
            count = bag.expected.get(topic, 0) - found.outcomes.total()
            if count > 0:
                sentences.append(
                    f"{count} of {bag.expected[topic]} images of {topic} could not be read"
                )
    return tuple(sentences)
