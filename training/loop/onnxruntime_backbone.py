# SPDX-License-Identifier: Apache-2.0
"""The features of a frozen backbone from ONNX Runtime, which is faster on CPUs than PyTorch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import onnxruntime
import torch
from torch import Tensor, nn

from training.deployment.onnx_export import OPSET, fused
from training.detectors.interface import Backbone, Detector, as_module
from training.quantisation.quantisation_aware import is_prepared

SAMPLE = (1, 64, 96, 3)


class OnnxRuntimeBackbone:
    """A backbone in ONNX Runtime, its batch norms folded into the convolutions.

    The weights are those at construction. The same images and number of threads give the same
    float32 values in every run.

    Args:
        backbone: of a detector.
        threads: of ONNX Runtime.
    """

    def __init__(self, backbone: Backbone, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # PyTorch computes between two calls: threads that wait here must not occupy its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            _graph(backbone), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Compute the features of a batch.

        Args:
            images: (N, H, W, 3) uint8, RGB.

        Returns:
            The backbone's maps (N, C, h, w) in channels-last memory; float32, or the type of an
            active autocast.
        """
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else torch.float32
        maps = self._session.run(None, {"images": images.numpy()})
        return [torch.from_numpy(map_).permute(0, 3, 1, 2).to(dtype) for map_ in maps]


@contextmanager
def features_from(runtime: OnnxRuntimeBackbone | None, detector: Detector) -> Iterator[None]:
    """Make a detector compute the features of uint8 images in ONNX Runtime, within the context.

    Float images, as those of self-adversarial training, go through the PyTorch module.

    Args:
        runtime: the backbone in ONNX Runtime; None: nothing changes.
        detector: whose backbone it is.
    """
    if runtime is None:
        yield
        return
    backbone = as_module(detector.backbone)
    eager = backbone.forward

    def forward(images: Tensor) -> Sequence[Tensor]:
        features: Sequence[Tensor] = (runtime if images.dtype == torch.uint8 else eager)(images)
        return features

    # An attribute of the instance goes before the method of its class.
    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward


def runs_outside(detector: Detector) -> bool:
    """Return whether ONNX Runtime can compute the features: on a CPU, and none is trained."""
    backbone = detector.backbone
    trained = any(m.training for m in backbone.modules()) or any(
        p.requires_grad for p in backbone.parameters()
    )
    on_cpu = all(p.device.type == "cpu" for p in backbone.parameters())
    return on_cpu and not trained and not is_prepared(detector)


class _Features(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = as_module(backbone)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(images.permute(0, 3, 1, 2).float() * (1 / 255))
        return tuple(map_.permute(0, 2, 3, 1) for map_ in maps)


def _graph(backbone: Backbone) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        # As in onnx_export: about the newer exporter, and shapes that are read as numbers.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Features(fused(backbone)).eval(),
            (torch.zeros(SAMPLE, dtype=torch.uint8),),
            file,  # type: ignore[arg-type]  # the exporter without dynamo writes to open files too
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch", 1: "height", 2: "width"}},
        )
    return file.getvalue()
