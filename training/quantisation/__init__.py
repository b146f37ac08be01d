# SPDX-License-Identifier: Apache-2.0
"""INT8: calibration, Q/DQ graphs, and quantisation-aware training."""
