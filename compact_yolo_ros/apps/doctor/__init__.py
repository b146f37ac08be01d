# SPDX-License-Identifier: Apache-2.0
"""The command ``doctor``: one file for each subject that it examines.

A probe is a function that yields findings. It needs neither ROS nor a GPU, and runs in its own
process (``isolation``), so that the others still report whatever happens in it.
"""
