# SPDX-License-Identifier: Apache-2.0
"""What a processor with bfloat16 units computes, for ONNX Runtime on any machine.

Such units multiply values of 8 significant bits and add in float32. So the inputs and weights of
every convolution are rounded to bfloat16, and everything else stays as it is.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from compact_yolo_ros.model.store import find_model


def write_rounding(path: Path, name: str) -> str:
    """Write the model ``name`` with convolutions in bfloat16; return the path."""
    model = onnx.load(find_model(name).path)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            for place in (0, 1):
                nodes += _rounded(node, place)
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.save(model, path)
    return str(path)


def _rounded(node: onnx.NodeProto, place: int) -> list[onnx.NodeProto]:
    """Casts to bfloat16 and back before an input of a node."""
    source = node.input[place]
    half, back = (f"rounded/{node.output[0]}/{place}/{kind}" for kind in ("bfloat16", "float"))
    node.input[place] = back
    return [
        helper.make_node("Cast", [source], [half], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", [half], [back], to=TensorProto.FLOAT),
    ]
