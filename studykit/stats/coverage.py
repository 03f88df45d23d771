"""Do the intervals cover and do the tests keep their level? Simulated studies with known truth.

``python -m studykit.stats.coverage`` runs them and writes the tables into docs/statistics.md, so
that the page shows what this code does and not what it is hoped to do.
"""

import itertools
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from studykit import files
from studykit.errors import StudyError
from studykit.ratings.simulate import Effect, SimulationModel, simulate_scores
from studykit.stats.comparison import signed_rank
from studykit.stats.intervals import bootstrap_interval, score_interval, t_interval
from studykit.stats.table import CRITERIA, TYPES

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
_LEVEL = 0.95
_RESAMPLES = 999
_BATCH = 250
# A normal approximation of p = 0.025, far above the 0.05 / 12 that the smallest p must pass.
_WORTH_COUNTING = 2.24
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"


@dataclass(frozen=True)
class Coverage:
    """Shares of intervals that held the truth, over studies of 3 x 3 types and three methods.

    Attributes
    ----------
    means : (float, float)
        The lowest and highest true mean score of a condition.
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
    n_raters: int
    means: tuple[float, float]
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
    truth = np.array([model.true_mean(condition, CRITERIA[0]) for condition in _CONDITIONS])
    by_method = truth.reshape(-1, len(METHODS)).mean(axis=0)
    rng = np.random.default_rng((seed, n_raters))
    hits, by_condition = [], []
    for size in _batches(studies):
        scores = _simulate(model, n_raters, size, rng)[..., 0]
        # Averages over types, (studies, methods, raters): the last factor of a condition varies
        # fastest.
        methods = scores.reshape(size, -1, len(METHODS), n_raters).mean(axis=1)
        gap = methods[:, 0] - methods[:, 1]
        hits.append(
            [
                _held(interval, true).mean()
                for interval, true in (
                    (t_interval(scores, level=_LEVEL), truth),
                    (
                        bootstrap_interval(scores, level=_LEVEL, resamples=_RESAMPLES, rng=rng),
                        truth,
                    ),
                    (score_interval(methods, scale=model.scale, level=_LEVEL), by_method),
                    (t_interval(gap, level=_LEVEL), by_method[0] - by_method[1]),
                )
            ]
        )
        by_condition.append(_held(score_interval(scores, scale=model.scale, level=_LEVEL), truth))
    sizes = _batches(studies)
    t, bootstrap, method, difference = np.average(hits, axis=0, weights=sizes)
    score = np.average(by_condition, axis=0, weights=sizes)
    return Coverage(
        shape=shape,
        n_raters=n_raters,
        means=(truth.min(), truth.max()),
        t=t,
        bootstrap=bootstrap,
        score=score.mean(),
        score_range=(score.min(), score.max()),
        method=method,
        difference=difference,
    )


def false_alarms_of(
    shape: str, n_raters: int, *, studies: int = 2000, seed: int = 0
) -> FalseAlarms:
    """Simulate studies in which nothing has an effect, and count those that find one."""
    model = replace(SHAPES[shape], effects=())
    rng = np.random.default_rng((seed, n_raters))
    alarms = np.zeros(3)
    for size in _batches(studies):
        scores = _simulate(model, n_raters, size, rng)
        methods = scores.reshape(size, -1, len(METHODS), n_raters, len(CRITERIA)).mean(axis=1)
        one_method = scores[:, :: len(METHODS), :, :1]
        alarms += (
            _any_pair_differs(np.moveaxis(methods, -1, 1)).sum(),
            _any_pair_differs(np.moveaxis(one_method, -1, 1)).sum(),
            (_friedman_p(scores[..., 0]) <= 1 - _LEVEL).sum(),
        )
    return FalseAlarms(shape, n_raters, *map(float, alarms / studies))


def report(*, studies: int = 2000) -> str:
    """Simulate all shapes and numbers of raters; return the two tables as Markdown."""
    with click.progressbar(
        list(itertools.product(SHAPES, RATERS)),
        label="simulated studies",
        file=sys.stderr,
    ) as plan:
        rows = [
            (
                coverage_of(shape, n_raters, studies=studies),
                false_alarms_of(shape, n_raters, studies=studies),
            )
            for shape, n_raters in plan
        ]
    error = 1.96 * np.sqrt(_LEVEL * (1 - _LEVEL) / studies)
    lines = [
        f"Share of 95 % intervals that hold the truth, over {studies:,} simulated studies a row "
        f"(simulation error at most ± {error:.1%}):",
        "",
        "| ratings | true scores | raters | condition, t | condition, bootstrap "
        "| **condition, score** | of single conditions | **method, score** "
        "| **method difference, t** |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, _ in rows:
        low, high = row.means
        span = f"{low:.1f} to {high:.1f}"
        cells = [f"{share:.1%}" for share in (row.t, row.bootstrap, row.score)]
        cells.append(" to ".join(f"{share:.1%}" for share in row.score_range))
        cells += [f"{share:.1%}" for share in (row.method, row.difference)]
        lines.append(f"| {row.shape} | {span} | {row.n_raters} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Share of {studies:,} simulated studies without any effect in which a test finds one at "
        f"the 5 % level (simulation error ± {error:.1%}):",
        "",
        "| ratings | raters | any of 12 method comparisons | any of 36 condition comparisons "
        "| Friedman's test |",
        "|---|---|---|---|---|",
    ]
    for _, row in rows:
        shares = (row.methods, row.conditions, row.friedman)
        cells = " | ".join(f"{share:.1%}" for share in shares)
        lines.append(f"| {row.shape} | {row.n_raters} | {cells} |")
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


def _batches(studies: int) -> list[int]:
    return [min(_BATCH, studies - start) for start in range(0, studies, _BATCH)]


def _simulate(
    model: SimulationModel, n_raters: int, studies: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw (studies, conditions, raters, criteria) scores; raters are independent, many at once."""
    scores = simulate_scores(model, studies * n_raters, _CONDITIONS, rng)
    scores = scores.reshape(studies, n_raters, len(_CONDITIONS), len(CRITERIA))
    return scores.swapaxes(1, 2).astype(float)


