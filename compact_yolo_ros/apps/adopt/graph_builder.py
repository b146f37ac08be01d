# SPDX-License-Identifier: Apache-2.0
"""Adds operators to an ONNX graph, in the form that its version of the operators wants.

Only operators that ONNX Runtime of the supported years and TensorRT 8.5 have are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from compact_yolo_ros.model.sizes import Size

if TYPE_CHECKING:
    import onnx

PREFIX = "adopted/"
"""How the names of what is added begin."""


class GraphBuilder:
    """Collects nodes and constants. Tensors are called by their names.

    Attributes:
        opset: version of the operators, 13 or later.
        width: of the network input in pixels, a whole number.
        height: the same.
        nodes: in the order of the computation.
        constants: what they read.
    """

    def __init__(self, opset: int, size: Size | None) -> None:
        """Build for one size of the input, or for all that ``images`` may have."""
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        if size:
            self.height, self.width = (self.number(side) for side in size.shape)
        else:
            shape = self.op("Shape", "images")
            self.height, self.width = (
                self.op("Gather", shape, self.number(axis), axis=0) for axis in (1, 2)
            )

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add an operator; return the name of its output."""
        from onnx import helper

        name = f"{PREFIX}{kind}_{len(self.nodes)}"
        output = output or name
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name, **attributes))
        return output

    def constant(self, values: ArrayLike, dtype: Any = np.float32) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f"{PREFIX}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def whole(self, *values: int) -> str:
        """Add a vector of whole numbers."""
        return self.constant(values, np.int64)

    def number(self, value: int) -> str:
        """Add a whole number."""
        return self.constant(value, np.int64)

    def cast(self, tensor: str, dtype: Any) -> str:
        """Convert to another type."""
        return self.op("Cast", tensor, to=_onnx_type(dtype))

    def slice(self, tensor: str, begin: int, end: int, axis: int) -> str:
        """Take ``[begin:end]`` along an axis; ``end`` may be beyond the last."""
        ends = self.whole(min(end, 2**31 - 1))
        return self.op("Slice", tensor, self.whole(begin), ends, self.whole(axis))

    def column(self, tensor: str, number: int) -> str:
        """Take one place of the last of three axes, without that axis."""
        return self.op("Gather", tensor, self.number(number), axis=2)

    def greatest(self, tensor: str, axis: int) -> str:
        """Take the largest along an axis, without that axis."""
        if self.opset >= 18:
            return self.op("ReduceMax", tensor, self.whole(axis), keepdims=0)
        return self.op("ReduceMax", tensor, axes=[axis], keepdims=0)

    def with_axis(self, tensor: str, axis: int) -> str:
        """Add an axis of length 1."""
        return self.op("Unsqueeze", tensor, self.whole(axis))

    def best(self, tensor: str, count: int) -> tuple[str, str]:
        """Take the ``count`` largest of each row (N, A), in descending order, and their places."""
        values = self.op("TopK", tensor, self.whole(count), axis=1)
        places = f"{values}_places"
        self.nodes[-1].output.append(places)
        return values, places

    def reshape(self, tensor: str, *shape: int) -> str:
        """Give another shape; 0 keeps a length, -1 is what is left."""
        return self.op("Reshape", tensor, self.whole(*shape))

    def join(self, tensors: Sequence[str], axis: int) -> str:
        """Put tensors beside each other along an axis."""
        return self.op("Concat", *tensors, axis=axis) if len(tensors) > 1 else tensors[0]


def _onnx_type(dtype: Any) -> int:
    """The number that ONNX has for a type of numpy."""
    from onnx import TensorProto

    return {
        "float32": TensorProto.FLOAT,
        "float16": TensorProto.FLOAT16,
        "int64": TensorProto.INT64,
        "int32": TensorProto.INT32,
    }[np.dtype(dtype).name]
