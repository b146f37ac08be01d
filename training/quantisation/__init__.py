# SPDX-License-Identifier: Apache-2.0
"""INT8: calibration, Q/DQ graphs, and fine-tuning with fake quantisation."""
