# SPDX-License-Identifier: Apache-2.0
"""Detectors as PyTorch modules: one file per family, shared building blocks, one registry."""
