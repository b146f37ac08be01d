# SPDX-License-Identifier: Apache-2.0
"""Model files: their card, where they are found, their input sizes."""
