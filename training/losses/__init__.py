# SPDX-License-Identifier: Apache-2.0
"""Which prediction answers for which object, and what its errors cost."""
