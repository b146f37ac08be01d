# SPDX-License-Identifier: Apache-2.0
"""Narrow MobileNetV2 x1.0 to a smaller width, repairing every layer by least squares.

Two kinds of channels exist. The residual streams are linear, so a stream is rotated into its
principal axes and the weak ones are dropped. Expanded channels pass ReLU6, so a subset is kept, by
the energy each contributes to its projection. Then, block by block on sample images, the 1x1
convolutions are solved so that the narrow network's maps come as close as they can to the wide
one's; errors of earlier blocks are corrected by later ones, and running statistics are those of the
samples.

    python -m training.weights.narrow_mobilenet --source frozen_inference_graph.pb --images DIR \
        --out backbone.pt
    python -m training.weights.narrow_mobilenet --source mobilenetv2_x1.0.npz --width 0.5 ...

The narrow network pads as the wide one does, and its file says so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.detectors.blocks import ConvNormAct, inverted_residuals
from training.detectors.mobilenet_v2 import STAGES, MobileNetV2
from training.weights.mobilenet_width import change_width, set_unit, strongest

ROWS = 40_000
RIDGE = 1e-4


@torch.no_grad()
def narrow(wide: MobileNetV2, slim: MobileNetV2, images: Tensor) -> list[float]:
    """Compute the weights of a narrow network from those of a wide one.

    Args:
        wide: the trained network.
        slim: the narrow network, changed in place.
        images: (N, 3, H, W), RGB in 0..1, that the maps of both are compared on.

    Returns:
        For each block, the share of the variance of the wide output that the narrow one explains.

    Raises:
        ValueError: a layer would have more channels than the wide one.
    """
    pairs = zip(wide.parameters(), slim.parameters(), strict=True)
    if any(len(ours) > len(theirs) for theirs, ours in pairs):
        raise ValueError("a narrow network has no more channels: give a width up to 1.0")
    wide.eval()
    slim.eval()
    bases = _stream_bases(wide, slim, images)
    wide_blocks, slim_blocks = inverted_residuals(wide.blocks), inverted_residuals(slim.blocks)
    kept = strongest(wide_blocks[0], wide.stem(images), slim.stem.conv.out_channels)
    kernel, bias = wide.stem.folded()
    set_unit(slim.stem, kernel[kept], bias[kept], images)

    explained = []
    theirs, ours = wide.stem(images), slim.stem(images)
    for wide_block, slim_block, basis in zip(wide_blocks, slim_blocks, bases, strict=True):
        if isinstance(wide_block.expand, ConvNormAct) and isinstance(
            slim_block.expand, ConvNormAct
        ):
            kept = strongest(wide_block, theirs, slim_block.expand.conv.out_channels)
            kernel, bias = wide_block.expand.folded()
            target = functional.conv2d(theirs, kernel[kept], bias[kept])
            set_unit(slim_block.expand, *_solve(ours, target), ours)
        hidden = slim_block.expand(ours)
        kernel, bias = wide_block.depthwise.folded()
        set_unit(slim_block.depthwise, kernel[kept], bias[kept], hidden)
        hidden = slim_block.depthwise(hidden)

        theirs = wide_block(theirs)
        target_stream = torch.einsum("nchw,cd->ndhw", theirs, basis)
        target = target_stream - ours if slim_block.residual else target_stream
        set_unit(slim_block.project, *_solve(hidden, target), hidden)
        ours = slim_block(ours)
        back = torch.einsum("ndhw,cd->nchw", ours - target_stream, basis)
        lost = theirs - torch.einsum("ndhw,cd->nchw", target_stream, basis)
        lost = lost - lost.mean((0, 2, 3), keepdim=True)
        explained.append(1 - float((back - lost).square().sum() / _centred(theirs).square().sum()))
    return explained


def _stream_bases(wide: MobileNetV2, slim: MobileNetV2, images: Tensor) -> list[Tensor]:
    """Return, for each block, the orthonormal basis (wide, slim) of the stream that it writes."""
    x = wide.stem(images)
    bases, first = [], 0
    for _, _, repeats, _ in STAGES:
        blocks = inverted_residuals(wide.blocks)[first : first + repeats]
        width = inverted_residuals(slim.blocks)[first].project.conv.out_channels
        channels = blocks[0].project.conv.out_channels
        covariance = torch.zeros(channels, channels)
        for block in blocks:
            x = block(x)
            rows = _centred(x).permute(0, 2, 3, 1).reshape(-1, channels)
            covariance += rows.T @ rows
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :width]
        bases += [torch.eye(channels) if width == channels else axes] * repeats
        first += repeats
    return bases


def _solve(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 1x1 kernel (O, I, 1, 1) and bias (O,) that map inputs to target best (ridge)."""
    x = inputs.permute(0, 2, 3, 1).reshape(-1, inputs.shape[1])
    y = target.permute(0, 2, 3, 1).reshape(-1, target.shape[1])
    step = max(1, len(x) // ROWS)
    x, y = x[::step].double(), y[::step].double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    kernel = torch.linalg.solve(gram, x.T @ y).T
    return kernel[:, :, None, None].float(), (y_mean - kernel @ x_mean).float()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean((0, 2, 3), keepdim=True)


def narrow_and_report(wide: MobileNetV2, slim: MobileNetV2, images: Tensor) -> None:
    """Narrow, and print what every block kept."""
    for index, share in enumerate(narrow(wide, slim, images)):
        print(f"block {index:2d}: {share:6.1%} of the variance kept")


def main() -> None:
    """Command line."""
    change_width(
        "narrow_mobilenet", "Cut a narrow MobileNetV2 out of x1.0.", 0.75, narrow_and_report
    )


if __name__ == "__main__":
    main()
