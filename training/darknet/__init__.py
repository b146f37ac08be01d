# SPDX-License-Identifier: Apache-2.0
"""Reading networks and weights in the formats of darknet (Redmon; Bochkovskiy's continuation)."""
