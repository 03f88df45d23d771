"""Do the intervals cover and do the tests keep their level? Simulated studies with known truth.

``python docs/coverage.py`` runs them and writes the tables into statistics.md beside it, so that
the page shows what this code does and not what it is hoped to do.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import click
import numpy as np

from studykit import files
from studykit.errors import StudyError
from studykit.ratings.simulate import Effect, SimulationModel, simulate_scores
from studykit.stats.comparison import approximate_p, holm, signed_rank
from studykit.stats.intervals import bootstrap_interval, score_interval, t_interval
from studykit.study.file import TYPES
from studykit.study.wording import CRITERIA

METHODS = ("copy", "fomm", "warp")
RATERS = (15, 24, 40)
SHAPES = {
    "typical": SimulationModel(),
    "at the ceiling": SimulationModel(
        mean=5.3,
        effects=(
            Effect(-0.3, source_type="side"),
            Effect(-0.2, driving_type="side"),
            Effect(-0.1, driving_type="stylised"),
            Effect(-0.1, method="warp"),
        ),
    ),
    "unlike raters": SimulationModel(bias_sd=0.8, spread_sd=0.35),
    "nine steps": SimulationModel(scale=9, mean=6.0, bias_sd=0.8, taste_sd=0.9, noise_sd=1.1),
}
_CONDITIONS = tuple(itertools.product(TYPES, TYPES, METHODS))
_LEVEL = 0.95  # as all intervals have it by default
_RESAMPLES = 999
_BATCH = 250
# Of an approximate p: far above the 0.05 / 12 that the smallest must pass.
_WORTH_COUNTING = 0.025
_COVERAGE_HEADINGS = ("ratings", "true scores", "raters", "condition, t", "condition, bootstrap",
                      "**condition, score**", "of single conditions", "**method, score**",
                      "**method difference, t**")  # fmt: skip
_ALARM_HEADINGS = ("ratings", "raters", "any of 12 method comparisons",
                   "any of 36 condition comparisons", "Friedman's test")  # fmt: skip
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that held the truth, over studies of 3 x 3 types and three methods.

    Attributes
    ----------
    truth : str
        The lowest and the highest true mean score of a condition.
    t, bootstrap, score : float
        Of the mean score of a condition, one rating a rater.
    score_range : (float, float)
        Score interval: the conditions with the lowest and the highest share.
    method : float
        Score interval of a method's mean score, nine ratings a rater.
    difference : float
        t interval of the difference of two methods.
    """

    shape: str
    truth: str
    n_raters: int
    t: float
    bootstrap: float
    score: float
    score_range: tuple[float, float]
    method: float
    difference: float


@dataclass(frozen=True)
class FalseAlarms:
    """Shares of studies without any true effect in which a test found one at the 5 % level.

    Attributes
    ----------
    methods : float
        Any of the 12 comparisons of three methods on four criteria, by Holm.
    conditions : float
        Any of the 36 comparisons of the nine conditions of one method, by Holm.
    friedman : float
        Friedman's test over the 27 conditions.
    """

    shape: str
    n_raters: int
    methods: float
    conditions: float
    friedman: float


def coverage_of(shape: str, n_raters: int, *, studies: int = 2000, seed: int = 0) -> Coverage:
    """Simulate studies and count how often each interval holds the true mean score."""
    model = SHAPES[shape]
    truth = np.array([model.true_mean(condition, "naturalness") for condition in _CONDITIONS])
    by_method = _by_method(truth[None])[0]
    rng = np.random.default_rng((seed, n_raters))
    held = defaultdict(list)
    for scores in _simulated(model, n_raters, studies, rng):
        scores = scores[..., 0]
        methods = _by_method(scores)
        gap = methods[:, 0] - methods[:, 1]
        for name, (low, high), true in (
            ("t", t_interval(scores), truth),
            ("bootstrap", bootstrap_interval(scores, resamples=_RESAMPLES, rng=rng), truth),
            ("score", score_interval(scores, scale=model.scale), truth),
            ("method", score_interval(methods, scale=model.scale), by_method),
            ("difference", t_interval(gap), by_method[0] - by_method[1]),
        ):
            held[name].append((low <= true) & (true <= high))
    by_condition = np.concatenate(held["score"]).mean(axis=0)
    return Coverage(
        shape=shape,
        truth=f"{truth.min():.1f} to {truth.max():.1f}",
        n_raters=n_raters,
        score_range=(by_condition.min(), by_condition.max()),
        **{name: np.concatenate(parts).mean() for name, parts in held.items()},
    )


