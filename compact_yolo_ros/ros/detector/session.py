# SPDX-License-Identifier: Apache-2.0
"""What lives between *configure* and *cleanup*: the detector, its cameras and publishers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from functools import partial
from threading import Lock
from typing import Any

from rclpy.lifecycle import LifecycleNode

from compact_yolo_ros.backends import Opened
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.model.store import find_model
from compact_yolo_ros.ros.detector.backend_manager import BackendManager
from compact_yolo_ros.ros.detector.camera import Camera, new_decoder
from compact_yolo_ros.ros.detector.camera_names import camera_names
from compact_yolo_ros.ros.detector.card_settings import CardSettings, renames
from compact_yolo_ros.ros.detector.image_sizes import ImageSizes
from compact_yolo_ros.ros.detector.input_control import InputControl
from compact_yolo_ros.ros.detector.leftovers import Leftovers
from compact_yolo_ros.ros.detector.opening import Opening
from compact_yolo_ros.ros.detector.parameters import RUN_PARAMETERS, run_options, with_smaller
from compact_yolo_ros.ros.detector.publishing import ModelPublisher, PerformancePublisher
from compact_yolo_ros.ros.detector.settings import Settings, read_settings
from compact_yolo_ros.ros.diagnostics.report import backend_facts
from compact_yolo_ros.ros.diagnostics.situations import CameraState
from compact_yolo_ros.ros.receiver import Receiver
from compact_yolo_ros.support.wording import counted


class Session:
    """A loaded model with everything that the node has for it.

    The worker's thread uses the attributes while the node is active; everything else is for the
    executor's thread, and for that of /diagnostics while the executor's changes nothing.

    Attributes:
        backends: which backend the detector runs on.
        detector: finds the objects.
        settings: what the next image is processed with.
        control: which images are processed, and at which input size.
        image_sizes: of the cameras.
        cameras: where images come from and detections go.
        performance: publishes the times of every image.
        leftovers: what was not done in time.
    """

    def __init__(self, node: LifecycleNode, opening: Opening, leftovers: Leftovers) -> None:
        """Load the model and create the publishers.

        Args:
            node: what publishes and subscribes.
            opening: of the network, with the values of all parameters.
            leftovers: keeps what is not done in time.

        Raises:
            ModuleNotFoundError: a library that a parameter chooses is not installed.
            BackendError: the network cannot be run.
            ValueError: a parameter or the model cannot be used.
        """
        self.leftovers = leftovers
        self._values = values = opening.values
        self._lock = Lock()
        self._coming: ModelCard | None = None
        with ExitStack() as opened, ExitStack() as unused:
            unused.callback(opening.discard)
            decoders = {name: new_decoder(values) for name in camera_names(values["cameras"])}
            self._file = find_model(values["model"])
            self._wanted = card = self._file.card
            self._known = [CardSettings(card)]
            self._running = self._known[0]
            self.settings = self._running.accept(values)
            self.image_sizes = ImageSizes(decoders)
            self.performance = PerformancePublisher(node)
            opened.callback(self.performance.destroy)
            self._model = ModelPublisher(node, card)
            opened.callback(self._model.destroy)
            self.cameras: list[Camera] = []
            receiver = Receiver(node)
            for name, decode in decoders.items():
                camera = Camera(node, receiver, name, card, decode, self.settings, values)
                opened.callback(camera.destroy)
                self.cameras.append(camera)
            self.backends = BackendManager(*opening.result(), node.get_logger())
            unused.pop_all()
            opened.callback(self._release)
            self.detector = self.backends.detector
            # Between two images only: the settings of an image are those of its network.
            self.detector.changes_by_itself = False
            self.control = InputControl(self.detector, self.settings.targets, node.get_logger())
            self._model.publish(self.settings.selection.score_threshold)
            self._opened = opened.pop_all()

    @property
    def opened(self) -> Opened:
        """The backend in use, and why it is this one."""
        return self.detector.opened

    def apply(self, values: Mapping[str, Any], named: Collection[str] = ()) -> None:
        """Process images with other values of the parameters, from the next one on.

        Args:
            values: of all parameters, by name.
            named: parameters that were set, some of them maybe to the value that they had.

        Raises:
            ValueError: a value cannot be used; nothing has changed then.
            RuntimeError: ROS refuses a topic that is wanted now; likewise.
        """
        with self._lock:
            if any(self._asks(name, values, named) for name in RUN_PARAMETERS):
                settings = self._ask_for_another(values)
            else:
                if renames(values, self._values):
                    read_settings(values, self._next_card())
                settings = self._used_by_cameras(values)
            if settings.targets != self.settings.targets:
                # Also behind another model: if that cannot be opened, the old one needs them.
                self.backends.use_sizes(partial(with_smaller, values=values))
            self.control.targets = settings.targets
            self._values = values
            self.settings = settings
            self._model.publish(settings.selection.score_threshold)

    def _asks(self, name: str, values: Mapping[str, Any], named: Collection[str]) -> bool:
        """Whether a parameter asks for another network, or again for one that was not opened."""
        return values[name] != self._values[name] or (name in named and self.backends.falls_short)

    def _ask_for_another(self, values: Mapping[str, Any]) -> Settings:
        """Have another network opened; return the settings until it is there.

        Raises:
            ValueError: its values cannot be used.
            RuntimeError: ROS refuses a topic that is wanted now.
        """
        card = find_model(values["model"]).card
        read_settings(values, card)
        options = run_options(values)
        options.resolved(card)
        settings = self._used_by_cameras(values)
        self._wanted = card
        self.backends.change(options, self._accept)
        return settings

    def _used_by_cameras(self, values: Mapping[str, Any]) -> Settings:
        """The settings for the network in use; the cameras have the topics for them.

        Raises:
            ValueError: a value cannot be used, or a camera's topics are remapped against each
                other; the cameras are as before.
            RuntimeError: ROS refuses a topic; likewise.
        """
        names = self._running.names
        settings = self._running.read(values)
        try:
            for camera in self.cameras:
                camera.use(settings)
        except (RuntimeError, ValueError):
            self._running.names = names
            for camera in self.cameras:
                camera.use(self.settings)
            raise
        return settings

    def _next_card(self) -> ModelCard:
        """The card of the model that is asked for, or of the one that stays instead."""
        return (self._coming or self._running.card) if self.backends.refused else self._wanted

    def _accept(self, card: ModelCard) -> None:
        """Take the card of a model that the detector is about to get; for any thread.

        Raises:
            ValueError: the parameters name a class that it does not have.
        """
        with self._lock:
            self._settings_of(card).accept(self._values)
            self._coming = card

    def _settings_of(self, card: ModelCard) -> CardSettings:
        """What reads the settings for a model, with the names that were accepted for it."""
        known = next((each for each in self._known if each.card == card), None)
        if known is None:
            known = CardSettings(card)
            self._known.append(known)
        return known

    def next_settings(self) -> Settings:
        """What the next image is processed with, by the newest network. For the worker."""
        self.detector.use_newest()
        card = self.detector.card
        if card is not self._running.card or card is self._coming:
            self._change_model(card)
        return self.settings

    def _change_model(self, card: ModelCard) -> None:
        """Let everybody know of another model, between two images and before its detections."""
        with self._lock:
            self._coming = None if card == self._coming else self._coming
            running = self._settings_of(card)
            if running is self._running:
                return
            # The parameters may be those of a third model, which is not there.
            settings = running.read(self._values)
            self._running, self.settings = running, settings
            for camera in self.cameras:
                camera.use_model(card)
            self._model.use(card)
            self._model.publish(settings.selection.score_threshold)

    def summary(self) -> str:
        """What runs, and how, in one line for the log."""
        backend, choice = self.opened.backend, self.opened.choice
        _, height, width, _ = backend.input.shape
        fits = " until the first image, which it then fits" * isinstance(self.detector.input, int)
        return (
            f"Model {backend.card.name} ({self._file.path}), {backend.precision}, "
            f"input {width}x{height}{fits}, on {backend.name} "
            f"({backend.device}, {counted(backend.threads, 'thread')}); {choice}"
        )

    def facts(self) -> dict[str, object]:
        """Key-value pairs for /diagnostics."""
        facts: dict[str, object] = {"model": self.backends.model}
        facts |= backend_facts(self.opened) | self.backends.facts() | self.control.facts()
        if self.performance.unsent.count:
            facts["figures_failed"] = self.performance.unsent.count
        if self._coming is not None:
            facts["model_change"] = "opened, and used from the next image on"
        return facts

    def camera_states(self) -> dict[str, CameraState]:
        """How each camera is, by its name."""
        return {camera.name: camera.state(self.settings) for camera in self.cameras}

    def close(self) -> None:
        """Remove the publishers and release the model, at once or when nobody uses it any more."""
        self._opened.close()

    def _release(self) -> None:
        self.leftovers.add(
            self.backends.close(), lambda: "a model is not released yet: it is still in use"
        )
