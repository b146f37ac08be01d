# SPDX-License-Identifier: Apache-2.0
"""A double of foxglove_msgs: see msg.py."""
