# SPDX-License-Identifier: Apache-2.0
"""Small synthetic data for the tests of training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import draw

from training.data.sample import Sample


@pytest.fixture(autouse=True)
def _one_thread():
    # the machine is shared with other test processes, and threads waiting for each other cost more
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shapes() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(16)]
