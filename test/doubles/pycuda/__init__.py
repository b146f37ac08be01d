# SPDX-License-Identifier: Apache-2.0
"""A TEST DOUBLE of pycuda, not pycuda: see ``driver``."""
