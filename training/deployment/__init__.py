# SPDX-License-Identifier: Apache-2.0
"""From a trained detector to the graph that is exported."""
