# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 as a feature extractor (Sandler et al., 2018, table 2; truncation of YOLO-ReT)."""

from __future__ import annotations

from torch import Tensor, nn

from training.detectors.blocks import ConvNormAct, InvertedResidual, make_divisible

# Expansion, channels at width 1, repeats, stride of the first: the stages that a truncated backbone
# keeps ...
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2))
# ... and the one that it leaves out, with the 1x1 convolution after it.
LAST_STAGE = (6, 320, 1, 1)
LAST_CHANNELS = 1280
# The last block of strides 4, 8, 16 and 32.
TAPS = (2, 5, 12, 15)


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier, as a backbone.

    Args:
        width: factor on the channels of every layer.
        complete: with the last stage and the final 1x1 convolution, whose map is then the output of
            stride 32; else truncated (blocks 0 to 15).
        uneven: padding as in TensorFlow, for weights that come from there.

    Attributes:
        channels: of its four outputs.
        repeats: blocks in each stage.
    """

    def __init__(self, width: float, complete: bool = False, uneven: bool = False) -> None:
        super().__init__()
        inputs = make_divisible(32 * width)
        self.stem = ConvNormAct(3, inputs, 3, 2, uneven=uneven)
        blocks, widths = [], []
        stages = (*STAGES, LAST_STAGE) if complete else STAGES
        for expand, channels, repeats, first_stride in stages:
            outputs = make_divisible(channels * width)
            for repeat in range(repeats):
                blocks.append(
                    InvertedResidual(
                        inputs,
                        inputs * expand,
                        outputs,
                        stride=first_stride if repeat == 0 else 1,
                        expand=expand != 1,
                        uneven=uneven,
                    )
                )
                widths.append(outputs)
                inputs = outputs
        self.repeats = tuple(repeats for _, _, repeats, _ in stages)
        self.blocks = nn.ModuleList(blocks)
        last = make_divisible(LAST_CHANNELS * max(1.0, width))
        self.last = ConvNormAct(inputs, last) if complete else nn.Identity()
        self.channels = (*(widths[tap] for tap in TAPS[:3]), last if complete else inputs)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W), RGB in 0..1, to maps of strides 4, 8, 16 and 32."""
        x = self.stem(images)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS[:3]:
                taps.append(x)
        return [*taps, self.last(x)]
