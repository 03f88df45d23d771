"""Studies of one-shot face animation: inputs, clips, ratings, metrics, report."""

__version__ = "0.1.0"
