"""Ratings: the design of sessions, the sessions themselves, their store, and who rated well.

The ratings table, which the store exports and statistics read, has one row a rater, trial and
criterion. Only the role "rating" enters scores; "repeat" tells how a rater agrees with itself, and
"training", "reference" and "gold" serve screening.
"""

RATING_COLUMNS = (
    "study", "rater", "session", "simulated", "trial", "role", "task", "cell", "source",
    "source_type", "driving", "driving_type", "method", "other", "criterion", "value",
    "expected_low", "expected_high", "seconds", "watched", "answered_at", "clip_hash",
    "study_hash",
)  # fmt: skip
ROLES = ("training", "rating", "repeat", "reference", "gold")
TASKS = ("acr", "dcr", "pair")
