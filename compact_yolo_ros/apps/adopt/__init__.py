# SPDX-License-Identifier: Apache-2.0
"""The command ``adopt``: a model file of this package from an ONNX export of another project."""
