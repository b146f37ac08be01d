# SPDX-License-Identifier: Apache-2.0
"""Evaluating detectors on recordings (rosbag2), without a running ROS."""
