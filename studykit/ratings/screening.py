"""Whose ratings count: each rule judges each rater, with a figure and a reason in words.

Nothing is removed silently: the ratings of all and those of the kept raters stand side by side,
and every rule can be turned off.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from studykit.errors import StudyError
from studykit.media import video
from studykit.ratings.design import Clip, Condition, item_of, rateable_items, study_clips
from studykit.study.file import Study
from studykit.study.ratings import ScreeningRules

if TYPE_CHECKING:
    from studykit.ratings.store import SessionRecord, Store

TABLE_COLUMNS = ("rater", "rule", "figure", "threshold", "excluded", "reason")
_BT500_NORMAL = (2.0, 4.0)
_BT500_FACTORS = (2.0, 20**0.5)
_BT500_BALANCE = 0.3
_COUNTED = ("rating", "repeat")
_STEPS = 5  # of the scale that thresholds in steps are for
# Fewer give a figure that chance alone moves across a threshold.
_FEWEST_TRIALS, _FEWEST_OTHERS, _FEWEST_REPEATS, _FEWEST_SCORED = 6, 2, 2, 20
_DIGITS = 9  # an answer on a limit counts as over it, whatever the last bits say


@dataclass(frozen=True, eq=False)
class Screening:
    """What screening found; both ratings tables are kept.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a rater and rule: rater, rule, figure, threshold (both missing where there is
        none), excluded, reason. A rater whom any rule excludes is not in ``kept``.
    all, kept : pandas.DataFrame
        The ratings as given, and those of the raters that no rule excludes.
    rules : ScreeningRules
    """

    table: pd.DataFrame
    all: pd.DataFrame
    kept: pd.DataFrame
    rules: ScreeningRules

    @property
    def excluded(self) -> dict[str, str]:
        """Each excluded rater with the reasons, in one text."""
        rows = self.table[self.table["excluded"].astype(bool)]
        return rows.groupby("rater")["reason"].agg("; ".join).to_dict()

    @property
    def words(self) -> str:
        """Say in a sentence or two who was excluded, and by which rule."""
        n_raters, n_excluded = self.table["rater"].nunique(), len(self.excluded)
        if not n_raters:
            return "No ratings, so nobody was screened."
        if not n_excluded:
            return (
                f"None of {n_raters} raters was excluded." if n_raters > 1 else "One rater, kept."
            )
        counts = self.table[self.table["excluded"].astype(bool)]["rule"].value_counts(sort=False)
        by_rule = ", ".join(f"{rule} {count}" for rule, count in counts.items())
        return (
            f"{n_excluded} of {n_raters} raters {'was' if n_excluded == 1 else 'were'} "
            f"excluded ({by_rule}; "
            "one rater may fall under several rules)."
        )


def screen_study(study: Study, ratings: pd.DataFrame) -> Screening:
    """Screen a study's ratings by its rules: as :func:`screen`, with what it says of its clips.

    Clips last as long as their drivings, no more of them need have been played than raters were
    asked to, and thresholds in steps, which are for a scale of 5, are stretched to the study's.

    Raises
    ------
    MediaError
        A driving can't be read.
    StudyError
        The table mixes simulated and human ratings.
    """
    stretch = 1.0 if study.ratings.task == "pair" else (study.ratings.scale - 1) / (_STEPS - 1)
    rules = study.ratings.screening
    rules = dataclasses.replace(
        rules,
        played=min(rules.played, study.ratings.watch),
        repeat=rules.repeat and stretch * rules.repeat,
        variance=rules.variance and stretch * rules.variance,
    )
    return screen(ratings, rules, clip_seconds=driving_seconds(study))


def driving_seconds(study: Study) -> dict[str, float]:
    """Return how long each driving lasts, by its name, and so each clip that is made of it.

    Raises
    ------
    MediaError
        A driving can't be read.
    """
    return {driving.name: video.probe(driving.path).duration for driving in study.drivings}


def screen(
    ratings: pd.DataFrame,
    rules: ScreeningRules | None = None,
    *,
    clip_seconds: Mapping[str, float] | None = None,
) -> Screening:
    """Judge every rater by every rule.

    Parameters
    ----------
    ratings : pandas.DataFrame
        The ratings table, with all its roles.
    rules : ScreeningRules, optional
        The defaults without it.
    clip_seconds : mapping of float, optional
        How long clips last, by their driving (:func:`driving_seconds`). Without it, only times
        far below the other raters' count as too fast.

    Returns
    -------
    Screening

    Raises
    ------
    StudyError
        The table mixes simulated and human ratings.

    Notes
    -----
    Self-consistency, agreement and BT.500 look at answers on a scale; of paired comparisons, gold,
    straight-lining and time are judged.
    """
    rules = rules or ScreeningRules()
    if ratings["simulated"].nunique() > 1:
        raise StudyError("these ratings mix simulated raters with people: screen one kind only")
    if ratings.empty:
        return Screening(pd.DataFrame(columns=list(TABLE_COLUMNS)), ratings, ratings, rules)
    raters = sorted(ratings["rater"].unique())
    lengths = ratings["driving"].map(dict(clip_seconds or {})).astype(float)
    timed = ratings.assign(after=ratings["seconds"] - lengths * ratings["watched"].clip(upper=1))
    found = pd.concat(
        [_judge(rule, timed, raters, rules) for rule in _RULES], ignore_index=True
    ).sort_values("rater", kind="stable", ignore_index=True)
    out = set(found["rater"][found["excluded"]])
    kept = ratings[~ratings["rater"].isin(out)].reset_index(drop=True)
    return Screening(found, ratings, kept, rules)


@dataclass(frozen=True, eq=False)
class Status:
    """How far the collection of a study's ratings is.

    Attributes
    ----------
    n_raters : int
    simulated : bool
    sessions : dict of int
        How many are finished, paused, under way, simulated, or were collected elsewhere.
    conditions : dict of int
        How many ratings the clips of each condition got, 0 where there is none yet.
    screening : Screening
    coverage : Coverage
        How many ratings the clips have of the raters who count.
    withdrawn : int
        How many raters have withdrawn; nothing else is known of them.
    """

    n_raters: int
    simulated: bool
    sessions: dict[str, int]
    conditions: dict[Condition, int]
    screening: Screening
    coverage: "Coverage"
    withdrawn: int = 0

    def __str__(self) -> str:
        """Say it in lines."""
        gone = [f"{withdrawn_words(self.withdrawn)}."] if self.withdrawn else []
        if not self.n_raters:
            return "\n".join(["no ratings yet", *gone])
        kind = "simulated rater" if self.simulated else "rater"
        sessions = ", ".join(f"{count} {state}" for state, count in self.sessions.items())
        lines = [f"{self.n_raters} {kind}{'s' * (self.n_raters != 1)}; sessions: {sessions}"]
        lines += [
            f"{count:6} ratings  {' x '.join(condition)}"
            for condition, count in self.conditions.items()
        ]
        lines += [self.coverage.words, *gone, self.screening.words]
        lines += [f"  {rater}: {reason}" for rater, reason in self.screening.excluded.items()]
        return "\n".join(lines)


class Coverage(NamedTuple):
    """How many ratings clips have: the fewest, how many were asked for, and how far that is.

    Attributes
    ----------
    least, asked : int
        Of one clip; of pairs, of one pair. 0 is asked where the study states no number.
    behind, clips : int
        How many have fewer than were asked for, of how many.
    missing : int
        Ratings, all together.
    """

    least: int
    asked: int
    behind: int
    clips: int
    missing: int

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        ratings = "rating" if self.least == 1 else "ratings"
        text = f"The clip rated least has {self.least} {ratings} by raters who count"
        if not self.asked:
            return f"{text}."
        if not self.behind:
            return f"{text}; the study asks for {self.asked}."
        return (
            f"{text}, and the study asks for {self.asked}: {self.behind} of {self.clips} clips "
            f"have fewer, {self.missing} ratings are missing."
        )


def coverage(study: Study, ratings: pd.DataFrame, clips: Sequence[Clip] | None = None) -> Coverage:
    """Count the ratings of each clip.

    Parameters
    ----------
    study : Study
    ratings : pandas.DataFrame
        Of the raters who count.
    clips : sequence of Clip, optional
        Those that were made; all of the study by default.
    """
    rated = ratings[ratings["role"] == "rating"].drop_duplicates(["session", "trial"])
    given = Counter(itertools.starmap(item_of, zip(rated["cell"], rated["other"], strict=True)))
    counts = [
        given[i] for i in rateable_items(study, study_clips(study) if clips is None else clips)
    ]
    asked = study.ratings.ratings_per_clip_min
    missing = [asked - count for count in counts if count < asked]
    return Coverage(min(counts, default=0), asked, len(missing), len(counts), sum(missing))


def withdrawn_words(count: int) -> str:
    """Say how many raters have withdrawn."""
    who = "One rater has" if count == 1 else f"{count} raters have"
    return f"{who} withdrawn, whose answers were deleted"


def rating_status(study: Study, store: "Store", clips: Sequence[Clip] | None = None) -> Status:
    """Say how far the collection of a study's ratings is, and who would be excluded.

    ``clips`` are those that were made; all of the study by default.
    """
    ratings = store.ratings(study.name)
    rated = ratings[ratings["role"] == "rating"].drop_duplicates(["session", "trial"])
    shown = Counter([*rated["cell"], *rated["other"]])
    conditions: Counter[Condition] = Counter()
    for clip in study_clips(study):
        conditions[clip.condition] += shown[clip.cell]
    screening = screen_study(study, ratings)
    return Status(
        n_raters=int(ratings["rater"].nunique()),
        simulated=bool(len(ratings) and ratings["simulated"].all()),
        sessions=dict(Counter(map(_state, store.sessions(study.name)))),
        conditions=dict(conditions),
        screening=screening,
        coverage=coverage(study, screening.kept, clips),
        withdrawn=store.withdrawals(study.name),
    )


def _state(session: "SessionRecord") -> str:
    if not session.trials:
        return "simulated" if session.simulated else "collected elsewhere"
    if session.answered == len(session.trials):
        return "finished"
    return "paused" if session.paused else "under way"


def bt500_counts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count each observer's outliers by ITU-R BT.500 (the beta_2 test).

    The scores of a presentation count as normal where their kurtosis m4 / m2^2 lies from 2 to 4;
    then an outlier is 2 standard deviations or more from the mean, else sqrt(20) or more. A
    presentation that all score alike has none. With fewer than 6 observers there can be none.
    The standard deviation has n - 1 in it; Netflix's sureal divides by n and finds more. The rule
    is meant to be applied once.

    Parameters
    ----------
    values : (observers, presentations) float array
        NaN where an observer did not score a presentation.

    Returns
    -------
    above, below, scored : (observers,) int arrays
        Outliers above the mean (P), below it (Q), and presentations scored.

    References
    ----------
    ITU-R BT.500-13, Annex 2, 2.3.1 (BT.500-14 and -15: Annex 1 to Part 1).
    """
    scores = pd.DataFrame(values)
    deviation = (scores - scores.mean()).round(_DIGITS)
    moment = {power: (deviation**power).mean() for power in (2, 4)}
    kurtosis = (moment[4] / moment[2] ** 2).round(_DIGITS)
    factor = np.where(kurtosis.between(*_BT500_NORMAL), *_BT500_FACTORS).round(_DIGITS)
    standard = (deviation / deviation.std()).round(_DIGITS)
    counts = (standard >= factor, standard <= -factor, scores.notna())
    return tuple(count.sum(axis=1).to_numpy() for count in counts)


