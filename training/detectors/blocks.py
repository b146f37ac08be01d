# SPDX-License-Identifier: Apache-2.0
"""Building blocks shared by the detector families. All maps are (N, C, H, W) tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to a multiple of ``divisor``, never more than 10 % below it (MobileNetV2)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def activation(name: str) -> nn.Module:
    """Return the activation called ``relu6``, ``swish``, ``leaky`` (slope 0.1) or ``linear``."""
    makers = {
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

    While its norm is in evaluation mode, the normalisation is multiplied into the kernel: the map is
    read and written once instead of twice, and gradients still reach kernel, scale and shift.
    A strided depthwise convolution stays in float32 under autocast: its bfloat16 gradient on CPUs is
    an unoptimised loop (measured: a quarter of a training step).
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
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=eps)
        self.act = activation(act)

        self.full_precision = groups > 1 and stride > 1

    def forward(self, x: Tensor) -> Tensor:
        if self.full_precision and x.dtype == torch.bfloat16:
            with torch.autocast(x.device.type, enabled=False):
                return self._forward(x.float()).to(x.dtype)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        if self.norm.training:
            return self.act(self.norm(conv(x)))
        kernel, bias = self.folded()
        return self.act(functional.conv2d(x, kernel, bias, conv.stride, conv.padding, 1, conv.groups))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return kernel (O, I/groups, k, k) and bias (O,) of convolution and normalisation in one."""
        norm = self.norm
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return self.conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class InvertedResidual(nn.Module):
    """MobileNetV2 bottleneck: 1x1 expansion (absent where ``expand`` is 1), depthwise 3x3, linear 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = ConvNormAct(inputs, hidden) if expand != 1 else nn.Identity()
        self.depthwise = ConvNormAct(hidden, hidden, 3, stride, groups=hidden)
        self.project = ConvNormAct(hidden, outputs, act="linear")
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class SqueezeExcite(nn.Module):
    """Channel attention: mean over the map, biased 1x1 to ``hidden``, swish, biased 1x1, sigmoid."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(functional.silu(self.reduce(mean))))


def upsample2(x: Tensor) -> Tensor:
    """Double height and width, nearest neighbour."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample2(x: Tensor) -> Tensor:
    """Halve height and width, maximum of each 2x2 square."""
    return functional.max_pool2d(x, 2)
