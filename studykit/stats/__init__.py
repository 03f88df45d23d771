"""Statistics of ratings and metrics: what was found, how sure it is, and how it was computed.

Each function takes the ratings table and returns a :class:`Result`, which carries its method in
words; docs/statistics.md explains them and shows what their intervals cover in simulations.
"""

from studykit.stats.agreement import agreement, intraclass_correlation, krippendorff_alpha
from studykit.stats.analysis import Analysis, analyse
from studykit.stats.claims import VERDICTS, VerdictRule, verdicts, warnings_of
from studykit.stats.comparison import friedman, pairwise
from studykit.stats.correlation import correlate_criteria, correlate_metrics
from studykit.stats.model import MixedModel, mixed_model
from studykit.stats.paired import bradley_terry
from studykit.stats.scores import clip_scores, mean_scores
from studykit.stats.table import CONDITION, CRITERIA, OVERALL, Result

__all__ = [
    "CONDITION",
    "CRITERIA",
    "OVERALL",
    "VERDICTS",
    "Analysis",
    "MixedModel",
    "Result",
    "VerdictRule",
    "agreement",
    "analyse",
    "bradley_terry",
    "clip_scores",
    "correlate_criteria",
    "correlate_metrics",
    "friedman",
    "intraclass_correlation",
    "krippendorff_alpha",
    "mean_scores",
    "mixed_model",
    "pairwise",
    "verdicts",
    "warnings_of",
]
