# The names that `import studykit` offers, for it and for type checkers.
from .clips.animate import animate as animate
from .clips.check import check_study as check_study
from .errors import StudyError as StudyError
from .methods import create_method as create_method, register as register
from .pages.widget import animate_page as animate_page, rating_page as rating_page
from .report import compare_studies as compare_studies, load_results as load_results
from .run import archive_study as archive_study, run_study as run_study
from .stats import analyse as analyse, mean_scores as mean_scores
from .stimuli import write_stimuli as write_stimuli
from .stimuli.new_study import new_study as new_study
from .study.file import load_study as load_study

__version__: str
DISTRIBUTION: str
