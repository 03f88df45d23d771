"""Trains the First Order Motion Model on rendered faces (``python -m studykit.training``)."""
