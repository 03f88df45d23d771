"""How raters differ, and what their mean is worth: from variance components, whoever saw what."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy

from studykit.stats.crossed import answers_of
from studykit.stats.result import Result
from studykit.stats.table import asked_of, rated

# A rater's inconsistency counts as this many steps at least, or one rater would outweigh all.
_STEADIEST = 0.1
_ROUNDS_MOST, _CHANGE_LEAST = 1000, 1e-8


def agreement(ratings: pd.DataFrame, *, scale: int = 5, level: float = 0.95) -> Result:
    """Agreement of raters on each criterion, from the variances of clips, raters and the rest.

    Returns
    -------
    Result
        Columns criterion, one_rater, one_rater_low, one_rater_high (ICC(2,1): the share of the
        variance of a single answer that is the clip's), mean, mean_low, mean_high (that of a
        clip's mean over raters), sos (Hossfeld's parameter), n_raters, n_clips, n_ratings, words.

    References
    ----------
    Shrout, P. E., Fleiss, J. L. (1979). Intraclass correlations. Psychological Bulletin 86,
    420-428. Hossfeld, T., Schatz, R., Egger, S. (2011). SOS: The MOS is not enough! QoMEX.
    """
    rows = rated(ratings)
    found = []
    for name in asked_of(rows):
        of_one = rows[rows["criterion"] == name]
        clip, rater = (of_one[column].factorize()[0] for column in ("cell", "rater"))
        values = of_one["value"].to_numpy()
        counts = {"n_raters": rater.max() + 1, "n_clips": clip.max() + 1, "n_ratings": len(values)}
        row = {"criterion": name, "sos": _sos(values, clip, scale)} | counts
        found.append(row | _components(values, clip, rater, level))
    columns = ["criterion", "one_rater", "one_rater_low", "one_rater_high", "mean", "mean_low",
               "mean_high", "sos", "n_raters", "n_clips", "n_ratings", "words"]  # fmt: skip
    return Result.of(
        ratings,
        found,
        columns,
        how=(
            "Agreement from variance components (clips and raters at random, by the expectations "
            "of their mean squares, so that raters may have seen different clips): the clips' "
            "share of the variance of one answer, ICC(2,1) (Shrout and Fleiss 1979), and of a "
            f"clip's mean over its raters; {100 * level:g}% intervals by the F distribution. SOS: "
            "the spread of opinions, as a share of the widest at that mean (Hossfeld et al. 2011)."
        ),
        n_raters=rows["rater"].nunique(),
    )


def _components(
    values: np.ndarray, clip: np.ndarray, rater: np.ndarray, level: float
) -> dict[str, float | str]:
    if rater.max() < 1:
        return {"words": "one rater: no agreement to measure"}
    if clip.max() < 1:
        return {"words": "one clip: nothing to tell apart"}
    if np.ptp(values) < 1e-9:
        return {"words": "all ratings are equal: agreement is not defined"}
    n, clips, raters = len(values), clip.max() + 1, rater.max() + 1
    if (rest := n - clips - raters + 1) < 1:
        return {"words": "too few clips with several ratings"}
    whole, alone = _rest(values, clip, rater), [_rest(values, rater), _rest(values, clip)]
    error = whole / rest
    between, likings = ((of_one - whole - (size - 1) * error) / (n - other)
                        for of_one, size, other in zip(alone, (clips, raters), (raters, clips),
                                                       strict=True))  # fmt: skip
    if error < 1e-9:
        return {"words": "raters differ in their levels alone"}
    others = 1 + max(likings, 0) / error
    # The ratio to the error follows from an F distribution; raters' levels are taken as found.
    per_clip = (n - raters) / (clips - 1)
    f = 1 + per_clip * between / error
    up, down = scipy.stats.f.ppf([(1 + level) / 2, (1 - level) / 2], clips - 1, rest)
    odds = np.maximum((f / np.array([1.0, up, down]) - 1) / per_clip, 0) / others
    if odds[0] <= 0:
        return {"words": "clips were not shown to differ"}
    # A clip's mean is known as well as its scarcity of ratings allows.
    each = clips / (1 / np.bincount(clip)).sum()
    names = ("one_rater", "one_rater_low", "one_rater_high", "mean", "mean_low", "mean_high")
    shares = np.concatenate([odds / (1 + odds), odds * each / (1 + odds * each)])
    return dict(zip(names, shares.tolist(), strict=True)) | {"words": ""}


def _rest(values: np.ndarray, first: np.ndarray, second: np.ndarray | None = None) -> float:
    """Return the sum of squares that groupings leave, each of a level for every number."""

    def less(numbers: np.ndarray, group: np.ndarray) -> np.ndarray:
        return numbers - (np.bincount(group, numbers) / np.bincount(group))[group]

    rest = less(values, first)
    if second is not None:
        shown = np.zeros((second.max() + 1, first.max() + 1))
        shown[second, first] = 1
        normal = np.diag(shown.sum(axis=1)) - (shown / shown.sum(axis=0)) @ shown.T
        # Only differences of levels count: a trace of a ridge settles the rest.
        levels = np.linalg.solve(normal + 1e-9 * np.eye(len(normal)), np.bincount(second, rest))
        rest = less(values - levels[second], first)
    return float(rest @ rest)


def _sos(values: np.ndarray, clip: np.ndarray, scale: int) -> float:
    """Hossfeld's a: variance = a (mean - 1)(scale - mean), by least squares over clips."""
    by_clip = pd.Series(values).groupby(clip)
    mean, variance = by_clip.mean(), by_clip.var()
    room = ((mean - 1) * (scale - mean))[variance.notna()]
    return float((variance * room).sum() / (room**2).sum()) if (room > 0).any() else np.nan


