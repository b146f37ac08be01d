# SPDX-License-Identifier: Apache-2.0
"""Helpers that know nothing about detectors: files, error messages, signals, arguments."""
