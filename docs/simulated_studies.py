"""Do claims err as rarely as they say, and do intervals cover? Simulated studies with known truth.

``python docs/simulated_studies.py`` runs them and writes the tables into statistics.md beside it,
so that the page shows what this code does and not what it is hoped to do. All raters of a simulated
study share its clips, as they do in every study.
"""

import itertools
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import pandas as pd

from studykit import files
from studykit.errors import StudyError
from studykit.ratings.simulate import (
    Effect,
    Layout,
    ProbitModel,
    SimulationModel,
    simulate_clips,
    simulate_values,
)
from studykit.stats.comparison import holm, signed_rank
from studykit.stats.crossed import Contrast, contrasts
from studykit.stats.intervals import score_interval
from studykit.stats.power import FACTORS, simulated_answers, with_stimuli
from studykit.study.file import Study, load_study
from studykit.study.wording import CRITERIA

DEMO = Path(__file__).parent.parent / "inputs" / "demo.yaml"
GENERATORS = {"steps": SimulationModel, "probit": ProbitModel}
RATERS = (15, 24, 40)
CORNERS = tuple(itertools.product((0.0, 0.35), (0.0, 0.35), (0.0, 0.2)))
MIDDLE = (0.175, 0.175, 0.1)
HEADINGS = ("design", "raters' answers", "raters", "clip SD", "source SD", "source × method SD",
            "methods", "source types", "driving types", "interactions", "old: methods",
            "old: source types", "methods cover", "types cover", "scores cover")  # fmt: skip
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
_LEVEL = 0.95
_BATCH = 100
_OLD = 2  # batches in which the old tests, which take long, are counted too
_GRID = np.linspace(-6, 6, 241)  # of latent opinions around a condition's, for their mean scores


@dataclass(frozen=True)
class Row:
    """One design and one way in which stimuli and raters differ.

    Drivings differ as sources do, and by method too.
    """

    design: str
    generator: str
    raters: int
    clip_sd: float
    source_sd: float
    source_method_sd: float

    def model(self, effects: Sequence[Effect]) -> SimulationModel:
        """Return the generator of its answers."""
        return GENERATORS[self.generator](
            effects=tuple(effects),
            clip_sd=self.clip_sd,
            source_sd=self.source_sd,
            driving_sd=self.source_sd,
            source_method_sd=self.source_method_sd,
            driving_method_sd=self.source_method_sd,
        )

    @property
    def study(self) -> Study:
        """The embedded study, or one of as many methods with other stimuli."""
        return design(self.design)


def rows() -> list[Row]:
    """List the rows: each corner for two designs, by both generators, and the middle."""
    listed = []
    for at, corner in enumerate(CORNERS):
        for other, name in enumerate(("demo", "4 × 4")):
            generator = list(GENERATORS)[(sum(map(bool, corner)) + other) % 2]
            listed.append(Row(name, generator, RATERS[(at + other) % 3], *corner))
    middle = [("demo", (24,)), ("2 × 2", RATERS)]
    for name, raters in middle:
        listed += [Row(name, *which, *MIDDLE) for which in itertools.product(GENERATORS, raters)]
    return sorted(listed, key=lambda row: ("demo", "2 × 2", "4 × 4").index(row.design))


def design(name: str) -> Study:
    """Return the embedded study, or one with 2 or 4 sources and drivings a type."""
    study = load_study(DEMO)
    if name == "demo":
        return study
    per_type = int(name[0])
    # A rater of the large one sees 48 of its 432 clips.
    trials = {2: None, 4: 48}[per_type]
    study = replace(study, ratings=replace(study.ratings, trials=trials))
    return with_stimuli(study, per_type, per_type)


def error_rates(row: Row, *, studies: int, seed: int = 0) -> dict[str, float]:
    """Return the share of studies without effects that make any claim of a family, by family.

    A family is one factor or interaction over all criteria, corrected by Holm's method. "old" are
    paired Wilcoxon tests over raters, for which the clips at hand are all there are, in the first
    200 studies.
    """
    wrong = defaultdict(list)
    layout = Layout.of(row.study, row.raters)
    for size, rng in _batches(row, studies, seed):
        values = simulate_values(row.model(()), layout, size, rng)
        families = defaultdict(list)
        for contrast in contrasts(simulated_answers(layout, values)):
            families[contrast.factors].append(contrast.p.reshape(size, -1))
        for factors, p in families.items():
            wrong[" × ".join(factors)].append(_any(np.concatenate(p, axis=1)))
        for factor in FACTORS[:2] if len(wrong["old method"]) < _OLD else ():
            wrong[f"old {factor}"].append(_any(_paired(layout, values, factor)))
    return {name: float(np.concatenate(parts).mean()) for name, parts in wrong.items()}


