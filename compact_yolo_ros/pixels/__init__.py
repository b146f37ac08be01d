# SPDX-License-Identifier: Apache-2.0
"""Images before and after the network: decoding, letterbox, video files."""
