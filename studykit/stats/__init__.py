"""Statistics of ratings and metrics: what was found, how sure it is, and how it was computed.

Each function takes the ratings table and returns a :class:`Result`, which carries its method in
words; docs/statistics.md explains them and shows what their intervals cover in simulations.

- ``table``: what is read: the ratings, checked; ``result``: what is handed back.
- ``scores``: mean scores of any groups of clips; ``intervals``: the intervals of a mean.
- ``crossed``: contrasts of methods and types that speak for raters and stimuli like these.
- ``comparison``: tests within raters that speak for these clips alone, and Holm's correction.
- ``paired``: strengths from paired comparisons.
- ``agreement``: how raters differ, and what their mean is worth.
- ``correlation``: criteria with each other, metrics with criteria.
- ``jackknife``: how sure a statistic is whose data share raters, sources and drivings.
- ``verdicts``: verdicts by a rule, and warnings.
- ``findings``: every claim of a study, a row each; ``analysis``: everything for one study.
- ``preregistration``: the plan that was frozen, and what was done otherwise.
- ``power``: how many raters a study needs, found before anybody is asked.
"""

from studykit.stats.agreement import (
    Raters as Raters,
    agreement as agreement,
    rater_levels as rater_levels,
)
from studykit.stats.analysis import Analysis as Analysis, analyse as analyse
from studykit.stats.comparison import friedman as friedman, pairwise as pairwise
from studykit.stats.correlation import (
    correlate_criteria as correlate_criteria,
    correlate_metrics as correlate_metrics,
    predict_scores as predict_scores,
)
from studykit.stats.crossed import (
    Answers as Answers,
    answers_of as answers_of,
    contrasts as contrasts,
)
from studykit.stats.findings import (
    CLAIMS as CLAIMS,
    LIKE as LIKE,
    THESE as THESE,
    findings as findings,
)
from studykit.stats.paired import bradley_terry as bradley_terry
from studykit.stats.preregistration import (
    FrozenPlan as FrozenPlan,
    check_plan as check_plan,
    departures as departures,
    is_primary as is_primary,
    outcomes as outcomes,
    read_plan as read_plan,
)
from studykit.stats.result import Result as Result
from studykit.stats.scores import mean_scores as mean_scores
from studykit.stats.table import CONDITION_COLUMNS as CONDITION_COLUMNS
from studykit.stats.verdicts import (
    VERDICTS as VERDICTS,
    VerdictRule as VerdictRule,
    verdicts as verdicts,
    warnings_of as warnings_of,
)
from studykit.study.wording import MEAN as MEAN, OVERALL as OVERALL
