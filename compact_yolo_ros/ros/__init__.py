# SPDX-License-Identifier: Apache-2.0
"""ROS 2 nodes: they subscribe, call, convert and publish."""
