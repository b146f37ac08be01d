# SPDX-License-Identifier: Apache-2.0
"""An export whose weights are not rounded, to compare it with PyTorch to the last digits."""

from __future__ import annotations

from pathlib import Path

import onnx
from torch import nn

from compact_yolo_ros.model.card import METADATA_KEY, ModelCard
from training.deployment.onnx_export import deployed_graph, write


def export_exactly(detector: nn.Module, path: Path, card: ModelCard) -> None:
    """Write the deployed graph of ``detector`` with its card, all weights in float32."""
    model = deployed_graph(detector)
    onnx.helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    write(model, path)
