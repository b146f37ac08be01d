# SPDX-License-Identifier: Apache-2.0
"""Reading rosbag2 recordings without ROS."""
