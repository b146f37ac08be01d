# SPDX-License-Identifier: Apache-2.0
"""The commands, a folder or a file each."""

from compact_yolo_ros.support.termination import end_quietly

end_quietly()  # before what a command imports
