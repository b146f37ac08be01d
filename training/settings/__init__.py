# SPDX-License-Identifier: Apache-2.0
"""Settings of recipes and detectors: dataclasses from plain values, and back."""
