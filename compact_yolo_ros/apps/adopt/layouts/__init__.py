# SPDX-License-Identifier: Apache-2.0
"""The layouts of outputs that are known, one file for each kind of them."""
