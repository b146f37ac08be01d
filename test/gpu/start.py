# SPDX-License-Identifier: Apache-2.0
"""Run the tests on a GPU; say in a sentence that there is none, with an exit code of its own.

    python test/gpu/start.py [words for pytest]

pytest itself would leave all tests out, and call that a success.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from compact_yolo_ros.backends import BackendError  # noqa: E402
from compact_yolo_ros.backends.tensorrt.cuda import gpu  # noqa: E402
from compact_yolo_ros.backends.tensorrt.library import library  # noqa: E402

NO_GPU = 10
"""Exit code where TensorRT, pycuda or a GPU is missing; pytest itself has 0 to 5."""


def main() -> int:
    """Return the exit code."""
    try:
        trt, device = library(), gpu()
    except BackendError as error:
        print(f"No test was run, there is no GPU to test on: {error}", file=sys.stderr)
        return NO_GPU
    print(f"TensorRT {trt.__version__} on {device.name}", flush=True)
    import pytest

    words = ["-v", "-p", "no:cacheprovider", *sys.argv[1:], str(Path(__file__).parent)]
    return int(pytest.main(words))


if __name__ == "__main__":
    sys.exit(main())
