# SPDX-License-Identifier: Apache-2.0
"""All that imports rclpy or a message package."""
