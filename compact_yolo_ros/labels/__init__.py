# SPDX-License-Identifier: Apache-2.0
"""What a labelled picture shows, and one reader for each format of labels."""
