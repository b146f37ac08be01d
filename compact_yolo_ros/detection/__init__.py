# SPDX-License-Identifier: Apache-2.0
"""Detections, and the detector that makes them of an image."""
