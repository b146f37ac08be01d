# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 as a feature extractor (Sandler et al., 2018, table 2; truncation of YOLO-ReT)."""

from __future__ import annotations

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

# Expansion, channels at width 1, repeats, stride of the first: the stages that a truncated backbone
# keeps ...
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
# ... and the one that it leaves out, with the 1x1 convolution after it.
LAST_STAGE = (6, 320, 1, 1)
# The same, block by block: number of the stage, expansion, channels at width 1, stride.
ROWS = tuple(
    (number, expand, channels, 1 if repeat else first_stride)
    for number, (expand, channels, repeats, first_stride) in enumerate((*STAGES, LAST_STAGE))
    for repeat in range(repeats)
)
LAST_CHANNELS = 1280
# Blocks of all stages, of those that a truncated backbone keeps, and the fewest: one of stride 8.
ALL_BLOCKS, TRUNCATED_BLOCKS, FEWEST_BLOCKS = len(ROWS), len(ROWS) - 1, 4


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier, as a backbone.

    Args:
        width: factor on the channels of every layer.
        complete: with the last stage and the final 1x1 convolution, whose map is then the output of
            stride 32; else truncated (blocks 0 to 15, or the first ``blocks``).
        uneven: padding as in TensorFlow, for weights that come from there.
        blocks: how many a truncated one keeps, at least FEWEST_BLOCKS; None: 16. For strides that
            no block is left of, see ``blocks.levels``.

    Attributes:
        channels: of its four outputs.
        repeats: blocks in each stage.
    """

    def __init__(
        self,
        width: float,
        complete: bool = False,
        uneven: bool = False,
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        inputs = make_divisible(32 * width)
        self.stem = ConvNormAct(3, inputs, 3, 2, uneven=uneven)
        self.blocks = nn.ModuleList()
        rows = ROWS[: ALL_BLOCKS if complete else blocks or TRUNCATED_BLOCKS]
        widths = [make_divisible(channels * width) for _, _, channels, _ in rows]
        for (_, expand, _, stride), outputs in zip(rows, widths, strict=True):
            self.blocks.append(
                InvertedResidual(
                    inputs,
                    inputs * expand,
                    outputs,
                    stride=stride,
                    expand=expand != 1,
                    uneven=uneven,
                )
            )
            inputs = outputs
        self.repeats = tuple(Counter(stage for stage, *_ in rows).values())
        last = make_divisible(LAST_CHANNELS * max(1.0, width))
        self.last = ConvNormAct(inputs, last) if complete else nn.Identity()
        ends = level_ends([stride for *_, stride in rows])
        self.channels = (*(widths[end] for end in ends[:3]), last if complete else inputs)
        self.taps = inner_taps(ends)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W), RGB in 0..1, to maps of strides 4, 8, 16 and 32."""
        taps, x = tapped(self.blocks, self.stem(images), self.taps)
        return levels([*taps, self.last(x)])
