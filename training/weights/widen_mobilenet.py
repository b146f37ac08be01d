# SPDX-License-Identifier: Apache-2.0
"""Widen MobileNetV2 x1.0 without changing what it computes, for a width without weights at hand.

The first channels of every layer are those of the source; the others are copies of some of them,
and whatever reads a channel with copies shares its weight among them, as in ``more_channels``,
which does this for whole detectors. Without the noise of Net2WiderNet nothing is lost: noise of 5 %
in the kernels of copies changes the last maps of an ImageNet network by half of their deviation.

    python -m training.weights.widen_mobilenet --source mobilenetv2_x1.0.npz --images DIR \
        --out backbone.pt --width 1.4

The wide network pads as its source does, and its file says so. Running statistics are those of the
sample images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.detectors.blocks import ConvNormAct, inverted_residuals
from training.detectors.mobilenet_v2 import ROWS, MobileNetV2
from training.weights.mobilenet_width import change_width, set_unit, strongest
from training.weights.more_channels import shares


class Widening:
    """Chooses copies and makes the layers that have them; repeatable by its seed.

    The channels of a wide layer are given as (W,), the channel of the source that each one is.
    """

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def copies(self, source: ConvNormAct, wide: ConvNormAct, among: Tensor | None = None) -> Tensor:
        """Return the source's channels and then as many ``among`` them, drawn, as are missing.

        Raises:
            ValueError: the wide layer has fewer channels, or more than a second one of each.
        """
        count, width = source.conv.out_channels, wide.conv.out_channels
        drawable = torch.arange(count) if among is None else among
        if not count <= width <= count + len(drawable):
            raise ValueError(
                f"{count} channels cannot become {width}: give a width from 1.0 to 1.5"
            )
        order = torch.randperm(len(drawable), generator=self.random)
        return torch.cat((torch.arange(count), drawable[order[: width - count]]))

    def fill(
        self,
        source: ConvNormAct,
        wide: ConvNormAct,
        x: Tensor,
        outputs: Tensor,
        inputs: Tensor | None,
    ) -> None:
        """Set the weights of a wide layer.

        Args:
            source: the layer that it comes from.
            wide: changed in place.
            x: its input, of whose maps the running statistics are.
            outputs: its channels.
            inputs: the channels of ``x``; None: no channel has copies, or it is depthwise.
        """
        kernel, bias = source.folded()
        kernel = kernel[outputs]
        if inputs is not None:
            kernel = kernel[:, inputs] * shares(len(outputs), inputs, self.random)[:, :, None, None]
        set_unit(wide, kernel, bias[outputs], x)


@torch.no_grad()
def widen(source: MobileNetV2, wide: MobileNetV2, images: Tensor, seed: int = 0) -> None:
    """Compute the weights of a wide network from those of its source.

    Args:
        source: the trained network.
        wide: changed in place. The first channels of its maps are the source's.
        images: (N, 3, H, W), RGB in 0..1, of whose maps the running statistics are.
        seed: of the choice of channels, and of the shares.

    Raises:
        ValueError: a layer would have fewer channels than the source's, or too many.
    """
    source.eval()
    wide.eval()
    widening = Widening(seed)
    stream = widening.copies(source.stem, wide.stem)
    widening.fill(source.stem, wide.stem, images, stream, None)
    theirs, ours = source.stem(images), wide.stem(images)
    stages: dict[int, Tensor] = {}  # Blocks of a stage add to one stream, so they share its copies.
    pairs = zip(inverted_residuals(source.blocks), inverted_residuals(wide.blocks), strict=True)
    for (stage, *_), (block, wide_block) in zip(ROWS, pairs, strict=False):
        hidden, x = stream, ours
        if isinstance(block.expand, ConvNormAct) and isinstance(wide_block.expand, ConvNormAct):
            useful = strongest(block, theirs, block.expand.conv.out_channels // 2)
            hidden = widening.copies(block.expand, wide_block.expand, useful)
            widening.fill(block.expand, wide_block.expand, x, hidden, stream)
            x = wide_block.expand(x)
        widening.fill(block.depthwise, wide_block.depthwise, x, hidden, None)
        x = wide_block.depthwise(x)
        if stage not in stages:
            stages[stage] = widening.copies(block.project, wide_block.project)
        stream = stages[stage]
        widening.fill(block.project, wide_block.project, x, stream, hidden)
        theirs, ours = block(theirs), wide_block(ours)


def main() -> None:
    """Command line."""
    change_width("widen_mobilenet", "Make a wide MobileNetV2 of a pretrained x1.0.", 1.4, widen)


if __name__ == "__main__":
    main()
