# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import asdict

import pytest

from training.detectors.loss_settings import LossSettings
from training.detectors.registry import DETECTORS


def test_detectors_with_the_region_loss_have_classes_that_exclude_each_other():
    for name, spec in DETECTORS.items():
        assert (spec.loss.kind == "region") == spec.config.grid.softmax, name


def test_settings_survive_plain_values():
    for spec in DETECTORS.values():
        assert LossSettings(**asdict(spec.loss)) == spec.loss


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"kind": "focal"}, "kind: 'focal' is unknown, choose one of yolo, sse, region"),
        ({"box": "iou"}, "box: 'iou' is unknown, choose one of giou, ciou"),
        ({"ignore_iou": 1.5}, "ignore_iou: 1.5 must be from 0 to 1"),
        ({"also_above": -0.1}, "also_above: -0.1 must be from 0 to 1"),
        ({"box_weight": -1}, "box_weight: -1 must be 0 or more"),
        ({"box_weight": float("nan")}, "box_weight: nan must be 0 or more"),
        ({"box_weight": float("inf")}, "box_weight: inf must be 0 or more"),
        ({"box_weight": "heavy"}, "box_weight: 'heavy' is not a number"),
        ({"classes_weight": None}, "classes_weight: None is not a number"),
        ({"top_k": 2.5}, "top_k: 2.5 is not a whole number"),
        ({"top_k": 0}, "top_k: 0 must be 1 or more"),
        ({"rescore": 1}, "rescore: 1 is not true or false"),
        ({"gradient": "darknet"}, "gradient: darknet goes with kind yolo and box ciou only"),
        ({"assignment": "task_aligned", "also_above": 0.3}, "also_above: goes with"),
        ({"assignment": "task_aligned", "rescore": True}, "rescore: goes with"),
        ({"anchor_pull": 12800}, "anchor_pull: goes with kind region"),
        ({"kind": "sse", "box": "ciou"}, "box: goes with kind yolo only"),
        ({"kind": "region", "box": "ciou"}, "box: goes with kind yolo only"),
        ({"top_k": 3}, "top_k: goes with assignment task_aligned only"),
        ({"alpha": 0.5}, "alpha: goes with assignment task_aligned only"),
        ({"beta": 2}, "beta: goes with assignment task_aligned only"),
    ],
)
def test_invalid_settings_are_refused_in_one_sentence(values, sentence):
    with pytest.raises(ValueError) as raised:
        LossSettings(**values)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
