# SPDX-License-Identifier: Apache-2.0
"""Draw docs/governor.png: the governor in a load step, on a simulated camera and network.

    python docs/governor.py
    python docs/governor.py --measure    # with the network's times on this machine

The governor is the node's own; the network's times are measured ones with made-up noise. Run it in
the environment of ``make test``.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT), str(ROOT / "test" / "helpers")]

from matplotlib.figure import Figure  # noqa: E402
from simulated_load import Frame, simulate  # noqa: E402

from compact_yolo_ros.backends import RunOptions, open_backend  # noqa: E402
from compact_yolo_ros.detection.governor import Governor, Targets  # noqa: E402
from compact_yolo_ros.model.sizes import Size  # noqa: E402
from compact_yolo_ros.support.files import replacing  # noqa: E402

MEASURED = {416: 0.0265, 320: 0.0159, 224: 0.0081}
"""Seconds of yolo_ret_m075 by input size: ONNX Runtime, one thread of an AMD EPYC."""
DEADLINE = 0.05
STEP_UP, STEP_DOWN, END = 100, 300, 450
LOAD, NOISE, REST, RATE = 3.0, 0.2, 0.002, 30
"""Factor of the step, share of noise, seconds of everything but the network, images a second."""


def main() -> None:
    """Play the step once with the governor and once without, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the network here")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    options = parser.parse_args()
    seconds = measure() if options.measure else MEASURED
    governed, fixed = play(seconds, DEADLINE), play(seconds, 0.0)
    figure = draw(governed, fixed)
    with replacing(options.out) as temporary:
        figure.savefig(temporary, dpi=100)
    print(summary("governed", governed))
    print(summary("at 416", fixed))


def measure() -> dict[int, float]:
    """Median seconds of the network at each size, on one thread."""
    sizes = tuple(map(Size.square, MEASURED))
    backend = open_backend(RunOptions("yolo_ret_m075", input_sizes=sizes, threads=1)).backend
    times: dict[int, list[float]] = {side: [] for side in MEASURED}
    for _ in range(30):
        for side, taken in times.items():
            backend.resize(Size.square(side))
            began = perf_counter()
            backend.run()
            taken.append(perf_counter() - began)
    return {side: median(taken) for side, taken in times.items()}


def play(seconds: dict[int, float], deadline: float) -> list[Frame]:
    """Process the camera's images while the load steps up and down again."""
    noise = random.Random(1)

    def load(number: int) -> float:
        factor = LOAD if STEP_UP <= number < STEP_DOWN else 1.0
        return factor * noise.uniform(1 - NOISE, 1 + NOISE)

    governor = Governor(seconds, Targets(latency=deadline))
    return simulate(governor, seconds, load, frames=END, period=1 / RATE, rest=REST)


def draw(governed: list[Frame], fixed: list[Frame]) -> Figure:
    """Latencies above, input size below, over the number of the frame."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for frames, name, colour in ((fixed, "always 416", "0.7"), (governed, "governed", "C0")):
        latencies = [1e3 * frame.cost.latency for frame in frames]
        above.plot(latencies, ".-", color=colour, markersize=4, linewidth=0.8, label=name)
    above.axhline(1e3 * DEADLINE, color="C3", linestyle="--", label="max_latency")
    above.set(ylabel="latency of the frame (ms)", ylim=(0, None))
    above.legend(loc="upper right")
    above.set_title(
        f"The network becomes {LOAD:.0f} times slower for {STEP_DOWN - STEP_UP} frames, "
        f"noise ±{NOISE:.0%}, camera {RATE} Hz (simulated)"
    )
    below.step(range(len(governed)), [frame.rung.size for frame in governed], where="post")
    below.set(ylabel="input size", xlabel="frame", yticks=sorted(MEASURED), ylim=(200, 440))
    for axes in (above, below):
        axes.axvspan(STEP_UP, STEP_DOWN, color="C1", alpha=0.12, linewidth=0)
        axes.grid(alpha=0.3)
    return figure


def summary(name: str, frames: list[Frame]) -> str:
    """One line: frames that were late, and when the last of the step's beginning was."""
    late = [n for n, frame in enumerate(frames) if frame.cost.latency > DEADLINE]
    sizes = [frame.rung.size for frame in frames]
    switches = [n for n in range(1, len(sizes)) if sizes[n] != sizes[n - 1]]
    return (
        f"{name}: {len(late)} of {len(frames)} frames late, "
        f"the last {max(late, default=0) - STEP_UP + 1} frames after the step's beginning; "
        f"sizes changed at {switches}"
    )


if __name__ == "__main__":
    main()
