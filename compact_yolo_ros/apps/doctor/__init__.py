# SPDX-License-Identifier: Apache-2.0
"""What the command ``doctor`` looks at, one file a subject.

A probe is a function that yields findings. It needs neither ROS nor a GPU, and runs in a process of
its own (``isolation``), so that whatever it meets, the others still report.
"""
