# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU: an optional backend, faster than ONNX Runtime on some x86 machines."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from compact_yolo_ros.backends import compiled_networks
from compact_yolo_ros.backends.backend import OUTPUTS, BackendError, Candidates, Opened
from compact_yolo_ros.backends.compiled_networks import NetworkKey, network_key
from compact_yolo_ros.backends.cpu import CpuBackend, default_threads
from compact_yolo_ros.backends.info import BackendInfo
from compact_yolo_ros.backends.libraries import Library, imported
from compact_yolo_ros.backends.warm_up import warm_up
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import ModelFile

if TYPE_CHECKING:
    from compact_yolo_ros.backends.options import RunOptions

CAPABILITIES = {"fp16": "FP16", "bf16": "BF16"}
"""What OpenVINO calls the ability of a processor to compute in a precision. It also takes the hint
of one that it only emulates, slower than FP32: bfloat16 wherever there is AVX-512."""

OPENVINO = Library(
    "OpenVINO", "openvino", "openvino", "the backend openvino, faster on some x86 CPUs"
)


class OpenVinoBackend(CpuBackend):
    """Runs the network with OpenVINO's CPU plugin; see ``Backend`` for the attributes."""

    name = "openvino"

    def __init__(self, model: ModelFile, options: RunOptions) -> None:
        """Open the model and run it at every size.

        Args:
            model: the file.
            options: resolved.

        Raises:
            BackendError: OpenVINO is missing or refuses the model, or the processor does not
                compute in the precision.
        """
        openvino = imported(OPENVINO)
        super().__init__(model, options)
        computed = _computed(model, options)
        if model.card.precision == "fp16" and computed == "f32":
            self.precision = "fp32"
        if computed != "f32" and CAPABILITIES[self.precision] not in _capabilities():
            raise BackendError(
                f"this processor does not compute in {self.precision}", "set precision to auto"
            )
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            # By default OpenVINO silently computes in bfloat16 or float16 where the CPU can.
            "INFERENCE_PRECISION_HINT": computed,
            # Pinned threads of two processes share a core, and leave another one idle.
            "ENABLE_CPU_PINNING": False,
        }
        batch = 1 if options.batch == 1 else openvino.Dimension(1, options.batch)
        try:
            self._networks = {}
            found = set()
            for size in options.sizes:
                shape = openvino.PartialShape([batch, *size.shape, 3])
                kept = _key(model, options, size) if options.batch == 1 else None
                compiled = _compiled(model, shape, properties, kept)
                found.add(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
                runner = compiled.create_infer_request()
                pixels = np.zeros((options.batch, *size.shape, 3), np.uint8)
                # The tensors look at ``pixels``: no copy on the way in.
                tensors = [
                    openvino.Tensor(pixels[:images], shared_memory=True)
                    for images in range(1, options.batch + 1)
                ]
                self._networks[size] = (runner, pixels, tensors)
            self.sizes = warm_up(self, options)
        except Exception as error:  # OpenVINO raises RuntimeError and pybind11's own types
            raise BackendError(f"OpenVINO cannot run {model.path}: {_last_line(error)}") from None
        if found != {computed}:
            raise BackendError(
                f"OpenVINO computes in {' and '.join(sorted(found))}, not in {computed}",
                "set precision to auto",
            )

    def run(self, images: int = 1) -> Candidates:
        """Run the network on the first ``images`` of ``input``."""
        request, pixels = self._request, self._tensors[images - 1]
        try:
            request.set_input_tensor(pixels)
            request.infer()
        except Exception as error:  # see above
            raise BackendError(f"the run failed: {_last_line(error)}") from None
        boxes, scores, labels = (request.get_tensor(name).data for name in OUTPUTS)
        return boxes, scores, labels

    def resize(self, size: Size) -> None:
        """Run at another of its ``sizes`` from now on."""
        self._request, self.input, self._tensors = self._networks[size]

    def close(self) -> None:
        """Release the networks."""
        for name in ("_request", "_tensors", "_networks"):
            vars(self).pop(name, None)


def _computed(model: ModelFile, options: RunOptions) -> str:
    """OpenVINO's name of the type to compute in; what is quantised stays so.

    An FP16 file is computed in FP16 if the processor does that, else in FP32.
    """
    wanted, held = options.precision, model.card.precision
    if wanted == "fp32" or (wanted == held and held != "fp16"):
        return "f32"
    if wanted == held and CAPABILITIES[held] not in _capabilities():
        return "f32"
    return {"fp16": "f16"}.get(wanted, wanted)


def _key(model: ModelFile, options: RunOptions, size: Size) -> NetworkKey:
    threads = options.threads or default_threads()
    return network_key(model, OPENVINO, _computed(model, options), threads, size)


def _compiled(
    model: ModelFile, shape: Any, properties: dict[str, Any], kept: NetworkKey | None
) -> Any:
    """The network as it was compiled earlier, else compiled now, and kept if it has a key."""
    core = _core()
    if kept and (network := compiled_networks.load(kept)):
        with suppress(Exception):  # one that OpenVINO refuses is made anew
            return core.import_model(BytesIO(network), "CPU", properties)
    read = core.read_model(str(model.path))
    read.reshape({"images": shape})
    compiled = core.compile_model(read, "CPU", properties)
    if kept:
        with suppress(Exception):  # as above; it runs all the same
            exported = BytesIO()
            compiled.export_model(exported)
            if model.sha256 == kept.onnx_sha256:  # else another file may have been read
                compiled_networks.store(kept, exported.getvalue())
    return compiled


def _last_line(error: Exception) -> str:
    """What is wrong: the lines before it say in which source files of OpenVINO it was found."""
    return str(error).strip().rpartition("\n")[2]


@cache
def _core() -> Any:
    """Return the one core of the process.

    The CPU plugin of a core sets the stack on which signals are handled, and frees it when the
    core goes. Of two cores, the second would bring back the freed stack of the first: the next
    signal, SIGINT or SIGTERM for instance, would then be a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _capabilities() -> list[str]:
    found: list[str] = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return found


def _open(model: ModelFile, options: RunOptions, build: bool) -> Opened:
    return Opened(OpenVinoBackend(model, options))


INFO = BackendInfo(
    name=OpenVinoBackend.name,
    title=OPENVINO.name,
    runs_on="CPU",
    open=_open,
    libraries=(OPENVINO,),
    converts=tuple(CAPABILITIES),
    widens=("fp32", "bf16"),
)
