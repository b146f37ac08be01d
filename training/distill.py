# SPDX-License-Identifier: Apache-2.0
"""Label images with a larger detector (the teacher), as a data set to train on.

    python -m training.distill --teacher yolox_nano.onnx --teacher-classes coco.names \
        --map person=person motorbike=motorbike car=car bus=bus truck=truck \
        --data street/data.yaml --out street_taught

With --data, its own labels are kept; --images takes any folder of images without labels. The new
data set links to the images. Its label lines have the teacher's confidence as sixth number, and 0
where an object is to be ignored, as in the source. The same command continues after an
interruption.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from compact_yolo_ros.backends.backend import BackendError
from compact_yolo_ros.backends.cpu import default_threads
from compact_yolo_ros.detection.boxes import areas_of, intersections, ious
from compact_yolo_ros.detection.tracking.assignment import heaviest_pairs
from compact_yolo_ros.labels.ground_truth import ANY_CLASS, GroundTruth
from compact_yolo_ros.labels.yolo import listed_names
from compact_yolo_ros.model.store import ModelError
from compact_yolo_ros.support.arguments import add_rename
from compact_yolo_ros.support.document import LARGE
from compact_yolo_ros.support.files import remove_unfinished, replacing
from compact_yolo_ros.support.json_files import read_json
from compact_yolo_ros.support.plain_values import from_plain
from compact_yolo_ros.support.yaml_files import read_yaml
from training.data.dataset import open_split
from training.data.description import SPLITS, Description, Source, read_description
from training.data.digest import content_of
from training.data.image_cache import decode
from training.data.image_files import images_in
from training.data.joining import read_classes, split_names
from training.distillation.teachers import Teacher, find_teacher, open_teacher

SETTINGS = "distill.json"
DRAWN = "drawn.json"
"""Tells whether people have changed their labels since a teacher added to them."""
OVERLAP = 0.5
"""IoU with a label of people at which a box of the teacher is dropped, unless another is given."""
LEAST_IOU, MOST_OF_SMALLER = 0.2, 0.6
"""Where a box of the teacher is taken for its answer to an object that people drew."""


class Work(NamedTuple):
    """A picture to label.

    Attributes:
        path: of the image.
        name: unique in its data set, without suffix.
        drawn: what people drew.
    """

    path: Path
    name: str
    drawn: GroundTruth


class Labeller:
    """Joins the labels of people with the detections of a teacher.

    What people want to be ignored stays ignored.

    Args:
        teacher: the detector.
        table: for each of its classes the number of ours; -1: dropped.
        classes: how many of ours there are.
        overlap: a detection whose IoU with a label of people reaches this is dropped. So is one
            that answers for the same object, badly placed (``answers``).
        only_unlabelled: keep only detections of classes that people did not label in the image.
    """

    def __init__(
        self,
        teacher: Teacher,
        table: NDArray[np.int64],
        classes: int,
        overlap: float,
        only_unlabelled: bool,
    ) -> None:
        self.teacher, self.table, self.classes = teacher, table, classes
        self.overlap, self.only_unlabelled = overlap, only_unlabelled

    def lines(self, image: NDArray[np.uint8], drawn: GroundTruth) -> list[str]:
        """Return the label lines of an RGB image (H, W, 3)."""
        size = np.array((image.shape[1], image.shape[0]) * 2)
        found = self.teacher.detect(image)
        labels = self.table[found.labels]
        kept = labels >= 0
        kept &= ~answers(found.boxes, labels, drawn)
        boxes = np.concatenate((drawn.boxes, drawn.ignored))
        kept &= (ious(found.boxes.astype(np.float64), boxes) < self.overlap).all(1)
        if self.only_unlabelled:
            kept &= np.isin(labels, sorted(drawn.unlabelled))
        # Those of another teacher, who may have been here before, stay as sure as they were.
        sure = [None] * len(drawn) if drawn.confidence is None else drawn.confidence
        return [
            *map(_line, drawn.labels, drawn.boxes / size, sure),
            *map(_line, labels[kept], found.boxes[kept] / size, found.scores[kept]),
            *self._ignored(drawn, size),
        ]

    def _ignored(self, drawn: GroundTruth, size: NDArray[np.integer]) -> Iterator[str]:
        """Lines of what does not count; what is so for any class has a line of each."""
        every = range(self.classes)
        for label, box in zip(drawn.ignored_classes.tolist(), drawn.ignored / size, strict=True):
            yield from (
                _line(each, box, 0.0) for each in (every if label == ANY_CLASS else [label])
            )


def answers(
    boxes: NDArray[np.floating], labels: NDArray[np.integer], drawn: GroundTruth
) -> NDArray[np.bool_]:
    """Return which detections (n,) answer for an object that people drew: the best one for each.

    An answer has its class, and an IoU of at least ``LEAST_IOU``, or most of the smaller box is in
    the larger one. It need not be well placed: it shows the same object.
    """
    found, objects = boxes.astype(np.float64), drawn.boxes.astype(np.float64)
    overlap = ious(found, objects)
    smaller = np.minimum(areas_of(found)[:, None], areas_of(objects))
    close = (overlap >= LEAST_IOU) | (intersections(found, objects) >= MOST_OF_SMALLER * smaller)
    alike = labels[:, None] == drawn.labels
    is_answer = np.zeros(len(boxes), bool)
    is_answer[heaviest_pairs(np.where(close & alike, overlap, 0.0))[:, 0]] = True
    return is_answer


def label_all(works: Sequence[Work], labellers: Sequence[Labeller], out: Path) -> list[str]:
    """Label the images that have no label file yet.

    Args:
        works: the images.
        labellers: one for each thread.
        out: folder of the new data set.

    Returns:
        A sentence for each image that could not be labelled.
    """
    for kind in ("images", "labels"):
        (out / kind / "train").mkdir(parents=True, exist_ok=True)
    # What a killed process has left there would count as labels without an image.
    remove_unfinished(out / "labels" / "train")
    free: SimpleQueue[Labeller] = SimpleQueue()
    for labeller in labellers:
        free.put(labeller)

    def label(work: Work) -> str:
        labeller = free.get()
        try:
            label_one(work, labeller, out)
        except (OSError, ValueError) as error:
            return f"{work.path}: {error}"
        finally:
            free.put(labeller)
        return ""

    with ThreadPoolExecutor(len(labellers)) as pool:
        answers = track(
            pool.map(label, works), "labelling", len(works), console=Console(stderr=True)
        )
        return [problem for problem in answers if problem]


def label_one(work: Work, labeller: Labeller, out: Path) -> None:
    """Write link and label file of an image, unless both are there.

    With other pictures in the folder, the name may have been that of another one.

    Raises:
        ValueError: the image cannot be decoded.
        OSError: a file cannot be read or written.
    """
    text = out / "labels" / "train" / f"{work.name}.txt"
    link = out / "images" / "train" / f"{work.name}{work.path.suffix}"
    if text.exists():
        if link.exists() and (not link.is_symlink() or link.samefile(work.path)):
            return
        text.unlink()
        for other in [path for path in link.parent.iterdir() if path.stem == work.name]:
            other.unlink()
    lines = labeller.lines(decode(work.path)[0], work.drawn)
    link.unlink(missing_ok=True)
    link.symlink_to(work.path.resolve())
    with replacing(text) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines))


def class_table(
    theirs: Sequence[str], ours: Sequence[str], mapping: Mapping[str, str]
) -> NDArray[np.int64]:
    """Return the number of our class for each of the teacher's classes; -1: none.

    Args:
        theirs: the teacher's class names.
        ours: class names of the data set.
        mapping: ours by the teacher's; empty: classes of the same name.

    Raises:
        ValueError: an entry names an unknown class, or no class is left.
    """
    pairs = mapping or {name: name for name in theirs}
    for name, known, whose in (
        *((name, theirs, "the teacher") for name in pairs),
        *((name, ours, "the data set") for name in (pairs.values() if mapping else ())),
    ):
        if name not in known:
            raise ValueError(f"{whose} has no class '{name}': it has {', '.join(known)}")
    table = [ours.index(pairs[n]) if pairs.get(n) in ours else -1 for n in theirs]
    if max(table) < 0:
        raise ValueError("the teacher has no class of that name in the data set: give --map")
    return np.array(table, np.int64)


def works_of(data: Path) -> list[Work]:
    """List the good training pictures of a data set, in any format, each of them once."""
    entries = open_split(data, "train", cache="none").entries
    return _named([*{entry.path: entry.truth for entry in entries}.items()])


def works_in(folder: Path, classes: int, out: Path) -> list[Work]:
    """List the images below a folder as unlabelled, without the links of ``out``.

    Raises:
        ValueError: there are none.
    """
    images = images_in(folder)
    paths = [path for path in images if not (path.is_symlink() and _is_below(path, out))]
    if not paths:
        raise ValueError(f"{folder} holds no images")
    nothing = replace(GroundTruth.empty(), unlabelled=frozenset(range(classes)))
    return _named([(path, nothing) for path in paths])


def describe(out: Path, classes: Sequence[str], labelled: Sequence[str], data: Path | None) -> None:
    """Write the ``data.yaml`` of the new data set.

    Args:
        out: its folder.
        classes: class names.
        labelled: the classes that are labelled in all images.
        data: data set whose val and test it takes; None: those in the file are kept.
    """
    own: dict[str, Any] = {"names": list(classes), "train": "images/train"}
    if len(labelled) < len(classes):
        own["labelled"] = list(labelled)
    if data is None:
        file = out / "data.yaml"
        old = _plain(read_yaml, file) if file.exists() else {}
        entered = {split: old[split] for split in ("val", "test") if split in old}
        _write_yaml(file, own | entered)
        return
    _write_yaml(out / "taught.yaml", own)
    sources = [{"data": "taught.yaml"}, *held_out(read_description(data))]
    _write_yaml(out / "data.yaml", {"names": list(classes), "sources": sources})


def held_out(description: Description) -> list[dict[str, Any]]:
    """Return val and test of a data set as ``sources``; of a joined one, those of its own.

    Raises:
        ValueError: val is a part of what is joined for train.
    """
    if description.sources and description.hold_out:
        raise ValueError(
            f"{description.file} has 'sources' and 'hold_out', so that its val cannot be taken"
            " over: put 'hold_out' into the data.yaml of a source"
        )
    whole = Source(description.file, None, None, None)
    found = []
    for source in description.sources or [whole]:
        taken = set(source.splits or SPLITS) - {"train"}
        splits = [split for split in split_names(source.data) if split in taken]
        if splits:
            more = {"classes": source.classes, "labelled": _labelled(description, source)}
            more = {key: value for key, value in more.items() if value is not None}
            found.append({"data": str(source.data.resolve()), "splits": splits, **more})
    return found


def _labelled(description: Description, source: Source) -> list[str] | None:
    """The classes that a source of a data set labels; None: those that its own become."""
    if description.labelled is None or not description.sources:
        return None if source.labelled is None else list(source.labelled)
    own: Collection[str | None] = read_classes(source.data)
    if source.labelled is not None:
        own = source.labelled
    elif source.classes is not None:
        own = source.classes.values()
    return [name for name in description.labelled if name in own]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Label images with a larger detector.")
    parser.add_argument(
        "--teacher", required=True, help="name of a model, or ONNX file: of ours, or YOLOX"
    )
    parser.add_argument(
        "--teacher-classes", type=Path, help="class names of a YOLOX file, one a line"
    )
    add_rename(
        parser,
        "--map",
        "the teacher's classes and what they are called here; default: the same names",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="data.yaml: label its train split further")
    what.add_argument("--images", type=Path, help="folder of images without labels")
    parser.add_argument(
        "--classes",
        nargs="+",
        action="extend",
        help="with --images: ours; default: those of --map, or the teacher",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new data set")
    parser.add_argument("--score", type=float, default=0.3, help="least confidence of a box")
    parser.add_argument(
        "--overlap",
        type=float,
        default=OVERLAP,
        help="IoU with a label of people at which a box is dropped",
    )
    parser.add_argument(
        "--only-unlabelled", action="store_true", help="only classes that people did not label"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        action="extend",
        default=[],
        help="sides in pixels; several: their ensemble",
    )
    parser.add_argument("--threads", type=int, default=0, help="images at a time; 0: automatic")
    options = parser.parse_args(arguments)
    try:
        _distill(options)
    except (BackendError, ModelError, ValueError, OSError) as error:
        print(f"training.distill: {error}", file=sys.stderr)
        return 1
    return 0


def _distill(options: argparse.Namespace) -> None:
    if options.threads < 0:
        raise ValueError("--threads must be 0 or more")
    if not 0 < options.overlap <= 1:
        raise ValueError("--overlap must be above 0, up to 1")
    if options.data and options.classes:
        raise ValueError("--classes goes with --images: a data.yaml has classes of its own")
    if options.images and (options.only_unlabelled or options.overlap != OVERLAP):
        raise ValueError(
            "--overlap and --only-unlabelled are about labels of people: they go with --data"
        )
    mapping = dict(options.map)
    names = listed_names(options.teacher_classes) if options.teacher_classes else ()
    path = find_teacher(options.teacher)
    teachers = [
        open_teacher(path, options.score, options.size, names)
        for _ in range(options.threads or default_threads())
    ]
    theirs = teachers[0].classes
    if options.data:
        classes = read_classes(options.data)
        held_out(read_description(options.data))  # a mistake is told before the work
        works = works_of(options.data)
    else:
        classes = tuple(dict.fromkeys(options.classes or mapping.values() or theirs))
        works = works_in(options.images, len(classes), options.out)
    own = [work.path for work in works if _is_below(work.path.resolve(), options.out)]
    if own:  # a link would replace the image
        raise ValueError(f"{options.out} holds pictures to label ({own[0].name}): give a new --out")
    table = class_table(theirs, classes, mapping)
    _remember(options, path, theirs, classes)
    _forget_changed(works, options.out)
    labellers = [
        Labeller(teacher, table, len(classes), options.overlap, options.only_unlabelled)
        for teacher in teachers
    ]
    problems = label_all(works, labellers, options.out)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if len(problems) == len(works):
        raise ValueError("no picture could be labelled")
    drawn = set(table.tolist())
    missing = {number for work in works for number in work.drawn.unlabelled} - drawn
    labelled = [name for number, name in enumerate(classes) if number not in missing]
    describe(options.out, classes, labelled, options.data)
    print(f"{len(works) - len(problems)} pictures: {options.out / 'data.yaml'}")


def _remember(
    options: argparse.Namespace, teacher: Path, theirs: Sequence[str], ours: Sequence[str]
) -> None:
    """Write the settings that the labels depend on.

    Raises:
        ValueError: the folder has labels that were made with other settings, or another data set.
    """
    labels_depend_on = {key: v for key, v in vars(options).items() if key not in ("out", "threads")}
    settings = {key: str(value) for key, value in labels_depend_on.items()}
    settings["teacher"] = hashlib.sha256(teacher.read_bytes()).hexdigest()
    # What the files say of classes may change, and labels have their numbers.
    settings |= {"teacher_classes": str(list(theirs)), "classes": str(list(ours))}
    file = options.out / SETTINGS
    if file.exists() and _plain(read_json, file) != settings:
        raise ValueError(f"{options.out} holds labels made with other settings: give a new --out")
    if not file.exists() and (options.out / "data.yaml").exists():
        raise ValueError(f"{options.out} holds another data set: give a new --out")
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(settings, indent=1))


def _forget_changed(works: Sequence[Work], out: Path) -> None:
    """Remove the labels of pictures that people have labelled otherwise since they were made."""
    file = out / DRAWN
    old = _plain(partial(read_json, limits=LARGE), file) if file.exists() else {}
    drawn = {
        work.name: hashlib.blake2b(content_of(work.drawn), digest_size=8).hexdigest()
        for work in works
    }
    for name in drawn.keys() & old.keys():
        if drawn[name] != old[name]:
            (out / "labels" / "train" / f"{name}.txt").unlink(missing_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(old | drawn))


def _plain(read: Callable[[Path], Any], file: Path) -> dict[str, Any]:
    """The content of a file that this command wrote; raises ValueError if it is something else."""
    try:
        return from_plain(dict[str, Any], read(file))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): give a new --out") from None


def _is_below(path: Path, folder: Path) -> bool:
    return folder.resolve() in (path.parent.resolve() / path.name).parents


def _named(pictures: Sequence[tuple[Path, GroundTruth]]) -> list[Work]:
    """Give every image a unique name; an earlier teacher may have numbered some of them."""
    own = {path.stem for path, _ in pictures}
    seen: Counter[str] = Counter()
    works = []
    for path, drawn in pictures:
        name, number = path.stem, seen[path.stem]
        if number:
            number = next(n for n in count(number) if f"{path.stem}~{n}" not in own)
            name = f"{path.stem}~{number}"
        seen[path.stem] = number + 1
        works.append(Work(path, name, drawn))
    return works


def _line(label: int, box: NDArray[np.floating], confidence: float | None = None) -> str:
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    numbers = " ".join(f"{value:.6f}" for value in (*centre, *size))
    return f"{label} {numbers}" + ("" if confidence is None else f" {confidence:.4f}")


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))


if __name__ == "__main__":
    sys.exit(main())
