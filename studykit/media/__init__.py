"""Pixels in and out: video files, pictures, faces, squares, contact sheets."""
