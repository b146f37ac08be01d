# SPDX-License-Identifier: Apache-2.0
"""Measuring models and the node on this machine; the command is ``tools/benchmark.py``."""
