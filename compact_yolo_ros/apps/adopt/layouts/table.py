# SPDX-License-Identifier: Apache-2.0
"""The table of layouts, and the recognition of one."""

from __future__ import annotations

from dataclasses import replace

from compact_yolo_ros.apps.adopt.error import AdoptError
from compact_yolo_ros.apps.adopt.layouts import end_to_end, maps, queries, rows
from compact_yolo_ros.apps.adopt.layouts.layout import Facts, Head, Layout

AUTO = "auto"
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (*rows.LAYOUTS, *end_to_end.LAYOUTS, *queries.LAYOUTS, *maps.LAYOUTS)
}
"""Layouts by name, in the order in which they are tried."""


def recognise(name: str, facts: Facts) -> tuple[str, Head]:
    """Return the layout of a network and how to read it.

    Args:
        name: of the layout, or ``auto``.
        facts: of the network.

    Raises:
        AdoptError: it has none of the layouts.
    """
    if name != AUTO:
        head = LAYOUTS[name].read(replace(facts, forced=name))
        if head is None:
            raise AdoptError(f"it has not the layout {name}: {_shapes(facts)}")
        return name, head
    for layout in LAYOUTS.values():
        head = layout.read(facts)
        if head is not None:
            return layout.name, head
    known = "; ".join(f"{layout.name} ({layout.outputs})" for layout in LAYOUTS.values())
    raise AdoptError(f"its layout is not known: {_shapes(facts)}; known are {known}")


def _shapes(facts: Facts) -> str:
    shapes = ", ".join(f"{name} {values.shape}" for name, values in facts.outputs.items())
    return f"at {facts.size} it puts out {shapes}"
