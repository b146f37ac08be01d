# SPDX-License-Identifier: Apache-2.0
"""Labels from a teacher: a larger detector draws boxes that a smaller one learns from."""
