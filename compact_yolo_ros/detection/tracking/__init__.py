# SPDX-License-Identifier: Apache-2.0
"""Tracks: which detections of successive images are of one object."""
