# SPDX-License-Identifier: Apache-2.0
"""The command line of ``evaluate_bag``, checked, as the settings of an evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.playback import first_image_sizes
from compact_yolo_ros.apps.evaluate_bag.settings import Settings
from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of
from compact_yolo_ros.detection.selection import ANY_SIZE, Selection, class_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import PLAIN, Area, View, parse_tiles
from compact_yolo_ros.pixels.rotation import ROTATIONS
from compact_yolo_ros.recordings.reader import Bag, choose_topics, time_after
from compact_yolo_ros.recordings.storage import FOREVER, BagError
from compact_yolo_ros.support.arguments import Options, add_rename, finite, width_x_height

ONE_TILE = "x".join(map(str, PLAIN.tiles))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; ends the process with a sentence if it cannot be used."""
    parser = argparse.ArgumentParser(
        "evaluate_bag", description="Evaluate a detector on a recording (rosbag2)."
    )
    _add_recording(parser.add_argument_group("what is evaluated"))
    add_run_arguments(
        parser.add_argument_group("how the model runs"),
        leave_out=("model", "image_sizes", "batch"),
    )
    _add_labels(parser.add_argument_group("labels"))
    _add_view(parser.add_argument_group("what the model sees, as in the node"))
    _add_selection(parser.add_argument_group("which objects count"))
    _add_tracking(parser.add_argument_group("tracking"))
    _add_realtime(parser.add_argument_group("as on a robot"))
    _add_results(parser.add_argument_group("results and the run"))
    options = parser.parse_args(arguments)
    if mistake := _mistake(options):
        parser.error(mistake)
    return options


def _add_recording(group: Options) -> None:
    add = group.add_argument
    add(
        "--bag",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="folders, or .mcap and .db3 files",
    )
    add(
        "--topic",
        nargs="+",
        action="extend",
        default=[],
        help="of images; not needed where there is only one",
    )
    add("--start", type=finite, default=0.0, metavar="S", help="seconds to leave out")
    add("--duration", type=finite, metavar="S", help="seconds to evaluate [to the end]")
    add("--model", default="", help="name of a model, or path of an .onnx file")
    add(
        "--compare",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL[,SIZE][,BACKEND][,PRECISION]",
        help="several instead, side by side; also folders with results of earlier evaluations",
    )


def _add_labels(group: Options) -> None:
    group.add_argument(
        "--ground-truth",
        nargs="+",
        action="extend",
        default=[],
        metavar="[TOPIC=]SOURCE",
        help="COCO .json, MOTChallenge .txt, folder of YOLO labels, topic of Detection2DArray, or "
        "RECORDING:TOPIC",
    )
    group.add_argument(
        "--reference", default="", help="model whose detections are taken for labels"
    )
    add_rename(group)
    group.add_argument(
        "--tolerance", type=finite, metavar="MS", help="between a frame and its label"
    )


def _add_view(group: Options) -> None:
    add = group.add_argument
    add("--rotation", type=int, choices=ROTATIONS, default=0, help="degrees clockwise, to upright")
    add("--roi", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="part that is seen")
    add("--tiles", default=ONE_TILE, metavar="COLUMNSxROWS", help="seen one by one, as 3x2 [1x1]")
    add("--tile-overlap", type=finite, default=PLAIN.overlap, help=f"[{PLAIN.overlap}]")


def _add_selection(group: Options) -> None:
    add, threshold = group.add_argument, Selection.score_threshold
    add("--score", type=finite, default=threshold, help=f"threshold, as of the node [{threshold}]")
    add(
        "--class-threshold",
        nargs="+",
        action="extend",
        default=[],
        metavar="CLASS:SCORE",
        help="thresholds of single classes; AP is without any",
    )
    sizes = {"type": width_x_height, "metavar": "WIDTHxHEIGHT", "default": ANY_SIZE}
    add("--min-box-size", **sizes, help="smaller boxes do not count, in pixels")  # type: ignore[arg-type]
    add("--max-box-size", **sizes, help="larger boxes do not count, in pixels")  # type: ignore[arg-type]


def _add_tracking(group: Options) -> None:
    add, usual = group.add_argument, TrackingOptions()
    add("--tracking", choices=("off", "bytetrack"), default="off", help="follow the objects [off]")
    add(
        "--track-buffer",
        type=finite,
        default=usual.buffer,
        metavar="S",
        help=f"seconds for which an object that is not seen keeps its track [{usual.buffer}]",
    )
    add(
        "--track-low-score",
        type=finite,
        default=usual.low_score,
        help=f"objects from this score on continue a track [{usual.low_score}]",
    )
    add("--track-any-class", action="store_true", help="tracks may change their class")


def _add_realtime(group: Options) -> None:
    add = group.add_argument
    add("--realtime", action="store_true", help="answer only the frames that a robot would")
    add("--latency", type=finite, metavar="MS", help="fixed time of a frame, with --realtime")
    add(
        "--recorded",
        type=Path,
        metavar="RECORDING",
        help="evaluate what a live node published, instead of running the model",
    )
    add(
        "--rate",
        type=finite,
        help="playback rate of that, for its ages [as the player reported it, or 1]",
    )


def _add_results(group: Options) -> None:
    add = group.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add("--video", action="store_true", help="also write a video with the detections")
    add(
        "--export-frames",
        type=finite,
        metavar="SECONDS",
        help="also write frames for labelling, at least so many seconds apart; 0 writes all",
    )
    add("--workers", type=int, default=1, help="processes, for every frame of a long recording")
    add("--cluster", default="", metavar="ADDRESS", help="of a Dask scheduler, or local")
    add("--restart", action="store_true", help="forget what an interrupted run did")


