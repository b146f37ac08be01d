# SPDX-License-Identifier: Apache-2.0
"""How good detections are, measured against labelled images; for data sets and bags alike.

``evaluate`` takes all images at once; an ``Evaluator`` takes one after another, and can be merged
with those of other processes. ``report.write_report`` writes a page with the result.
"""

from __future__ import annotations

from compact_yolo_ros.evaluation.class_mapping import ClassMapping
from compact_yolo_ros.evaluation.evaluator import Evaluator, evaluate
from compact_yolo_ros.evaluation.result import Evaluation, ImageErrors

__all__ = ["ClassMapping", "Evaluation", "Evaluator", "ImageErrors", "evaluate"]