def leave_one_out_correlation(
    values: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate each rater with the mean of the others, over the items that both have.

    Parameters
    ----------
    values : (raters, items) float array
        NaN where a rater has no answer.
    groups : (items,) array
        The criterion of each item: values are centred in each, so that a level that differs
        between criteria is no agreement. Items with fewer than 2 other raters are left out.

    Returns
    -------
    correlation : (raters,) float array
        Pearson's, NaN where it is not defined.
    n_items : (raters,) int array
        Over how many items.
    """
    answered = ~np.isnan(values)
    others = answered.sum(axis=0) - answered
    total = np.nansum(values, axis=0) - np.where(answered, values, 0.0)
    used = answered & (others >= _FEWEST_OTHERS)
    mean = total / np.maximum(others, 1)
    products = np.zeros((3, len(values)))
    for group in np.unique(groups):
        mask = used & (groups == group)
        own, theirs = (_centred(part, mask) for part in (values, mean))
        products += [(own * theirs).sum(1), (own * own).sum(1), (theirs * theirs).sum(1)]
    both, own, theirs = np.round(products, _DIGITS)
    defined = (own > 0) & (theirs > 0)
    scale = np.sqrt(np.where(defined, own * theirs, 1.0))
    return np.where(defined, both / scale, np.nan), used.sum(axis=1)


def _centred(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Take each row's mean over its mask away, 0 outside."""
    kept = np.where(mask, values, 0.0)
    mean = kept.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return np.where(mask, kept - mean[:, None], 0.0)


class _Rule(NamedTuple):
    """How a rule comes to its figures, and what it asks.

    ``figures`` gives a frame by rater with the columns figure, evidence (words) and exempt: true
    where a figure beyond the threshold does not yet exclude.
    """

    name: str
    figures: Callable[[pd.DataFrame, ScreeningRules], pd.DataFrame]
    at_least: bool
    asked: str
    none: str


def _judge(
    rule: _Rule, ratings: pd.DataFrame, raters: list[str], rules: ScreeningRules
) -> pd.DataFrame:
    threshold = getattr(rules, rule.name)
    found = rule.figures(ratings, rules).reindex(raters)
    figure = found["figure"].astype("Float64")
    reason = found["evidence"].where(found["evidence"].notna(), f"not judged: {rule.none}")
    bad = pd.Series(False, index=raters)
    if threshold is None:
        reason += " (the rule is off)"
    else:
        beyond = figure < threshold if rule.at_least else figure > threshold
        bad = beyond.fillna(False).astype(bool) & ~found["exempt"].eq(True)
        asked = rule.asked.format(threshold=threshold, percent=f"{100 * threshold:g} %")
        reason = reason.mask(bad, reason + f"; {asked}")
        by_hand = bad & bad.index.isin(rules.keep)
        reason = reason.mask(by_hand, reason + " (kept by hand)")
        bad &= ~by_hand
    thresholds = pd.array([threshold] * len(raters), dtype="Float64")
    columns = (raters, rule.name, figure, thresholds, bad, reason)
    return pd.DataFrame(dict(zip(TABLE_COLUMNS, columns, strict=True)))


def _gold(ratings: pd.DataFrame, _rules: ScreeningRules) -> pd.DataFrame:
    gold = ratings[(ratings["role"] == "gold") & ratings["expected_low"].notna()]
    right = gold["value"].between(gold["expected_low"], gold["expected_high"])
    return _shares(right.astype(bool), gold["rater"], "gold answers as expected")


def _repeat(ratings: pd.DataFrame, _rules: ScreeningRules) -> pd.DataFrame:
    scale = ratings[ratings["task"] != "pair"]
    key = ["rater", "task", "cell", "criterion"]
    first = scale[scale["role"] == "rating"].groupby(key)["value"].mean()
    again = scale[scale["role"] == "repeat"].groupby(key)["value"].mean()
    change = (again - first).dropna().abs().reset_index()
    found = change.groupby("rater").agg(
        figure=("value", "mean"), size=("value", "size"), clips=("cell", "nunique")
    )
    words = "{figure:.2f} steps on average between first and repeated answer ({size})"
    return _figures(found[found["clips"] >= _FEWEST_REPEATS], words)


def _variance(ratings: pd.DataFrame, _rules: ScreeningRules) -> pd.DataFrame:
    counted = ratings[ratings["role"].isin(_COUNTED)]
    by_task = ["rater", "task"]
    trials = counted.drop_duplicates([*by_task, "session", "trial"]).groupby(by_task).size()
    deviation = counted.groupby(by_task)["value"].std(ddof=0)
    least = deviation[trials >= _FEWEST_TRIALS].groupby("rater").min()
    return _figures(least.to_frame("figure"), "answers differ by {figure:.2f} steps (SD)")


def _run(ratings: pd.DataFrame, _rules: ScreeningRules) -> pd.DataFrame:
    counted = ratings[ratings["role"].isin(_COUNTED)]
    # Criteria as columns: a trial is answered like the one before if all its values are.
    trials = counted.pivot_table(
        index=["rater", "task", "session", "trial"], columns="criterion", values="value"
    ).reset_index()
    if trials.empty:
        return _figures(pd.DataFrame(), "")
    values = trials.drop(columns=["session", "trial"])
    alike = values.eq(values.shift()) | (values.isna() & values.shift().isna())
    run = (~alike.all(axis=1)).cumsum()
    by_task = trials.groupby(["rater", "task"])["trial"].size()
    longest = trials.groupby(["rater", "task", run]).size().groupby(["rater", "task"]).max()
    table = pd.DataFrame({"longest": longest, "trials": by_task})
    table = table[table["trials"] >= _FEWEST_TRIALS]
    table["figure"] = table["longest"] / table["trials"]
    worst = table.sort_values("figure").groupby("rater").last()
    return _figures(worst, "{longest} of {trials} trials in a row answered alike")


def _speed(ratings: pd.DataFrame, rules: ScreeningRules) -> pd.DataFrame:
    timed = _timed(ratings, "seconds")
    usual = timed.groupby(["task", "cell", "other"])[["seconds", "after"]].transform("median")
    # Where most answers come before its end, a clip is shorter than its driving.
    known = usual["after"] >= rules.seconds
    fast = known & (timed["after"] < rules.seconds)
    fast |= timed["seconds"] < rules.share_of_median * usual["seconds"]
    return _shares(fast, timed["rater"], "trials answered too fast")


def _watched(ratings: pd.DataFrame, rules: ScreeningRules) -> pd.DataFrame:
    timed = _timed(ratings, "watched")
    return _shares(timed["watched"] < rules.played, timed["rater"], "trials not watched to the end")


def _agreement(ratings: pd.DataFrame, rules: ScreeningRules) -> pd.DataFrame:
    matrix = _matrix(ratings)
    correlation, count = leave_one_out_correlation(
        matrix.to_numpy(), matrix.columns.get_level_values("criterion").to_numpy()
    )
    found = pd.DataFrame({"figure": correlation, "count": count}, index=matrix.index)
    found = found[found["count"] >= _FEWEST_TRIALS].dropna()
    median = found["figure"].median()
    found["exempt"] = median < rules.agreement_median
    words = "correlation {figure:.2f} with the other raters over {count} answers"
    if median < rules.agreement_median:
        words += f"; nobody is judged by it, as the median is {median:.2f}"
    return _figures(found, words)


def _bt500(ratings: pd.DataFrame, _rules: ScreeningRules) -> pd.DataFrame:
    matrix = _matrix(ratings)
    above, below, scored = bt500_counts(matrix.to_numpy())
    counts = {"above": above, "below": below, "scored": scored}
    found = pd.DataFrame(counts, index=matrix.index)
    outliers = found["above"] + found["below"]
    found["figure"] = outliers / found["scored"].clip(lower=1)
    one_sided = (found["above"] - found["below"]).abs() >= _BT500_BALANCE * outliers.clip(lower=1)
    found["exempt"] = one_sided | (found["scored"] < _FEWEST_SCORED)
    return _figures(found, "{above} outliers above and {below} below in {scored} answers")


_RULES = (
    _Rule("gold", _gold, True, "at least {percent} are asked", "no gold clip was answered"),
    _Rule("repeat", _repeat, False, "at most {threshold:g} are allowed", "too few repeats"),
    _Rule("variance", _variance, True, "at least {threshold:g} are asked", "too few trials"),
    _Rule("run", _run, False, "at most {percent} are allowed", "too few trials"),
    _Rule("speed", _speed, False, "at most {percent} are allowed", "no times"),
    _Rule("watched", _watched, False, "at most {percent} are allowed", "no record of watching"),
    _Rule(
        "agreement",
        _agreement,
        True,
        "at least {threshold:g} is asked",
        "too few answers shared with others, or all alike",
    ),
    _Rule(
        "bt500",
        _bt500,
        False,
        "more than {percent} and on both sides",
        "no answers on a scale",
    ),
)


def _matrix(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return scores as raters x (task, cell, criterion), NaN where there is none."""
    scale = ratings[(ratings["role"] == "rating") & (ratings["task"] != "pair")]
    return scale.pivot_table(
        index="rater", columns=["task", "cell", "criterion"], values="value", aggfunc="mean"
    ).astype(float)


def _timed(ratings: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row a counted trial whose time is known."""
    counted = ratings[ratings["role"].isin(_COUNTED) & ratings[column].notna()]
    return counted.drop_duplicates(["rater", "session", "trial"])


def _shares(hits: pd.Series, raters: pd.Series, what: str) -> pd.DataFrame:
    found = hits.groupby(raters).agg(["sum", "size"])
    return _figures(
        found.assign(figure=found["sum"] / found["size"]), f"{{sum}} of {{size}} {what}"
    )


def _figures(found: pd.DataFrame, words: str) -> pd.DataFrame:
    """Return what a rule gives; ``words`` is a template of the columns that are found."""
    evidence = [words.format_map(row) for row in found.to_dict("records")]
    columns = ["figure", "exempt", "evidence"]
    return found.assign(evidence=evidence).reindex(columns=columns)
