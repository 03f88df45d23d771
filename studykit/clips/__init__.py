"""Cells become clips, here or on a cluster."""
