# SPDX-License-Identifier: Apache-2.0
"""What cross-stage partial and one-shot aggregated stages cost (Scaled-YOLOv4, 3.2 and 3.3).

    python -m training.studies.stage_costs

A block in a CSP stage works on half of the channels: its saving is the published one. A one-shot
aggregated (OSA) stage concatenates once, a dense stage before each of its convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compact_yolo_ros.support.terminal import open_console, print_table


@dataclass(frozen=True)
class Conv:
    """A convolution: channels in and out, side of the kernel, groups."""

    inputs: int
    outputs: int
    kernel: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one pixel of the map."""
        return self.inputs // self.groups * self.outputs * self.kernel**2

    @property
    def moved(self) -> int:
        """Values of a pixel that are read and written (HarDNet's CIO)."""
        return self.inputs + self.outputs


BASE = 256
"""Channels of the blocks: their ratios do not depend on it."""


def residual(b: int, hidden: int) -> Sequence[Conv]:
    """Return the bottleneck of ResNet."""
    return Conv(b, hidden), Conv(hidden, hidden, 3), Conv(hidden, b)


def grouped(b: int, hidden: int) -> Sequence[Conv]:
    """Return the bottleneck of ResNeXt, with 32 groups."""
    return Conv(b, hidden), Conv(hidden, hidden, 3, 32), Conv(hidden, b)


def dark(b: int, hidden: int) -> Sequence[Conv]:
    """Return the residual block of DarkNet."""
    return Conv(b, hidden), Conv(hidden, b, 3)


# Hidden channels as a share of the plain block's b channels: they stay where b becomes b / 2, but
# for DarkNet's, which stay at the width of the path.
BLOCKS = {"ResNet": (residual, 4, 23.5), "ResNeXt": (grouped, 2, 46.7), "DarkNet": (dark, 2, 50.0)}


def savings(b: int = BASE) -> Iterator[tuple[str, int, int, float]]:
    """Yield name, multiply-accumulates a pixel plain and in a CSP stage, published saving in %."""
    for name, (block, divisor, published) in BLOCKS.items():
        plain, inside = (block(width, b // divisor) for width in (b, b // 2))
        yield name, _macs(plain), _macs(inside), published


def dense(b: int, g: int, k: int) -> Sequence[Conv]:
    """Return k 3x3 convolutions of g channels, each on all maps before it."""
    return [Conv(b + number * g, g, 3) for number in range(k)]


def one_shot(b: int, g: int, k: int) -> Sequence[Conv]:
    """Return k 3x3 convolutions of g channels, each on the map before it alone."""
    return [Conv(b if number == 0 else g, g, 3) for number in range(k)]


def _macs(convs: Sequence[Conv]) -> int:
    return sum(conv.macs for conv in convs)


def stages(b: int = BASE, k: int = 3) -> Iterator[tuple[str, int, int]]:
    """Yield name, multiply-accumulates and values moved a pixel of stages with g = b / 2."""
    g = b // 2
    kinds = {
        "dense": dense(b, g, k),
        "OSA": one_shot(b, g, k),
        "CSP-OSA": one_shot(b // 2, g, k),
    }
    for name, convs in kinds.items():
        yield name, _macs(convs), sum(conv.moved for conv in convs)


def main() -> None:
    """Print both tables."""
    console = open_console()
    head = "block", "MAC a pixel", "in a CSP stage", "saving", "published"
    rows = [
        (name, f"{plain:,}", f"{inside:,}", f"{100 * (1 - inside / plain):.1f} %", f"{saved} %")
        for name, plain, inside, saved in savings()
    ]
    print_table(console, head, rows, f"Computational blocks of {BASE} channels")
    cells = [(name, f"{macs:,}", f"{moved:,}") for name, macs, moved in stages()]
    columns = "stage", "MAC a pixel", "values moved a pixel"
    print_table(console, columns, cells, f"Three 3x3 convolutions on {BASE} channels, half wide")


if __name__ == "__main__":
    main()