@dataclass(frozen=True, kw_only=True)
class Raters(Result):
    """Raters' levels and steadiness: ``table`` has a row a rater and criterion.

    Attributes
    ----------
    table : pandas.DataFrame
        Columns rater, criterion, bias (steps above the others on the same clips), inconsistency
        (standard deviation of the rest), n_clips, words.
    clips : pandas.DataFrame
        Columns cell, criterion, mean, bias_removed, n_raters.
    """

    clips: pd.DataFrame = field(default_factory=pd.DataFrame)


def rater_levels(ratings: pd.DataFrame) -> Raters:
    """Bias and inconsistency of raters, and clips' scores without them, by ITU-T P.913, 12.6."""
    rows = rated(ratings)
    found, clips = [], []
    for criterion in asked_of(rows):
        ((_, answers),) = answers_of(rows, [criterion])
        values, rater, clip = answers.values[:, 0], answers.rater, answers.clip
        scores, bias, inconsistency = remove_bias(values, rater, clip)
        found.append(pd.DataFrame({
            "rater": answers.names["rater"], "criterion": criterion, "bias": bias,
            "inconsistency": inconsistency, "n_clips": np.bincount(rater), "words": "",
        }))  # fmt: skip
        n_raters = np.bincount(clip)
        clips.append(pd.DataFrame({
            "cell": answers.names["cell"], "criterion": criterion,
            "mean": np.bincount(clip, values) / n_raters, "bias_removed": scores,
            "n_raters": n_raters,
        }))  # fmt: skip
    columns = ["rater", "criterion", "bias", "inconsistency", "n_clips", "words"]
    return Raters.of(
        ratings,
        pd.concat(found, ignore_index=True) if found else (),
        columns,
        how=(
            "Raters' bias and inconsistency, and scores without them, by the alternating "
            "estimation of ITU-T P.913 (2021), clause 12.6 (Li et al. 2020)."
        ),
        n_raters=rows["rater"].nunique(),
        clips=pd.concat(clips, ignore_index=True) if clips else pd.DataFrame(),
    )


def remove_bias(
    values: np.ndarray, rater: np.ndarray, clip: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clips' scores, raters' bias and raters' inconsistency.

    A rater weighs by the inverse square of the inconsistency; raters' biases add up to zero.

    Parameters
    ----------
    values : (n,) float array
        Answers.
    rater, clip : (n,) int arrays
        Whose, and of what, from 0 without gaps.

    Returns
    -------
    scores, bias, inconsistency : (clips,), (raters,), (raters,) float arrays

    References
    ----------
    Li, Z., Bampis, C. G., Janowski, L., Katsavounidis, I. (2020). A simple model for subject
    behavior in subjective experiments. Human Vision and Electronic Imaging.
    """

    def mean(numbers: np.ndarray, group: np.ndarray) -> np.ndarray:
        return np.bincount(group, numbers) / np.bincount(group)

    scores = mean(values, clip)
    for _ in range(_ROUNDS_MOST):
        rest = values - scores[clip]
        bias = mean(rest, rater)
        spread = np.sqrt(mean((rest - bias[rater]) ** 2, rater))
        inconsistency = np.maximum(spread, _STEADIEST)
        weight = inconsistency[rater] ** -2.0
        level = np.bincount(clip, weight * (values - bias[rater]))
        last, scores = scores, level / np.bincount(clip, weight)
        if np.linalg.norm(scores - last) < _CHANGE_LEAST:
            break
    bias = mean(values - scores[clip], rater)
    return scores + bias.mean(), bias - bias.mean(), inconsistency
