"""Ratings: the design of sessions, the sessions themselves, their store, and who rated well.

The ratings table, which the store exports and statistics read, has one row a rater, trial and
criterion. Only the role "rating" enters scores; "repeat" shows how a rater agrees with itself, and
"training", "reference" and "gold" serve screening.
"""

RATING_COLUMNS = (
    "study", "rater", "session", "simulated", "trial", "role", "task", "cell", "source",
    "source_type", "driving", "driving_type", "method", "other", "criterion", "value",
    "expected_low", "expected_high", "seconds", "watched", "answered_at", "clip_hash",
    "study_hash",
)  # fmt: skip
# Of the columns that are no text; a time may be missing of what was collected elsewhere.
RATING_TYPES = {
    "simulated": "bool",
    "trial": "int64",
    "value": "int64",
    "expected_low": "Int64",
    "expected_high": "Int64",
    "seconds": "float64",
    "watched": "float64",
    "answered_at": "datetime64[us, UTC]",
}
