# SPDX-License-Identifier: Apache-2.0
"""Building blocks shared by the detector families. All maps are (N, C, H, W) tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a number of channels to a multiple of ``divisor``.

    The result is at least ``divisor``, and never more than 10 % below ``channels``. Source: the
    released code of MobileNetV2 (Sandler et al., 2018).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def activation(name: str) -> nn.Module:
    """Return the activation called ``relu6``, ``swish``, ``leaky`` (slope 0.1) or ``linear``.

    Raises:
        ValueError: the name is another.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "relu6": lambda: nn.ReLU6(inplace=True),
        "swish": lambda: nn.SiLU(inplace=True),
        "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
        "linear": nn.Identity,
    }
    if name not in makers:
        raise ValueError(f"unknown activation {name!r}: choose one of {', '.join(makers)}")
    return makers[name]()


class ConvNormAct(nn.Module):
    """Convolution without bias, "same" padding, batch normalisation, activation.

    While its norm is in evaluation mode, the normalisation is multiplied into the kernel: the map
    is read and written once instead of twice, and gradients still reach kernel, scale and shift.
    A strided depthwise convolution that is trained stays in float32 under autocast: its bfloat16
    gradient on CPUs is an unoptimised loop (measured: a quarter of a training step).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel in pixels.
        stride: of the convolution.
        groups: of channels; ``inputs`` for a depthwise convolution.
        act: name of the activation, see ``activation``.
        eps: added to the variance in the batch norm.
        uneven: pad a strided convolution as TensorFlow does, with the odd pixel right and below.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str = "relu6",
        eps: float = 1e-5,
        uneven: bool = False,
    ) -> None:
        super().__init__()
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        uneven = uneven and stride == 2
        self.pad = nn.ZeroPad2d((before, after, before, after)) if uneven else nn.Identity()
        padding = 0 if uneven else (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=eps)
        self.act = activation(act)

        self.full_precision = groups > 1 and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        trained = torch.is_grad_enabled() and (x.requires_grad or self.conv.weight.requires_grad)
        if self.full_precision and trained and x.dtype == torch.bfloat16:
            with torch.autocast(x.device.type, enabled=False):
                return self._forward(x.float()).to(x.dtype)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        conv, x = self.conv, self.pad(x)
        if self.norm.training:
            y: Tensor = self.act(self.norm(conv(x)))
            return y
        kernel, bias = self.folded()
        y = self.act(functional.conv2d(x, kernel, bias, conv.stride, conv.padding, 1, conv.groups))
        return y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return kernel (O, I/groups, k, k) and bias (O,) of convolution and norm in one."""
        norm = self.norm
        mean, variance = statistics(norm)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return self.conv.weight * scale[:, None, None, None], norm.bias - mean * scale

    def deployed(self) -> nn.Sequential:
        """Return a copy with the batch norm folded into the convolution, for export."""
        conv = copy.deepcopy(self.conv)
        kernel, bias = self.folded()
        conv.weight = nn.Parameter(kernel.detach())
        conv.bias = nn.Parameter(bias.detach())
        return nn.Sequential(self.pad, conv, self.act)


def statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return running mean and variance (C,) of a batch norm, which all of ours keep."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    return mean, variance


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., 2018): mean of the map, 1x1, activation, 1x1, sigmoid.

    When a gradient is needed, the mean is computed as a sum and a division: the gradient of
    PyTorch's own mean has another memory layout than the map, and adding the two took as long as
    everything else.

    Args:
        channels: of the map.
        hidden: channels between the two 1x1 convolutions.
        act: name of the activation, see ``activation``.
        bias: whether the 1x1 convolutions have biases.
    """

    def __init__(self, channels: int, hidden: int, act: str = "swish", bias: bool = True) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.act = activation(act)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            mean = x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
        else:
            mean = functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.expand(self.act(self.reduce(mean))))


class InvertedResidual(nn.Module):
    """Inverted bottleneck: 1x1 to ``hidden``, depthwise, linear 1x1 to ``outputs``.

    Source: MobileNetV2 (Sandler et al., 2018, section 3.3); with ``squeeze`` the MBConv of
    EfficientNet (Tan and Le, 2019).

    Args:
        inputs: channels of the input.
        hidden: channels of the depthwise convolution; ``inputs`` without ``expand``.
        outputs: channels of the output.
        kernel: side of the depthwise kernel in pixels.
        stride: of the depthwise convolution.
        expand: with the first 1x1 convolution.
        squeeze: hidden channels of the channel attention after the depthwise convolution; 0: none.
        residual: add the input to the output where stride is 1 and the widths agree.
        dropout: probability, before the sum.
        act: name of the activation, see ``activation``.
        eps: added to the variances in the batch norms.
        uneven: padding as in TensorFlow, see ``ConvNormAct``.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        expand: bool = True,
        squeeze: int = 0,
        residual: bool = True,
        dropout: float = 0.0,
        act: str = "relu6",
        eps: float = 1e-5,
        uneven: bool = False,
    ) -> None:
        super().__init__()
        self.expand: ConvNormAct | nn.Identity = (
            ConvNormAct(inputs, hidden, act=act, eps=eps) if expand else nn.Identity()
        )
        self.depthwise = ConvNormAct(hidden, hidden, kernel, stride, hidden, act, eps, uneven)
        self.attend = SqueezeExcite(hidden, squeeze, act) if squeeze else nn.Identity()
        self.project = ConvNormAct(hidden, outputs, act="linear", eps=eps)
        self.residual = residual and stride == 1 and inputs == outputs
        self.drop = nn.Dropout(dropout) if self.residual and dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.attend(self.depthwise(self.expand(x))))
        return x + self.drop(y) if self.residual else y


