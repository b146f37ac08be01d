# SPDX-License-Identifier: Apache-2.0
"""Studies of the papers, repeated: each module is one of them."""