def coverage(row: Row, *, studies: int, seed: int = 0) -> dict[str, float]:
    """Return the shares of intervals that hold the truth, in studies with the usual effects.

    "method", "source_type", ...: of differences, whose truth is that of all raters, sources and
    drivings. "scores": of conditions' mean scores, whose truth is that of the clips at hand.
    """
    model = row.model(SimulationModel().effects)
    layout = Layout.of(row.study, row.raters)
    levels = [sorted({getattr(clip, name) for clip in layout.clips}) for name in FACTORS]
    truth = np.array(
        [
            [model.true_mean((s, d, m), name) for name in CRITERIA]
            for m, s, d in itertools.product(*levels)
        ]
    ).reshape(*map(len, levels), -1)
    # A clip's mean score depends on its latent opinion only.
    some = layout.clips[0].condition, "naturalness"
    base = model.latent_mean(*some)
    of_latent = [model.true_mean(*some, clip_effect=x) for x in _GRID]
    held = defaultdict(list)
    for size, rng in _batches(row, studies, seed):
        state = rng.bit_generator.state
        values = simulate_values(model, layout, size, rng)
        for contrast in contrasts(simulated_answers(layout, values)):
            true = np.tile(_true(contrast, truth, levels), size)
            near = np.abs(contrast.estimate - true) <= contrast.half(_LEVEL)
            held[" × ".join(contrast.factors)].append(near[~np.isnan(contrast.p)])
        rng.bit_generator.state = state
        clips = np.interp(simulate_clips(model, layout, size, rng) - base, _GRID, of_latent)
        held["scores"].append(_scores_hold(layout, values, clips, model.scale))
    return {
        name: float(np.concatenate([part.ravel() for part in parts]).mean())
        for name, parts in held.items()
    }


def report(listed: Sequence[Row], folder: Path, *, studies: int) -> str:
    """Return the rows' table as Markdown; what the folder does not hold is simulated first."""
    lines = []
    folder.mkdir(parents=True, exist_ok=True)
    with click.progressbar(listed, label="simulated studies", file=sys.stderr) as shown:
        for row in shown:
            name = "-".join(map(str, [*vars(row).values(), studies])).replace(" ", "")
            kept = folder / f"{name}.json"
            if not kept.exists():
                found = {
                    "errs": error_rates(row, studies=studies),
                    "covers": coverage(row, studies=studies // 5, seed=1),
                }
                with files.whole(kept) as part:
                    part.write_text(json.dumps(found), encoding="utf-8")
            lines.append([*vars(row).values(), *_shares(**json.loads(kept.read_text("utf-8")))])
    table = [HEADINGS, ["---"] * len(HEADINGS), *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in table)


def _shares(errs: dict[str, float], covers: dict[str, float]) -> list[str]:
    """Return a row's shares as the table has them."""
    crossed = max(share for name, share in errs.items() if "×" in name)
    types = np.mean([covers[factor] for factor in FACTORS[1:]])
    shares = [*(errs[factor] for factor in FACTORS), crossed]
    shares += [errs[f"old {factor}"] for factor in FACTORS[:2]]
    return [f"{share:.1%}" for share in (*shares, covers["method"], types, covers["scores"])]


def write_power_sets(folder: Path, *, sets: int = 200) -> tuple[Layout, np.ndarray]:
    """Write the data sets of the power table for tests/data/R/power.R, and return them."""
    layout = Layout.of(design("4 × 4"), 24)
    effects = (Effect(0.125, method="fomm"), Effect(-0.125, method="warp"))
    rng = np.random.default_rng(2026)
    model = SimulationModel(effects=effects)
    values = simulate_values(model, layout, sets, rng, criteria=["naturalness"])
    names = ("source", "driving", "method", "source_type", "driving_type")
    table = pd.DataFrame(
        {name: [getattr(layout.clips[at], name) for at in layout.clip] for name in names}
    )
    table.insert(0, "rater", [f"r{rater}" for rater in layout.rater])
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "power-design.csv", index=False)
    np.savetxt(folder / "power-values.csv", values[:, :, 0], fmt="%d", delimiter=",")
    return layout, values


