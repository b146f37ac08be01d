# SPDX-License-Identifier: Apache-2.0
"""Time every loss beside the network that it trains, alternating in one run.

    python test/benchmarks/losses.py

The batch is drawn at random: as many objects as asked for, of sizes as in a street scene. Loss is
the time of its values and of its gradient at the maps; network is forward and backward, from the
maps on. CPU time, so that other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from training.data.batch import Targets  # noqa: E402
from training.detectors.loss_settings import LossSettings  # noqa: E402
from training.detectors.registry import DETECTORS, build  # noqa: E402
from training.losses.criterion import Criterion, criterion  # noqa: E402

KINDS = {
    "GIoU": LossSettings(),
    "GIoU, anchors above 0.4": LossSettings(also_above=0.4),
    "CIoU": LossSettings(box="ciou"),
    "CIoU as darknet": DETECTORS["yolo_fastest"].loss,
    "squared error (YOLOv3)": DETECTORS["tiny_yolov3"].loss,
    "region (YOLOv2)": DETECTORS["tiny_yolov2"].loss,
    "GIoU, task-aligned": LossSettings(assignment="task_aligned"),
}


def draw_targets(images: int, each: int, classes: int, size: int) -> Targets:
    """Objects at random: (images * each), side lengths from 8 pixels to half the image."""
    count = images * each
    image = torch.arange(images).repeat_interleave(each)[:, None]
    label = torch.randint(0, classes, (count, 1))
    centre, sides = torch.rand(count, 2) * size, 8 * (size / 16) ** torch.rand(count, 2)
    return Targets.of(torch.cat((image, label, centre - sides / 2, centre + sides / 2), 1))


def doubtful(targets: Targets, images: int) -> Targets:
    """Add an ignored box and a class that a part has no labels of to every image; confidences."""
    ignored = targets.objects[:: len(targets.objects) // images, (0, 2, 3, 4, 5)]
    number = torch.arange(images)
    unlabelled = torch.stack((number, torch.zeros_like(number), number % 4), 1)
    seams = torch.cat((number[:, None].float(), torch.full((images, 2), 150.0)), 1)
    confidence = torch.rand(len(targets.objects)) * 0.5 + 0.5
    return Targets(targets.objects, confidence, ignored.contiguous(), unlabelled, seams)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one call."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Print medians in milliseconds, and shares of the network's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="yolo_ret_m075")
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--size", type=int, default=320, help="side of the input in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--objects", type=int, default=8, help="in every image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    model = build(options.detector, num_classes=options.classes)
    model = model.to(memory_format=torch.channels_last)
    images = torch.rand(options.batch, 3, options.size, options.size)
    images = images.to(memory_format=torch.channels_last)
    targets = draw_targets(options.batch, options.objects, options.classes, options.size)
    maps: list[Tensor] = [m.detach().requires_grad_() for m in model(images)]
    slopes = [torch.ones_like(m) for m in maps]

    def network() -> None:
        torch.autograd.backward(model(images), slopes)

    def step(loss: Criterion, shown: Targets) -> None:
        torch.autograd.grad(loss(maps, shown, 0).total, maps)

    doubt = doubtful(targets, options.batch)
    cases: dict[str, Callable[[], None]] = {"network": network}
    for name, settings in KINDS.items():
        loss = criterion(settings, model.grid)
        cases[name] = lambda loss=loss: step(loss, targets)
        if name == "GIoU":
            cases[f"{name}, in doubt"] = lambda loss=loss: step(loss, doubt)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds + 1):
        for name, work in cases.items():
            times[name].append(milliseconds(work))
    medians = {name: median(values[1:]) for name, values in times.items()}
    print(
        f"{options.detector}, {options.classes} classes, batch {options.batch} at {options.size}, "
        f"{options.objects} objects an image, {options.threads} thread(s)"
    )
    for name, value in medians.items():
        print(f"{name:28}{value:9.1f} ms {100 * value / medians['network']:7.2f} %")


if __name__ == "__main__":
    main()