def inverted_residuals(blocks: nn.ModuleList) -> list[InvertedResidual]:
    """Return the blocks of a backbone that is made of inverted bottlenecks only.

    Raises:
        TypeError: another module is among them.
    """
    found = [block for block in blocks if isinstance(block, InvertedResidual)]
    if len(found) != len(blocks):
        raise TypeError("a block is not an InvertedResidual")
    return found


class DepthwiseSeparable(nn.Sequential):
    """Depthwise convolution and 1x1, both normalised; ``last`` is the activation of the 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, act: str, last: str) -> None:
        super().__init__(
            ConvNormAct(inputs, inputs, kernel, groups=inputs, act=act),
            ConvNormAct(inputs, outputs, act=last),
        )


class SpatialPyramidPooling(nn.Module):
    """Concatenate maxima over squares of 9, 5 and 3 pixels and the map itself (darknet's order)."""

    def forward(self, x: Tensor) -> Tensor:
        pools = [functional.max_pool2d(x, size, 1, size // 2) for size in (9, 5, 3)]
        return torch.cat((*pools, x), 1)


class Reorg(nn.Module):
    """Move squares of ``stride`` x ``stride`` pixels to channels, in the order of darknet.

    Darknet reads the memory of the (C, H, W) input as if it were (C/s^2, H*s, W*s), moves every
    s x s square of that to channels, and calls the result (C*s^2, H/s, W/s).
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        s = self.stride
        count, channels, height, width = x.shape
        squares = x.reshape(count, channels // s**2 * height, s, width, s).permute(0, 2, 4, 1, 3)
        return squares.reshape(count, channels * s**2, height // s, width // s)


def upsample2(x: Tensor) -> Tensor:
    """Double height and width, nearest neighbour."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample2(x: Tensor) -> Tensor:
    """Halve height and width, maximum of each 2x2 square."""
    return functional.max_pool2d(x, 2)


def steady_pool2(x: Tensor) -> Tensor:
    """Return the maximum of each 2x2 square at stride 1; the map keeps its size.

    Padding by one pixel on all sides gives one row and one column too many: the first are dropped.
    """
    return functional.max_pool2d(x, 2, 1, 1)[..., 1:, 1:]


def level_ends(strides: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of the last blocks of strides 4, 8, 16 and 32 of a backbone.

    Args:
        strides: of its blocks, after a stem of stride 2. Where a truncated backbone has no block of
            a stride, the end is that of the stride before.
    """
    ends, reached = {}, 2
    for number, stride in enumerate(strides):
        reached *= stride
        ends[reached] = number
    found = [ends[4]]
    for stride in (8, 16, 32):
        found.append(ends.get(stride, found[-1]))
    return tuple(found)


def inner_taps(ends: Sequence[int]) -> tuple[int, ...]:
    """Return the ends (see ``level_ends``) before the last block."""
    return tuple(sorted(set(ends)))[:-1]


def levels(maps: list[Tensor]) -> list[Tensor]:
    """Return maps of strides 4, 8, 16 and 32: those that are missing are maxima of the last one."""
    maps = list(maps)
    while len(maps) < 4:
        maps.append(downsample2(maps[-1]))
    return maps


def tapped(
    blocks: Iterable[nn.Module], x: Tensor, taps: Collection[int]
) -> tuple[list[Tensor], Tensor]:
    """Run ``blocks`` one after the other.

    Args:
        blocks: modules that map (N, C, H, W) to (N, C', H', W').
        x: input of the first.
        taps: numbers, from 0, of the blocks whose outputs are returned.

    Returns:
        The outputs of the blocks ``taps``, and that of the last block.
    """
    kept = []
    for index, block in enumerate(blocks):
        x = block(x)
        if index in taps:
            kept.append(x)
    return kept, x
