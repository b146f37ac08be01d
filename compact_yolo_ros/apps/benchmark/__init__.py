# SPDX-License-Identifier: Apache-2.0
"""The command ``benchmark``: speed and power of models and of the node on this machine."""