def _held(interval: tuple[np.ndarray, np.ndarray], truth: np.ndarray) -> np.ndarray:
    """Return how often each interval of (studies, ...) holds its truth, over studies."""
    low, high = interval
    return np.mean((low <= truth) & (truth <= high), axis=0)


def _any_pair_differs(scores: np.ndarray) -> np.ndarray:
    """Say for which studies Holm's correction lets any pair pass, (studies,) bool.

    All levels are compared on all criteria, (studies, criteria, levels, raters), as one family;
    its smallest p decides. Pairs whose normal approximation is far from passing are not counted
    out, which saves most of the time.
    """
    from scipy.stats import rankdata

    pairs = np.array(list(itertools.combinations(range(scores.shape[2]), 2)))
    gaps = scores[:, :, pairs[:, 0]] - scores[:, :, pairs[:, 1]]
    gaps = gaps.reshape(len(scores), -1, scores.shape[-1]).round(9)
    ranks = rankdata(np.abs(gaps), axis=-1) * np.sign(gaps)
    size = np.sqrt((ranks**2).sum(axis=-1))
    z = np.abs(ranks.sum(axis=-1)) / np.where(size > 0, size, 1)
    threshold = (1 - _LEVEL) / gaps.shape[1]
    return np.array(
        [
            any(signed_rank(gap).p <= threshold for gap in of_study[near])
            for of_study, near in zip(gaps, z > _WORTH_COUNTING, strict=True)
        ]
    )


def _friedman_p(scores: np.ndarray) -> np.ndarray:
    """Friedman's test of each study, (studies, conditions, raters), with ties corrected."""
    from scipy.stats import chi2, rankdata

    ranks = rankdata(scores, axis=1)
    k, n = ranks.shape[1:]
    between = ((ranks.sum(axis=2) - n * (k + 1) / 2) ** 2).sum(axis=1)
    within = (ranks**2).sum(axis=(1, 2)) - n * k * (k + 1) ** 2 / 4
    return chi2.sf((k - 1) * between / within, k - 1)


@click.command()
@click.option("--studies", default=2000, show_default=True, help="Simulated studies a row.")
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path("docs/statistics.md"),
    show_default=True,
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