def power_table(folder: Path) -> str:
    """Return, as Markdown, in how many data sets each test finds fomm above warp at 5 %.

    What lme4 finds is read from power-lme4.csv, which power.R writes; only its sets are counted.
    """
    layout, values = write_power_sets(folder)
    lme4 = pd.read_csv(folder / "power-lme4.csv").set_index("set").sort_index()
    values = values[lme4.index - 1]
    ours = next(
        contrast.p
        for contrast in contrasts(simulated_answers(layout, values))
        if contrast.levels == (("fomm", "warp"),)
    )
    levels = sorted({clip.method for clip in layout.clips})
    pairs = list(itertools.combinations(levels, 2))
    old = _paired(layout, values, "method")[:, pairs.index(("fomm", "warp"))]
    tests = {
        "`stats.findings`": ours,
        "lme4, Satterthwaite (lmerTest)": lme4["satterthwaite"],
        "lme4, Kenward-Roger (pbkrtest)": lme4["kenward_roger"],
        "paired Wilcoxon over raters, for which these clips are all there are": old,
    }
    found = {name: np.asarray(p) <= 1 - _LEVEL for name, p in tests.items()}
    first = found["`stats.findings`"]
    lines = [
        f"| {name} | {hits.mean():.1%} | {(first & ~hits).sum()} | {(hits & ~first).sum()} |"
        for name, hits in found.items()
    ]
    heading = f"| test, {len(values)} data sets | power | only `findings` | only this one |"
    return "\n".join([heading, "|---|---|---|---|", *lines])


def write_into(page: Path, mark: str, table: str) -> None:
    """Put a table between its markers of a page.

    Raises
    ------
    StudyError
        The page is missing or has no markers.
    """
    begin, end = BEGIN.format(mark), END.format(mark)
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{page} can't be read: {error.strerror}: name it by --page") from None
    if begin not in text or end not in text:
        raise StudyError(f"{page} lacks the lines {begin} and {end}: add them")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    with files.whole(page) as part:
        part.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def _batches(row: Row, studies: int, seed: int) -> Iterator[tuple[int, np.random.Generator]]:
    """Yield some studies at a time, each batch with a generator of its own."""
    for start in range(0, studies, _BATCH):
        yield min(_BATCH, studies - start), np.random.default_rng((seed, row.raters, start))


def _any(p: np.ndarray) -> np.ndarray:
    """Say for which studies Holm's correction lets any of (studies, tests) pass."""
    return holm(np.where(np.isnan(p), 1.0, p)).min(axis=1) <= 1 - _LEVEL


def _true(contrast: Contrast, truth: np.ndarray, levels: list[list[str]]) -> np.ndarray:
    """Return a contrast of true means (methods, source types, driving types, criteria)."""
    # Backwards, so that the axes before stay where they are.
    for axis, (factor, names) in reversed(list(enumerate(zip(FACTORS, levels, strict=True)))):
        if factor in contrast.factors:
            pair = contrast.levels[contrast.factors.index(factor)]
            first, second = (truth.take(names.index(name), axis) for name in pair)
            truth = first - second
        else:
            truth = truth.mean(axis)
    return truth


def _paired(layout: Layout, values: np.ndarray, factor: str) -> np.ndarray:
    """Return p of Wilcoxon's tests of raters' mean differences, (studies, pairs x criteria)."""
    level = np.array([getattr(clip, factor) for clip in layout.clips])[layout.clip]
    means = {
        name: _means(values[:, level == name], layout.rater[level == name])
        for name in np.unique(level)
    }
    gaps = [means[a] - means[b] for a, b in itertools.combinations(means, 2)]
    gaps = np.moveaxis(np.concatenate(gaps, axis=2), 1, 2)
    return np.array([[signed_rank(gap).p for gap in study] for study in gaps])


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Average (studies, trials, criteria) over the trials of a group: (studies, groups, ...)."""
    share = np.equal.outer(np.unique(group), group).astype(float)
    return np.einsum("gt,stk->sgk", share / share.sum(axis=1, keepdims=True), values)


def _scores_hold(layout: Layout, values: np.ndarray, clips: np.ndarray, scale: int) -> np.ndarray:
    """Say which score intervals of conditions hold the mean of their clips' true scores."""
    condition = layout.numbers(*FACTORS)
    found = []
    for number in np.unique(condition):
        at = condition[layout.clip] == number
        raters = _means(values[:, at], layout.rater[at])
        low, high = score_interval(raters.swapaxes(1, 2), scale=scale)
        true = clips[:, condition == number].mean(axis=1)
        found.append((low <= true) & (true <= high))
    return np.array(found)


@click.command()
@click.option("--studies", default=1000, show_default=True, help="Without effects, a row.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default="coverage",
    show_default=True,
    help="Keeps each row when it is done: the same command goes on where one was stopped.",
)
@click.option("--power", type=click.Path(path_type=Path), help="The power table, from this folder.")
@click.option(
    "--page",
    type=click.Path(path_type=Path),
    default=Path(__file__).with_name("statistics.md"),
    show_default="docs/statistics.md",
    help="The page to write into.",
)
def main(studies: int, folder: Path, power: Path | None, page: Path) -> None:
    """Simulate studies and write into the statistics page how often claims err."""
    try:
        if power is not None:
            mark, table = "power", power_table(power)
        else:
            mark, table = "error rates", report(rows(), folder, studies=studies)
        write_into(page, mark, table)
    except StudyError as error:
        raise click.UsageError(str(error)) from None
    click.echo(table)


if __name__ == "__main__":
    main()
