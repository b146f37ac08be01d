# SPDX-License-Identifier: Apache-2.0
"""What a labelled image shows, and one reader for each format of labels.

Evaluation, recordings and training share one type (``ground_truth.GroundTruth``), one reader for
each format, and one verdict on bad labels. A reader raises ``LabelError`` for an image as a whole,
since an object that lost its box would count as background. Training leaves such an image out and
counts it; the evaluation of a recording ends with the same sentence, because figures from a part of
the labels would mislead.
"""
