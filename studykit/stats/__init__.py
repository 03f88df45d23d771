"""Statistics of ratings and metrics: what was found, how sure it is, and how it was computed.

Each function takes the ratings table and returns a :class:`Result`, which carries its method in
words; docs/statistics.md explains them and shows what their intervals cover in simulations.

- ``table``: what is read: the ratings, checked; ``result``: what is handed back.
- ``scores``: mean scores of any groups of clips; ``intervals``: the intervals of a mean.
- ``comparison``: tests within raters, of all conditions and of pairs, and Holm's correction.
- ``model``: the mixed model of a criterion; ``reml``: how such a model is fitted and tested.
- ``paired``: strengths from paired comparisons.
- ``agreement``: how far raters agree.
- ``correlation``: criteria with each other, metrics with criteria, over clips.
- ``verdicts``: what may be said: verdicts by a rule, and warnings.
- ``analysis``: all of these for one study.
- ``power``: how many raters a study needs, found before anybody is asked.
"""

from studykit.stats.agreement import (
    agreement as agreement,
    intraclass_correlation as intraclass_correlation,
    krippendorff_alpha as krippendorff_alpha,
)
from studykit.stats.analysis import Analysis as Analysis, analyse as analyse
from studykit.stats.comparison import friedman as friedman, pairwise as pairwise
from studykit.stats.correlation import (
    correlate_criteria as correlate_criteria,
    correlate_metrics as correlate_metrics,
)
from studykit.stats.crossed import Answers as Answers, contrasts as contrasts
from studykit.stats.findings import answers_of as answers_of, findings as findings
from studykit.stats.model import MixedModel as MixedModel, mixed_model as mixed_model
from studykit.stats.paired import bradley_terry as bradley_terry
from studykit.stats.result import Result as Result
from studykit.stats.scores import mean_scores as mean_scores
from studykit.stats.table import CONDITION_COLUMNS as CONDITION_COLUMNS
from studykit.stats.verdicts import (
    VERDICTS as VERDICTS,
    VerdictRule as VerdictRule,
    verdicts as verdicts,
    warnings_of as warnings_of,
)
from studykit.study.wording import OVERALL as OVERALL
