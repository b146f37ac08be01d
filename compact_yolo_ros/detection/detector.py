# SPDX-License-Identifier: Apache-2.0
"""The detector: an image in, objects in that image's own pixels out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Lock
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends import (
    BACKENDS,
    Backend,
    BackendError,
    Opened,
    RunOptions,
    open_backend,
)
from compact_yolo_ros.backends.backend import Candidates
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.detection.network_input import NetworkInput, Reopen, placement_of
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.detection.suppression import select
from compact_yolo_ros.detection.view import PLAIN, Area, View
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.sizes import InputSize, Size
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.letterbox import Colour, Placement, check_pixels
from compact_yolo_ros.pixels.rotation import turn_back, turned
from compact_yolo_ros.support.allocator import give_back_freed_memory


class StageTimes(NamedTuple):
    """Seconds spent in the stages of one ``detect`` call."""

    preprocess: float
    inference: float
    postprocess: float


class Prepared(NamedTuple):
    """An image as the network's input, made before its turn.

    Attributes:
        pixels: (H, W, 3) uint8, RGB.
        placement: where the image lies in it.
        seconds: that it took.
    """

    pixels: NDArray[np.uint8]
    placement: Placement
    seconds: float


class Started(NamedTuple):
    """A run that is under way.

    Attributes:
        placement: where the image lies in the network's input.
        preprocess: seconds that making the input took.
        began: when the run was started, on ``perf_counter``.
    """

    placement: Placement
    preprocess: float
    began: float


class Answer(NamedTuple):
    """What the network says about an image; the next one overwrites it.

    Attributes:
        candidates: see ``Candidates``.
        placement: where the image lies in the network's input.
        preprocess: seconds that making the input took.
        inference: seconds of the network.
        rotation: degrees clockwise by which the image was turned then.
    """

    candidates: Candidates
    placement: Placement
    preprocess: float
    inference: float
    rotation: int = 0

    def copy(self) -> Answer:
        """An answer that stays."""
        boxes, scores, labels = self.candidates
        return self._replace(candidates=(boxes.copy(), scores.copy(), labels.copy()))


class Detector:
    """A network with what goes before and after it.

    It is used by one thread at a time; only ``selection`` and the backend may be replaced from
    another thread, and the next image uses them. Boxes are in the image's pixels whatever the
    input size. An image gets the input that fits it, or the nearest one while that is not open.

    Attributes:
        selection: thresholds and classes to keep.
        times: stage times of the last image.
        stage: what ``detect`` does, or has done last; for any thread.
        changes_by_itself: whether an image may change to the newest network of ``replace_backend``;
            else only ``use_newest`` does.
    """

    def __init__(
        self, opened: Opened, selection: Selection | None = None, reopen: Reopen | None = None
    ) -> None:
        """Detect with ``opened``, keeping what ``selection`` (default: ``Selection()``) says.

        Args:
            opened: the network.
            selection: which objects to keep.
            reopen: opens sizes that an image needs, at once; None: somebody else does, and calls
                ``replace_backend``.
        """
        self.selection = selection or Selection()
        self.times = StageTimes(0.0, 0.0, 0.0)
        self.stage = ""
        self.changes_by_itself = True
        self._input = NetworkInput(opened, reopen)
        self._under_way: deque[Started] = deque()
        self._finished: deque[Answer] = deque()
        self._successor: Opened | None = None
        self._handover = Lock()

    @classmethod
    def open(cls, options: str | RunOptions, *, selection: Selection | None = None) -> Detector:
        """Open a model. A size that an image needs is opened when that image comes.

        If it cannot be, for example because the file has been overwritten, images get another size,
        and it is tried again after one, two, four minutes and so on.

        Args:
            options: a model's name or path, or how to run it in detail; with its ``image_sizes``,
                the sizes for those are open at once, unless the network cannot be run at them.
            selection: which objects to keep.

        Raises:
            ModelError: the model cannot be found, read or trusted, or is not that of ``sha256``.
            BackendError: it cannot be run.
        """
        if isinstance(options, str):
            options = RunOptions(options)
        if not options.sha256:
            options = options.pinned()
        opened = _open_fitting(options)

        def reopen(sizes: tuple[Size, ...]) -> Opened:
            again = open_backend(options.change(input_sizes=sizes))
            return replace(again, inputs=opened.inputs)

        return cls(opened, selection, reopen)

    @property
    def opened(self) -> Opened:
        """The network in use, and why it is this one."""
        return self._input.opened

    @property
    def backend(self) -> Backend:
        """The network in use."""
        return self._input.backend

    @property
    def input(self) -> InputSize:
        """What the sizes of the inputs are made from now, one of ``inputs``."""
        return self._input.base

    @property
    def inputs(self) -> tuple[InputSize, ...]:
        """What it can be resized to, the one to begin with first."""
        return self._input.bases

    @property
    def card(self) -> ModelCard:
        """The card of the model that is running."""
        return self.backend.card

    def labels_of(self, names: list[str]) -> frozenset[int] | None:
        """Label numbers of class names, for ``Selection.labels``; an empty list keeps all.

        Raises:
            ValueError: the model has no class of that name.
        """
        return frozenset(self.card.labels_of(names)) or None

    def input_size(self, width: int, height: int) -> Size:
        """The input that an image of so many pixels gets if it is the next one; for any thread."""
        return self._input.size_for(width, height)

    def detect(self, image: NDArray[np.uint8], colour: Colour = "bgr") -> Detections:
        """Find objects.

        Args:
            image: uint8, (h, w, 3), (h, w, 4) or (h, w), any size, rows may be padded.
            colour: its channel order.

        Returns:
            Objects in pixels of ``image``, clipped to it, best first.

        Raises:
            BackendError: the runtime failed.
            ImageError: the image is not uint8, or has not the channels of ``colour``; a ValueError.
        """
        check_pixels(image, colour)
        return self.detect_decoded(DecodedImage(image, colour))

    def detect_decoded(self, image: DecodedImage, view: View = PLAIN) -> Detections:
        """Find objects in an image that may have been decoded at a fraction of its size.

        Args:
            image: see ``DecodedImage``.
            view: how the network is to see it; each tile is a run.

        Returns:
            Objects in pixels of the camera's image.

        Raises:
            BackendError: the runtime failed.
            ImageError: the image has no region of interest.
        """
        if view.is_plain:
            return self.conclude(self.answer(image))
        areas = view.areas(image.size)
        selection = self.selection.of_tile if len(areas) > 1 else self.selection
        parts, times = [], []
        for area in areas:
            shown, x, y = image.part(area)
            found = self._conclude(self.answer(shown, rotation=view.rotation), selection)
            parts.append(found.moved(x, y).in_area(*area))
            times.append(self.times)
        self.times = StageTimes(*map(sum, zip(*times, strict=True)))
        return self._kept(self._merged(parts, areas))

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many pixels the network sees of an image if it is the next one; for any thread.

        Args:
            size: width and height of the image in pixels.

        Returns:
            Columns and rows of the input that it fills.
        """
        placement = Placement.fit(size, self.input_size(*size), self.card.resize)
        return placement.width, placement.height

    def answer(
        self, image: DecodedImage, prepared: Prepared | None = None, rotation: int = 0
    ) -> Answer:
        """The first part of ``detect``, up to the network.

        Args:
            image: see ``detect_decoded``.
            prepared: of this image; it is used if it has the size of the input.
            rotation: degrees clockwise by which the image is turned.

        Raises:
            BackendError: the runtime failed.
        """
        placement, seconds = self._fill_input(image, prepared, rotation)
        began = perf_counter()
        candidates = self.backend.run()
        return Answer(candidates, placement, seconds, perf_counter() - began, rotation)

    @property
    def batch(self) -> int:
        """Images that ``answer_together`` takes at most; 1 where a runtime gains nothing by it."""
        return len(self.backend.input) if BACKENDS[self.backend.name].batches else 1

    def answer_together(self, images: Sequence[DecodedImage]) -> list[Answer]:
        """The answers to several images, by as few runs as the sizes of their inputs allow.

        Args:
            images: any number, in a plain view; ``batch`` of them go into a run.

        Returns:
            Answers that stay, in the order of the images.

        Raises:
            BackendError: the runtime failed.
        """
        if self.changes_by_itself:
            self.use_newest()
        places: dict[Size, list[int]] = {}
        for number, image in enumerate(images):
            self._input.fit(image.size)
            places.setdefault(self._input.size, []).append(number)
        answers: dict[int, Answer] = {}
        most = len(self.backend.input)  # another one may have come since the images were taken
        for size, numbers in places.items():
            self._input.run_at(size)
            for first in range(0, len(numbers), most):
                some = numbers[first : first + most]
                found = self._answer_alike([images[number] for number in some])
                answers.update(zip(some, (answer.copy() for answer in found), strict=True))
        return [answers[number] for number in range(len(images))]

    def _answer_alike(self, images: Sequence[DecodedImage]) -> Iterator[Answer]:
        """The answers to images that the current input fits, by one run."""
        self.stage = "preprocess"
        filled = []
        for place, image in enumerate(images):
            began = perf_counter()
            filled.append((self._input.fill_place(image, place), perf_counter() - began))
        self.stage = "inference"
        began = perf_counter()
        boxes, scores, labels = self.backend.run(len(images))
        seconds = perf_counter() - began
        for place, (placement, preprocess) in enumerate(filled):
            own = slice(place, place + 1)
            yield Answer((boxes[own], scores[own], labels[own]), placement, preprocess, seconds)

    @property
    def in_flight(self) -> int:
        """Images that ``start`` takes before the first of them must be finished."""
        return self.backend.in_flight

    def start(self, image: DecodedImage, prepared: Prepared | None = None) -> None:
        """Begin what ``answer`` does, with at most ``in_flight`` images under way.

        Raises:
            BackendError: the runtime failed.
        """
        if self._successor or not self._input.fits(image.size):
            while self._under_way:  # another backend or size may be opened for this image
                self._finished.append(self._finish().copy())
        placement, seconds = self._fill_input(image, prepared)
        began = perf_counter()
        self.backend.start()
        self._input.look()
        self._under_way.append(Started(placement, seconds, began))

    def finish(self) -> Answer:
        """The answer to the image that was started first.

        Raises:
            BackendError: the runtime failed.
        """
        return self._finished.popleft() if self._finished else self._finish()

    def _finish(self) -> Answer:
        placement, preprocess, began = self._under_way.popleft()
        candidates = self.backend.finish()
        seconds = perf_counter() - began
        if self.in_flight > 1:  # it waited for the one before
            seconds = sum(self.backend.device_times.values())
        return Answer(candidates, placement, preprocess, seconds)

    def _fill_input(
        self, image: DecodedImage, prepared: Prepared | None, rotation: int = 0
    ) -> tuple[Placement, float]:
        """Make the input of an image; return where it lies in it, and the seconds it took."""
        if self.changes_by_itself:
            self.use_newest()
        self._input.fit(turned(image.size, rotation) if rotation else image.size)
        self.stage = "preprocess"
        started = perf_counter()
        if prepared is not None and prepared.pixels.shape == self.backend.input.shape[1:]:
            self._input.copy(prepared.pixels)
            placement = placement_of(image, prepared.placement)
            started -= prepared.seconds
        else:
            placement = self._input.fill(image, rotation)
        self.stage = "inference"
        return placement, perf_counter() - started

    def conclude(self, answer: Answer) -> Detections:
        """The second part of ``detect``: suppression, and boxes in pixels of the image.

        It may run in another thread than the first.
        """
        return self._kept(self._conclude(answer, self.selection))

    def _conclude(self, answer: Answer, selection: Selection) -> Detections:
        """See ``conclude``; boxes of all sizes."""
        self.stage = "postprocess"
        started = perf_counter()
        boxes, scores, labels = answer.candidates
        found = select(boxes[0], scores[0], labels[0], selection)
        if answer.rotation:
            upright = turn_back(found.boxes, answer.rotation, answer.placement.target)
            found = replace(found, boxes=upright)
        result = found.to_source(answer.placement)
        self.times = StageTimes(answer.preprocess, answer.inference, perf_counter() - started)
        return result

    def _kept(self, found: Detections) -> Detections:
        """Those of the right size; of others ``select`` has kept enough."""
        if not self.selection.limits_size:
            return found
        return self.selection.of_size(found)[: self.selection.max_detections]

    def _merged(self, parts: list[Detections], areas: list[Area]) -> Detections:
        if len(parts) == 1:
            return parts[0]
        from compact_yolo_ros.detection.tile_merging import merge  # only where there are tiles

        found = merge(parts, areas, self.selection.iou_threshold)
        return found if self.selection.limits_size else found[: self.selection.max_detections]

    def resize(self, size: InputSize) -> None:
        """Use another input size from the next image on: one of ``inputs``.

        For the thread that detects. A backend that comes later is used at this size too, if it has
        it.
        """
        self._input.resize(size)

    def replace_backend(self, opened: Opened) -> None:
        """Use another network from the next image on, then close the one in use. For any thread.

        One that was to be used before it, but has had no image yet, is closed now.
        """
        with self._handover:
            superseded, self._successor = self._successor, opened
        if superseded is not None:
            superseded.backend.close()

    def use_newest(self) -> None:
        """Change to the newest network of ``replace_backend``, as ``answer`` does first.

        For the thread that detects.
        """
        if self._successor is None:
            return
        self.stage = "change of the backend"
        predecessor = self.backend
        with self._handover:
            successor, self._successor = self._successor, None
        self._input.use(successor)
        predecessor.close()
        give_back_freed_memory()

    def close(self) -> None:
        """Release the network; once more does nothing."""
        self.use_newest()
        self._input.forget()
        self.backend.close()


def _open_fitting(options: RunOptions) -> Opened:
    """Open the sizes that fit ``image_sizes``; squares, if the network's file allows no others."""
    try:
        return open_backend(options)
    except BackendError as error:
        if not options.image_sizes:
            raise
        problem = error
    try:
        opened = open_backend(options.change(image_sizes=()))
    except BackendError:
        raise problem from None
    return replace(opened, warning=f"the input does not fit the images: {problem}")
