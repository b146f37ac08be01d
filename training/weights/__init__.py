# SPDX-License-Identifier: Apache-2.0
"""Starting points: reading foreign checkpoints and narrowing a backbone."""
