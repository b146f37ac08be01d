# SPDX-License-Identifier: Apache-2.0
"""Health, counters and times of the detector node."""
