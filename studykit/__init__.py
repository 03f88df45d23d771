"""Studies of one-shot face animation: inputs, clips, ratings, metrics, report."""

__version__ = "0.1.0"

DISTRIBUTION = "face-studykit"  # the name on the package index; "studykit" there is somebody else's
