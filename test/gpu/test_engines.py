# SPDX-License-Identifier: Apache-2.0
"""Every engine is built, computes in what was asked for, and answers as the CPU does."""

from __future__ import annotations

from importlib.util import find_spec
from time import perf_counter
from types import SimpleNamespace

import pytest
from gpu_builds import Builds, Case, in_order, shipped_cases
from gpu_report import GpuReport, is_double

from compact_yolo_ros.backends import Opened, open_backend
from compact_yolo_ros.backends.agreement import TOLERANCES, Agreement
from compact_yolo_ros.backends.comparison import compare_on_samples
from compact_yolo_ros.backends.options import DEFAULT_MODEL
from compact_yolo_ros.backends.tensorrt.run import open_tensorrt

if find_spec("tensorrt") is None:
    pytest.skip("TensorRT is not installed here", allow_module_level=True)

FIRST = (DEFAULT_MODEL, f"{DEFAULT_MODEL}_int8")
CASES = list(in_order(shipped_cases(), DEFAULT_MODEL))


def rank_of(case: Case) -> int:
    """The default model comes first, other sizes last."""
    if case.size != case.file.card.own_size:
        return 7
    return 0 if case.file.card.name in FIRST else 4


@pytest.mark.parametrize(
    ("case", "rank"), [pytest.param(case, rank_of(case), id=str(case)) for case in CASES]
)
def test_an_engine_is_built_and_answers_as_the_cpu(
    case: Case, rank: int, on_gpu: SimpleNamespace, report: GpuReport, builds: Builds
) -> None:
    model, options = case.file, case.options(on_gpu.engines)
    builds.finish(case)
    opened = open_tensorrt(model, options, build=False)
    if not isinstance(opened, Opened):
        report.add("Not reached", test=f"engine of {case}")
        pytest.skip(f"not reached: {opened.reason}")
    found = opened.backend.precision
    agreement = agreement_with_cpu(opened, case)
    opened.backend.close()
    reopening = perf_counter()
    again = open_tensorrt(model, options, build=False)
    opened_again = perf_counter()
    assert isinstance(again, Opened), "the engine was not found in the cache"
    again.backend.close()
    report.add(
        "Engines",
        model=model.card.name,
        precision=case.precision,
        size=str(case.size),
        found=found,
        **{"build s": builds.seconds.get(case), "reopened s": opened_again - reopening},
        candidates=f"{agreement.agreeing} of {agreement.compared}",
        pixels=agreement.pixels,
        score=agreement.score,
    )
    # a double quantises what the file says, and no more
    assert found == case.precision or is_double(on_gpu.device), opened.warning
    assert agreement.suffices(TOLERANCES[case.precision]), agreement


def agreement_with_cpu(opened: Opened, case: Case) -> Agreement:
    """Compare the answers to real and to generated pictures with those of ONNX Runtime."""
    options = case.options("").change(backend="onnxruntime", precision="auto")
    reference = open_backend(options).backend
    found = compare_on_samples(opened.backend, reference, TOLERANCES[case.precision])
    reference.close()
    return found
