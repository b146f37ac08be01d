# SPDX-License-Identifier: Apache-2.0
"""The command ``demo``: a video through real ROS 2, with a live table and pictures."""
