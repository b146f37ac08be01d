# SPDX-License-Identifier: Apache-2.0
"""Nodes that play videos and recordings, and one that records."""
