# SPDX-License-Identifier: Apache-2.0
"""The settings for one model, also while the parameters name classes of another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.ros.detector.settings import Settings, read_settings

NAMING = ("classes", "class_thresholds", "class_heights")
"""Parameters that name classes of the model."""


class CardSettings:
    """Reads the settings for one model.

    Names of classes are set together with the model that has them. Until that is there, or if it
    cannot be opened, another one runs, for which the other parameters still count.

    Attributes:
        card: of the model.
        names: the values that were accepted last of the parameters that name classes.
    """

    def __init__(self, card: ModelCard) -> None:
        """Begin without names, so that objects of all classes are published."""
        self.card = card
        self.names: dict[str, list[str]] = {name: [] for name in NAMING}

    def accept(self, values: Mapping[str, Any]) -> Settings:
        """The settings, and names to keep from now on.

        Args:
            values: of all parameters, by name.

        Raises:
            ValueError: a value cannot be used, or the model lacks a class that is named.
        """
        settings = read_settings(values, self.card)
        self.names = {name: values[name] for name in NAMING}
        return settings

    def read(self, values: Mapping[str, Any]) -> Settings:
        """Like ``accept``; where the model lacks a class that is named, the names before stay."""
        try:
            return self.accept(values)
        except ValueError:
            return read_settings({**values, **self.names}, self.card)


def renames(values: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether other classes are named than before."""
    return any(values[name] != before[name] for name in NAMING)
