# SPDX-License-Identifier: Apache-2.0
"""EfficientNet B0 to B3 and Lite0 to Lite2 as feature extractors (Tan and Le, 2019, table 1).

Lite has no squeeze-and-excitation, ReLU6 instead of swish, and stem and last convolution of fixed
width.
"""

from __future__ import annotations

import math
from collections import Counter

from torch import Tensor, nn

from training.detectors.blocks import (
    ConvNormAct,
    InvertedResidual,
    inner_taps,
    level_ends,
    levels,
    make_divisible,
    tapped,
)

# Expansion, channels of B0, repeats of B0, stride of the first, kernel: the stages that a truncated
# backbone keeps ...
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
)
# ... and the one that it leaves out, with the 1x1 convolution after it.
LAST_STAGE = (6, 320, 1, 1, 3)
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
# Factors of width and depth.
SCALES = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
}
EPS = 1e-3


class EfficientNet(nn.Module):
    """An EfficientNet without its classifier, as a backbone.

    Args:
        variant: a key of SCALES.
        complete: with stage 7 and the 1x1 convolution after it, else truncated (stages 1 to 6, or
            the first ``blocks``).
        uneven: padding as in TensorFlow, for weights that come from there.
        blocks: how many a truncated one keeps; None: those of stages 1 to 6. For strides that no
            block is left of, see ``blocks.levels``.

    Attributes:
        channels: of its four outputs.
        repeats: blocks in each stage.
    """

    def __init__(
        self,
        variant: str,
        complete: bool = False,
        uneven: bool = False,
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        width, depth = SCALES[variant]
        lite = variant.startswith("lite")
        act = "relu6" if lite else "swish"
        fixed = 1.0 if lite else width
        inputs = make_divisible(STEM_CHANNELS * fixed)
        self.stem = ConvNormAct(3, inputs, 3, 2, act=act, eps=EPS, uneven=uneven)
        # The first and the last stage of Lite have one block whatever the depth.
        fixed_depth = (0, len(STAGES)) if lite else ()
        rows = [
            (number, expand, make_divisible(channels * width), 1 if repeat else stride, kernel)
            for number, (expand, channels, repeats, stride, kernel) in enumerate(
                (*STAGES, LAST_STAGE)
            )
            for repeat in range(repeats if number in fixed_depth else math.ceil(repeats * depth))
        ]
        if not complete:
            truncated = sum(number < len(STAGES) for number, *_ in rows)
            rows = rows[: blocks or truncated]
        self.blocks = nn.ModuleList()
        for _, expand, outputs, stride, kernel in rows:
            self.blocks.append(
                InvertedResidual(
                    inputs,
                    inputs * expand,
                    outputs,
                    kernel,
                    stride,
                    expand=expand != 1,
                    squeeze=0 if lite else inputs // 4,
                    act=act,
                    eps=EPS,
                    uneven=uneven,
                )
            )
            inputs = outputs
        self.repeats = tuple(Counter(number for number, *_ in rows).values())
        last = make_divisible(LAST_CHANNELS * fixed)
        self.last = ConvNormAct(inputs, last, act=act, eps=EPS) if complete else nn.Identity()
        ends = level_ends([stride for _, _, _, stride, _ in rows])
        self.channels = (*(rows[end][2] for end in ends[:3]), last if complete else inputs)
        self.taps = inner_taps(ends)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W), RGB in 0..1, to maps of strides 4, 8, 16 and 32."""
        taps, x = tapped(self.blocks, self.stem(images), self.taps)
        return levels([*taps, self.last(x)])
