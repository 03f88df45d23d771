"""What a study file says, checked with its line."""
