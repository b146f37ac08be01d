# SPDX-License-Identifier: Apache-2.0
"""What this computer is: power, processor, libraries."""