def _mistake(options: argparse.Namespace) -> str | None:
    """Return what cannot be done of what was asked for, or None."""
    of_a_robot = options.realtime or options.latency is not None
    low_score, buffer = options.track_low_score, options.track_buffer
    labels, usual = options.ground_truth or options.reference, TrackingOptions()
    mistakes = {
        "give --model, or --compare": bool(options.model) == bool(options.compare),
        "--recorded is what one model found: give it without --compare": (
            options.compare and options.recorded
        ),
        "--latency is of a simulated robot: give it without --recorded": (
            options.recorded and options.latency is not None
        ),
        "--export-frames takes the seconds between two frames, 0 or more": (
            (options.export_frames or 0) < 0
        ),
        "--rate is how fast what is --recorded was played, above 0": (
            options.rate is not None and (options.rate <= 0 or not options.recorded)
        ),
        "--workers must be at least 1": options.workers < 1,
        "--input-size takes one size here: give several to --compare": (
            len(options.input_sizes) > 1
        ),
        "--score is from 0 to 1": not 0 <= options.score <= 1,
        "--track-low-score is from 0 to 1, and --track-buffer from 0 to 60 s": (
            not 0 <= low_score <= 1 or not 0 <= buffer <= 60
        ),
        "--start must not be negative, and --duration must be above 0": (
            options.start < 0 or (options.duration is not None and options.duration <= 0)
        ),
        "--latency and --tolerance must not be negative": (
            (options.latency or 0) < 0 or (options.tolerance or 0) < 0
        ),
        "give --ground-truth or --reference, not both": (
            options.ground_truth and options.reference
        ),
        "--track-buffer, --track-low-score and --track-any-class go with --tracking bytetrack": (
            options.tracking == "off"
            and (buffer != usual.buffer or low_score != usual.low_score or options.track_any_class)
        ),
        "--tile-overlap goes with --tiles": (
            options.tile_overlap != PLAIN.overlap and options.tiles == ONE_TILE
        ),
        "--rename and --tolerance are about labels: give --ground-truth or --reference": (
            not labels and (options.rename or options.tolerance is not None)
        ),
        "--workers and --cluster run a model: give them without --recorded": (
            options.recorded and (options.workers > 1 or options.cluster)
        ),
        "--realtime is one clock from beginning to end: it takes one worker": (
            options.workers > 1 and of_a_robot
        ),
    }
    return next((text for text, made in mistakes.items() if made), None)


def settings_of(options: argparse.Namespace, bag: Bag) -> Settings:
    """What ``parse`` has read, for this recording.

    Raises:
        BagError: a topic or ground truth is not one of the recording.
        ValueError: a value cannot be used.
    """
    topics = choose_topics(bag, options.topic)
    skipped = round(options.start * 1e9)
    start, stop = time_after(bag.recordings, skipped), FOREVER
    if options.duration is not None:
        stop = time_after(bag.recordings, skipped + round(options.duration * 1e9))
    as_on_a_robot = options.realtime or options.latency is not None or options.recorded is not None
    run_options, start = run_options_of(options), start if options.start else 0
    view = _view(options)
    images = [
        size for each in first_image_sizes(bag, topics, start, stop) for size in view.seen(each)
    ]
    job = Job(
        bags=tuple(options.bag),
        topics=tuple(topics),
        options=run_options.change(image_sizes=tuple(images)),
        start=start,
        stop=stop,
        realtime=as_on_a_robot,
        latency=None if options.latency is None else options.latency * 1e-3,
        min_box_size=options.min_box_size,
        max_box_size=options.max_box_size,
        view=view,
        recorded=options.recorded,
    )
    return Settings(
        job=job,
        out=options.out,
        ground_truth=_by_topic(options.ground_truth, topics),
        reference=options.reference,
        threshold=options.score,
        class_thresholds=class_thresholds(options.class_threshold),
        rename=dict(options.rename),
        tolerance=None if options.tolerance is None else round(options.tolerance * 1e6),
        workers=options.workers,
        restart=options.restart,
        video=options.video,
        export_apart=options.export_frames,
        cluster=options.cluster,
        playback_rate=options.rate,
        tracking=_tracking(options),
    )


def _view(options: argparse.Namespace) -> View:
    roi = Area(*options.roi) if options.roi else PLAIN.roi
    return View(options.rotation, roi, parse_tiles(options.tiles), options.tile_overlap)


def _tracking(options: argparse.Namespace) -> TrackingOptions | None:
    if options.tracking == "off":
        return None
    return TrackingOptions(
        high_score=options.score,
        low_score=options.track_low_score,
        buffer=options.track_buffer,
        by_class=not options.track_any_class,
    )


def _by_topic(sources: Sequence[str], topics: Sequence[str]) -> dict[str, str]:
    """Sources of labels by their topic; with a single topic its name may be left out."""
    found: dict[str, str] = {}
    for source in sources:
        topic, equals, rest = source.partition("=")
        if not equals or (topic not in topics and _is_source(source)):
            if len(topics) > 1:
                raise BagError(
                    f"give the topic that {source} labels: --ground-truth {topics[0]}={source}"
                )
            topic, rest = topics[0], source
        if topic not in topics:
            raise BagError(f"--ground-truth is for {topic}, which is not evaluated")
        if topic in found:
            raise BagError(f"--ground-truth is given twice for {topic}")
        found[topic] = rest
    return found


def _is_source(text: str) -> bool:
    """Whether a text with an equals sign is a path, or a recording and a topic."""
    return Path(text).exists() or Path(text.rpartition(":")[0] or text).exists()
