# SPDX-License-Identifier: Apache-2.0
"""The commands, a folder or a file each."""
