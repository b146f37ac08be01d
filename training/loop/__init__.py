# SPDX-License-Identifier: Apache-2.0
"""Training runs: recipe, optimizer, checkpoints, epochs."""
