# SPDX-License-Identifier: Apache-2.0
"""TensorRT: building, inspecting, caching and running engines."""
