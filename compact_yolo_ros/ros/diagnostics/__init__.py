# SPDX-License-Identifier: Apache-2.0
"""What the node knows about its own work, and how it tells /diagnostics."""
