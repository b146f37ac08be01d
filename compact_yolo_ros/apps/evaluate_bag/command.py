# SPDX-License-Identifier: Apache-2.0
"""How good and how fast a model is on a recording (rosbag2), without a running ROS.

    evaluate_bag --bag drive --model yolo_ret_m075 --ground-truth labels.json --out out/drive
    evaluate_bag --bag drive --topic /camera/image_raw --model small.onnx --realtime --out out/rt
    evaluate_bag --bag drive --model small.onnx --reference large.onnx --out out/agreement

After an interruption the same command continues. docs/bags.md says what is written.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compact_yolo_ros.apps.evaluate_bag.comparison import Candidate
from compact_yolo_ros.apps.evaluate_bag.comparison_run import compare
from compact_yolo_ros.apps.evaluate_bag.detection_run import Interrupted
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.node_messages import read_node_run
from compact_yolo_ros.apps.evaluate_bag.node_recording import write_node_log
from compact_yolo_ros.apps.evaluate_bag.playback import first_image_sizes
from compact_yolo_ros.apps.evaluate_bag.recording_evaluation import Settings, evaluate_recording
from compact_yolo_ros.apps.evaluate_bag.results import (
    AccuracyResults,
    Results,
    TrackingResults,
)
from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.backends.arguments import add_run_arguments, run_options_of
from compact_yolo_ros.detection.selection import ANY_SIZE, Selection, class_thresholds
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.detection.view import PLAIN, Area, View, parse_tiles
from compact_yolo_ros.model.store import ModelError, find_model
from compact_yolo_ros.pixels.rotation import ROTATIONS
from compact_yolo_ros.recordings.reader import Bag, choose_topics
from compact_yolo_ros.recordings.storage import FOREVER, BagError
from compact_yolo_ros.support.arguments import add_rename, finite, width_x_height
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.plain_values import to_plain
from compact_yolo_ros.support.terminal import open_console, pairs_table, print_table, say
from compact_yolo_ros.support.termination import terminable

INTERRUPTED = 130
"""Exit code after SIGINT, the one of shells."""


def main(arguments: list[str] | None = None) -> int:
    """Evaluate; return the process's exit code."""
    options = _parse(arguments)
    console = open_console(stderr=True)
    try:
        with terminable():
            return _run(options, console)
    except (Interrupted, KeyboardInterrupt):
        print("evaluate_bag: interrupted; the same command continues from here", file=sys.stderr)
        return INTERRUPTED
    except (BagError, ModelError, BackendError, ValueError, OSError) as error:
        print(f"evaluate_bag: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, console: Console) -> int:
    bag = Bag(options.bag)
    settings = _settings(options, bag)
    with _ProgressBar(bag, settings.job, console) as progress:
        if options.compare:
            found = compare(settings, options.compare, bag, progress)
        else:
            if options.recorded:
                classes = find_model(options.model).card.classes
                job = settings.job
                node = read_node_run(options.recorded, job.topics, classes, options.rate)
                write_node_log(job, bag, node, settings.out)
                # To restart would delete the log.
                settings = replace(settings, restart=False, playback_rate=node.rate)
            results = evaluate_recording(settings, bag, progress)
    if options.compare:
        _print_comparison(found, settings.out)
        failures = [f for candidate in found for f in candidate.results.failures()]
    else:
        _print(results, settings.out)
        failures = results.failures()
    for sentence in dict.fromkeys(failures):
        print(f"evaluate_bag: {sentence}", file=sys.stderr)
    return 1 if failures else 0


def _settings(options: argparse.Namespace, bag: Bag) -> Settings:
    topics = choose_topics(bag, options.topic)
    start = bag.start + round(options.start * 1e9)
    stop = FOREVER if options.duration is None else start + round(options.duration * 1e9)
    as_on_a_robot = options.realtime or options.latency is not None or options.recorded is not None
    run_options, start = run_options_of(options), start if options.start else 0
    view = _view(options)
    images = tuple(map(view.seen, first_image_sizes(bag, topics, start, stop)))
    job = Job(
        bags=tuple(options.bag),
        topics=tuple(topics),
        options=run_options.change(image_sizes=images),
        start=start,
        stop=stop,
        realtime=as_on_a_robot,
        latency=None if options.latency is None else options.latency * 1e-3,
        min_box_size=options.min_box_size,
        max_box_size=options.max_box_size,
        view=view,
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


class _ProgressBar:
    """Shows how many frames are done, and when all will be."""

    def __init__(self, bag: Bag, job: Job, console: Console) -> None:
        whole = sum(bag.topics[topic].count for topic in job.topics)
        start, stop = max(job.start, bag.start), min(job.stop, bag.end)
        share = (stop - start) / max(bag.end - bag.start, 1)
        self._total = max(1, round(whole * min(max(share, 0.0), 1.0)))
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Callable[[str, int], None]:
        self._progress.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _show(self, what: str, frames: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=self._total)
        self._progress.update(self._tasks[what], completed=frames)


def _print(results: Results, out: Path) -> None:
    console = open_console()
    console.print(pairs_table([*_summary(results).items()]))
    lines = [f"Warning: {results.model.warning}"] if results.model.warning else []
    for name, topic in results.topics.items():
        lines += [f"{name}: {kind}: {problem}" for kind, problem in topic.problems.items()]
    lines += [f"Lost: {sentence}" for sentence in results.recording.lost]
    lines += [f"Doubtful: {sentence}" for sentence in results.recording.doubts]
    lines += [results.accuracy.left_out] if results.accuracy else []
    lines += [f"Written: {out / ('results.json' if results.report else 'report.html')}"]
    for line in filter(None, [*lines, results.report]):
        say(console, line)


def _print_comparison(found: Sequence[Candidate], out: Path) -> None:
    head = ("", "AP", "AP50", "ms p50", "J a frame", "frames/s", "answered")
    rows = []
    for candidate in found:
        figures = candidate.figures()
        numbers = (figures.ap, figures.ap50, candidate.latency_ms, figures.joules_per_frame)
        cells = ["-" if number is None else f"{number:.3f}" for number in numbers]
        rate = figures.frames_per_second
        cells.append("-" if rate is None else f"{rate:.1f}")
        rows.append([candidate.name, *cells, f"{figures.answered_share:.1%}"])
    console = open_console()
    print_table(console, head, rows)
    for text, names in _evaluated_by(found).items():
        say(console, f"AP of {', '.join(names)}: {text}")
    say(console, f"Written: {out / 'comparison.html'}")


def _evaluated_by(found: Sequence[Candidate]) -> dict[str, list[str]]:
    """What average precision is of, with the names of the candidates for which it is that."""
    texts: dict[str, list[str]] = {}
    for candidate in found:
        if (accuracy := candidate.results.accuracy) is not None:
            texts.setdefault(_evaluated(accuracy), []).append(candidate.name)
    return texts


def _summary(results: Results) -> dict[str, str]:
    model, speed = results.model, results.speed
    what = f"{model.name} {model.precision}, {model.input_size}"
    rows = {"model": f"{what}, {model.backend} on {model.device}"}
    for name, topic in results.topics.items():
        frames = topic.frames
        parts = [f"{frames.answered} answered"]
        parts += [f"{frames.dropped} dropped"] if frames.dropped else []
        parts += [f"{n} {kind}" for kind, n in (topic.unanswered | frames.errors).items()]
        rows[name] = ", ".join(parts)
    rows["total, p50 / p95 / p99"] = _milliseconds(speed.stages_ms.total)
    rows["inference, p50 / p95 / p99"] = _milliseconds(speed.stages_ms.inference)
    if speed.age_ms:
        rows["age, p50 / p95 / p99"] = _milliseconds(speed.age_ms)
    if results.playback_rate not in (None, 1.0):
        rows["playback rate"] = f"{results.playback_rate:g}; ages are those of rate 1"
    if speed.frames_per_second is not None:
        rows["frames a second"] = f"{speed.frames_per_second:.1f}"
    if results.power.watts is not None:
        rows["power"] = f"{results.power.watts:.1f} W"
    if results.accuracy:
        rows["compared with"] = results.accuracy.against
        rows["evaluated"] = _evaluated(results.accuracy)
        rows |= {f"labels of {topic}": text for topic, text in _labels(results.accuracy)}
        figures = results.accuracy.summary.named()
        for name in ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"):
            rows[name] = "-" if math.isnan(figures[name]) else f"{figures[name]:.3f}"
    return rows | (_tracks(results.tracking) if results.tracking else {})


def _tracks(tracking: TrackingResults) -> dict[str, str]:
    rows = {}
    for topic, found in tracking.topics.items():
        fragmentation = "-" if found.fragmentation is None else f"{found.fragmentation:.2f}"
        rows[f"tracks of {topic}"] = (
            f"{found.tracks}, {found.brief} of them brief, fragmentation {fragmentation}"
        )
    if tracking.accuracy is None:
        return rows
    for name, value in to_plain(tracking.accuracy).items():
        if name in ("HOTA", "MOTA", "IDF1"):
            rows[name] = "-" if value is None else f"{value:.3f}"
    return rows | {"identity switches": str(tracking.accuracy.switches)}


def _evaluated(accuracy: AccuracyResults) -> str:
    text = f"{accuracy.images} images, {accuracy.objects} objects"
    unanswered = f"; {accuracy.unanswered} labelled images were not answered"
    return text + unanswered * bool(accuracy.unanswered)


def _labels(accuracy: AccuracyResults) -> Iterator[tuple[str, str]]:
    """Where a topic's labels are from, and what was not evaluated of them, for people."""
    for topic, counts in accuracy.matching.items():
        parts = [f"{counts.labels_from}: {counts.matched} of {counts.labels} matched"]
        if counts.labels_without_frame:
            parts.append(f"{counts.labels_without_frame} without an image")
        if counts.frames_without_label:
            parts.append(f"{counts.frames_without_label} images without a label")
        yield topic, ", ".join(parts)


def _milliseconds(values: Percentiles | None) -> str:
    return "-" if values is None else " / ".join(f"{value:.1f}" for value in values) + " ms"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "evaluate_bag", description="Evaluate a detector on a recording (rosbag2)."
    )
    add = parser.add_argument
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
    add("--model", default="", help="name of a model, or path of an .onnx file")
    add(
        "--compare",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL[,SIZE][,BACKEND][,PRECISION]",
        help="several instead, side by side; also folders with results of earlier evaluations",
    )
    add("--out", type=Path, required=True, help="folder for the results")
    add(
        "--ground-truth",
        nargs="+",
        action="extend",
        default=[],
        metavar="[TOPIC=]SOURCE",
        help="COCO .json, MOTChallenge .txt, folder of YOLO labels, topic of Detection2DArray, or "
        "RECORDING:TOPIC",
    )
    add("--reference", default="", help="model whose detections are taken for labels")
    add_rename(parser)
    add("--tolerance", type=finite, metavar="MS", help="between a frame and its label")
    threshold = Selection.score_threshold
    add("--score", type=finite, default=threshold, help=f"threshold, as of the node [{threshold}]")
    add(
        "--class-threshold",
        nargs="+",
        default=[],
        metavar="CLASS:SCORE",
        help="thresholds of single classes; AP is without any",
    )
    sizes = {"type": width_x_height, "metavar": "WIDTHxHEIGHT", "default": ANY_SIZE}
    add("--min-box-size", **sizes, help="smaller boxes do not count, in pixels")  # type: ignore[arg-type]
    add("--max-box-size", **sizes, help="larger boxes do not count, in pixels")  # type: ignore[arg-type]
    add("--rotation", type=int, choices=ROTATIONS, default=0, help="degrees clockwise, to upright")
    add("--roi", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="part that is seen")
    add("--tiles", default="1x1", metavar="COLUMNSxROWS", help="seen one by one, as 3x2 [1x1]")
    add("--tile-overlap", type=finite, default=PLAIN.overlap, help=f"[{PLAIN.overlap}]")
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
    add_run_arguments(parser, leave_out=("model", "image_sizes", "batch"))
    add("--workers", type=int, default=1, help="processes, for every frame of a long recording")
    add("--cluster", default="", metavar="ADDRESS", help="of a Dask scheduler, or local")
    add("--start", type=finite, default=0.0, metavar="S", help="seconds to leave out")
    add("--duration", type=finite, metavar="S", help="seconds to evaluate [to the end]")
    add("--tracking", choices=("off", "bytetrack"), default="off", help="follow the objects [off]")
    usual = TrackingOptions()
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
    add("--video", action="store_true", help="also write a video with the detections")
    add(
        "--export-frames",
        type=finite,
        metavar="SECONDS",
        help="also write frames for labelling, at least so many seconds apart; 0 writes all",
    )
    add("--restart", action="store_true", help="forget what an interrupted run did")
    options = parser.parse_args(arguments)
    if bool(options.model) == bool(options.compare):
        parser.error("give --model, or --compare")
    if options.compare and options.recorded:
        parser.error("--recorded is what one model found: give it without --compare")
    if options.export_frames is not None and options.export_frames < 0:
        parser.error("--export-frames takes the seconds between two frames, 0 or more")
    if options.rate is not None and (options.rate <= 0 or not options.recorded):
        parser.error("--rate is how fast what is --recorded was played, above 0")
    if options.workers < 1 or options.threads < 0:
        parser.error("--workers must be at least 1 and --threads at least 0")
    if len(options.input_sizes) > 1:
        parser.error("--input-size takes one size here: give several to --compare")
    if not 0 <= options.score <= 1:
        parser.error("--score is from 0 to 1")
    if not 0 <= options.track_low_score <= 1 or not 0 <= options.track_buffer <= 60:
        parser.error("--track-low-score is from 0 to 1, and --track-buffer from 0 to 60 s")
    if options.start < 0 or (options.duration is not None and options.duration <= 0):
        parser.error("--start must not be negative, and --duration must be above 0")
    if (options.latency or 0) < 0 or (options.tolerance or 0) < 0:
        parser.error("--latency and --tolerance must not be negative")
    if options.ground_truth and options.reference:
        parser.error("give --ground-truth or --reference, not both")
    if options.workers > 1 and (options.realtime or options.latency is not None):
        parser.error("--realtime is one clock from beginning to end: it takes one worker")
    return options


if __name__ == "__main__":
    sys.exit(main())
