# SPDX-License-Identifier: Apache-2.0
"""Every engine is built, computes in what was asked for, and answers as the CPU does."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product
from time import perf_counter
from types import SimpleNamespace

import pytest
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Opened, RunOptions, open_backend
from compact_yolo_ros.backends.agreement import TOLERANCES, Agreement, compare
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.model.store import find_model, model_names
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.pixels.sample_images import sample_images

DEFAULT = "yolo_ret_m075"


if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)


def cases() -> list[tuple[str, str, Size]]:
    """Model, precision and size; what is used most comes first, in case time runs out."""
    ranked = []
    for name in model_names():
        card = find_model(name).card
        sizes = [Size.square(int(side)) for side in card.ap] or [card.own_size]
        precisions = ("fp16", "fp32") if card.precision == "fp32" else (card.precision,)
        for precision, size in product(precisions, sizes):
            rank = size != card.own_size, not name.startswith(DEFAULT), precision == "fp32"
            ranked.append((rank, (name, precision, size)))
    return [case for _, case in sorted(ranked)]


@pytest.mark.parametrize(("name", "precision", "size"), cases(), ids=str)
def test_an_engine_is_built_and_answers_as_the_cpu(
    name: str, precision: str, size: Size, on_gpu: SimpleNamespace, report: GpuReport
) -> None:
    model = find_model(name)
    options = RunOptions(
        name,
        backend="tensorrt",
        precision=precision,
        input_sizes=(size,),
        engine_cache=on_gpu.engines,
    ).resolved(model.card)
    began = perf_counter()
    opened = open_tensorrt(model, options)
    built = perf_counter()
    assert isinstance(opened, Opened)
    found = opened.backend.precision
    agreement = agreement_with_cpu(opened, options)
    opened.backend.close()
    reopening = perf_counter()
    again = open_tensorrt(model, options, build=False)
    opened_again = perf_counter()
    assert isinstance(again, Opened), "the engine was not found in the cache"
    again.backend.close()
    report.add(
        "Engines",
        model=name,
        precision=precision,
        size=str(size),
        found=found,
        **{"build s": built - began, "reopened s": opened_again - reopening},
        candidates=f"{agreement.agreeing} of {agreement.compared}",
        pixels=agreement.pixels,
        score=agreement.score,
    )
    # a double quantises what the file says, and no more
    assert found == precision or is_double(on_gpu.device), opened.warning
    assert agreement.suffices(TOLERANCES[precision]), agreement


def agreement_with_cpu(opened: Opened, options: RunOptions) -> Agreement:
    """Compare the answers to real and to generated pictures with those of ONNX Runtime."""
    backend = opened.backend
    file = options.change(backend="onnxruntime", precision="auto")
    reference = open_backend(file).backend
    total = Agreement()
    for image in sample_images():
        Letterbox(reference.input[0], backend.card.resize)(image, "bgr")
        backend.input[0] = reference.input[0]
        total += compare(backend.run(), reference.run(), TOLERANCES[options.precision])
    reference.close()
    return total