def false_alarms_of(
    shape: str, n_raters: int, *, studies: int = 2000, seed: int = 0
) -> FalseAlarms:
    """Simulate studies in which nothing has an effect, and count those that find one."""
    from scipy.stats import friedmanchisquare

    model = replace(SHAPES[shape], effects=())
    rng = np.random.default_rng((seed, n_raters))
    alarms = [
        (
            _any_pair_differs(_by_method(scores)),
            _any_pair_differs(scores[:, :: len(METHODS), :, :1]),
            [friedmanchisquare(*study).pvalue <= 1 - _LEVEL for study in scores[..., 0]],
        )
        for scores in _simulated(model, n_raters, studies, rng)
    ]
    return FalseAlarms(shape, n_raters, *np.concatenate(alarms, axis=1).mean(axis=1))


def report(*, studies: int = 2000) -> str:
    """Simulate all shapes and numbers of raters; return the two tables as Markdown."""
    todo = list(itertools.product(SHAPES, RATERS))
    with click.progressbar(todo, label="simulated studies", file=sys.stderr) as rows:
        found = [
            (coverage_of(*row, studies=studies), false_alarms_of(*row, studies=studies))
            for row in rows
        ]
    covered, alarmed = zip(*found, strict=True)
    error = 1.96 * np.sqrt(_LEVEL * (1 - _LEVEL) / studies)
    lines = [
        f"Share of 95 % intervals that hold the truth, over {studies:,} simulated studies a row "
        f"(simulation error at most ± {error:.1%}):",
        "",
        *_markdown(_COVERAGE_HEADINGS, covered),
        "",
        f"Share of {studies:,} simulated studies without any effect in which a test finds one at "
        f"the 5 % level (simulation error ± {error:.1%}):",
        "",
        *_markdown(_ALARM_HEADINGS, alarmed),
    ]
    return "\n".join(lines)


def write_into(page: Path, tables: str) -> None:
    """Put the tables between the markers of a page.

    Raises
    ------
    StudyError
        The page is missing or has no markers.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{page} can't be read: {error.strerror}: name it by --page") from None
    if BEGIN not in text or END not in text:
        raise StudyError(f"{page} lacks the lines {BEGIN} and {END}: add them")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    with files.whole(page) as part:
        part.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


def _markdown(headings: Sequence[str], rows: Iterable[Coverage | FalseAlarms]) -> list[str]:
    lines = [f"| {' | '.join(map(_cell, line))} |" for line in (headings, *map(astuple, rows))]
    return [lines[0], "|" + "---|" * len(headings), *lines[1:]]


def _cell(value: str | float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return " to ".join(map(_cell, value))
    return f"{value:.1%}" if isinstance(value, float) else str(value)


def _simulated(
    model: SimulationModel, n_raters: int, studies: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield (studies, conditions, raters, criteria) scores, some studies at a time."""
    for start in range(0, studies, _BATCH):
        size = min(_BATCH, studies - start)
        # Raters are independent, so that those of all studies can be drawn at once.
        scores = simulate_scores(model, size * n_raters, _CONDITIONS, rng)
        shape = (size, n_raters, len(_CONDITIONS), len(CRITERIA))
        yield scores.reshape(shape).swapaxes(1, 2).astype(float)


def _by_method(scores: np.ndarray) -> np.ndarray:
    """Average (studies, conditions, ...) over types, to (studies, methods, ...)."""
    # Of a condition's factors the method comes last and varies fastest.
    shape = (len(scores), -1, len(METHODS), *scores.shape[2:])
    return scores.reshape(shape).mean(axis=1)


def _any_pair_differs(scores: np.ndarray) -> np.ndarray:
    """Say for which studies Holm's correction lets any pair pass, (studies,) bool.

    All levels are compared on all criteria, (studies, levels, raters, criteria), as one family.
    Pairs whose normal approximation is far from passing are not counted out, which saves most of
    the time.
    """
    first, second = np.transpose(list(itertools.combinations(range(scores.shape[1]), 2)))
    gaps = np.moveaxis(scores[:, first] - scores[:, second], 2, -1)
    p = approximate_p(gaps)
    near = p < _WORTH_COUNTING
    p[near] = [signed_rank(gap).p for gap in gaps[near]]
    return holm(p.reshape(len(p), -1)).min(axis=-1) <= 1 - _LEVEL


@click.command()
@click.option("--studies", default=2000, show_default=True, help="Simulated studies a row.")
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path(__file__).with_name("statistics.md"),
    show_default="docs/statistics.md",
    help="The page to write into.",
)
def main(studies: int, page: Path) -> None:
    """Simulate studies and write into the statistics page what intervals and tests do."""
    try:
        tables = report(studies=studies)
        write_into(page, tables)
    except StudyError as error:
        raise click.UsageError(str(error)) from None
    click.echo(tables)


if __name__ == "__main__":
    main()
