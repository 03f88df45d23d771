"""Agreement: published worked examples, and what alpha and ICC must do at their ends."""

import json
from pathlib import Path

import numpy as np
import pytest
from rating_tables import make_ratings

from studykit import stats
from studykit.errors import StudyError
from studykit.study.wording import CRITERIA

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_the_published_one_with_missing_data(level):
    example = json.loads((DATA / "krippendorff_2011.json").read_text())
    values = np.array(example["values"], dtype=float)
    assert round(stats.krippendorff_alpha(values, level), 3) == example["alpha"][level]


def test_alpha_takes_the_scale_upside_down_but_not_shuffled():
    rng = np.random.default_rng(0)
    values = np.clip(rng.integers(1, 4, 20) + rng.integers(0, 3, (5, 20)), 1, 5).astype(float)
    alpha = stats.krippendorff_alpha(values)
    assert stats.krippendorff_alpha(6 - values) == pytest.approx(alpha)
    shuffled = np.array([0, 3, 1, 5, 2, 4])[values.astype(int)].astype(float)
    assert stats.krippendorff_alpha(shuffled) != pytest.approx(alpha, abs=1e-3)


def test_alpha_is_one_in_perfect_agreement_and_about_zero_by_chance():
    units = np.tile(np.arange(1.0, 6), 40)
    assert stats.krippendorff_alpha(np.tile(units, (3, 1))) == pytest.approx(1)
    chance = np.random.default_rng(0).integers(1, 6, (4, 500)).astype(float)
    assert abs(stats.krippendorff_alpha(chance)) < 0.05


def test_alpha_refuses_an_unknown_level():
    with pytest.raises(StudyError, match='did you mean "ordinal"'):
        stats.krippendorff_alpha(np.ones((2, 2)), "ordinl")


@pytest.mark.parametrize(("key", "average"), [("single", False), ("average", True)])
def test_icc_is_the_published_one_with_its_interval(key, average):
    example = json.loads((DATA / "shrout_fleiss_1979.json").read_text())
    values = np.array(example["values"], dtype=float)
    found = stats.intraclass_correlation(values, average=average)
    assert [round(value, 2) for value in found] == example[key]


def test_the_interval_of_an_icc_is_as_wide_without_noise_as_with_very_little():
    """Three raters one step apart: three levels say little about raters, however exact."""
    clips = np.array([1.0, 2, 3, 4, 5, 2])
    exact = stats.intraclass_correlation(np.stack([clips, clips + 1, clips + 2]))
    noise = np.random.default_rng(0).normal(0, 1e-5, (3, 6))
    noisy = stats.intraclass_correlation(np.stack([clips, clips + 1, clips + 2]) + noise)
    assert exact == pytest.approx(noisy, abs=1e-3)
    assert exact == pytest.approx((0.684, 0.052, 0.948), abs=1e-3)
    assert stats.intraclass_correlation(np.stack([clips] * 3)) == pytest.approx((1, 1, 1))


def test_agreement_has_a_row_a_criterion_and_leaves_incomplete_raters_out_of_the_icc():
    ratings = make_ratings(raters=6)
    ratings = ratings[~((ratings["rater"] == "r000") & (ratings["source_type"] == "side"))]
    result = stats.agreement(ratings)
    assert list(result.table["criterion"]) == list(CRITERIA)
    assert (result.table["n_raters"] == 6).all() and (result.table["n_complete"] == 5).all()
    assert result.n_dropped == 1 and "every clip" in result.why
    assert (result.table["alpha_low"] < result.table["alpha"]).all()
    assert (result.table["alpha"] < result.table["alpha_high"]).all()
    assert (result.table["icc_single"] < result.table["icc_mean"]).all()


def test_equal_ratings_have_words_for_agreement():
    table = stats.agreement(make_ratings(lambda *_: 4)).table
    assert table["alpha"].isna().all()
    assert (table["words"] == "all ratings are equal: agreement is not defined").all()


def test_the_reading_follows_krippendorffs_limits():
    agreed = make_ratings(lambda r, s, d, m, c: {"copy": 1, "fomm": 3, "warp": 5}[m])
    assert set(stats.agreement(agreed).table["reading"]) == {"good"}
    noise = make_ratings(raters=10, clip_sd=0)
    assert set(stats.agreement(noise).table["reading"]) == {"low"}


def test_criteria_that_no_rater_answered_together_have_agreement_too():
    ratings = make_ratings(raters=4, criteria=("naturalness", "jitter"))
    even = ratings["cell"].factorize()[0] % 2 == 0
    ratings = ratings[even == (ratings["criterion"] == "jitter")]
    table = stats.agreement(ratings).table
    assert list(table["criterion"]) == ["naturalness", "jitter"]
    assert table["alpha"].notna().all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [
        [[1, 2], [2, 1]],  # clips have the same mean, raters too
        [[1, 2, 2], [2, 1, 1]],  # clips have the same mean
        [[3, 2, 2], [1, 2, 2]],
        [[1, 1], [2, 3], [2, 1]],
    ],
)
def test_clips_that_do_not_differ_have_words_for_the_intraclass_correlation(values):
    answers = dict(zip(("copy", "fomm", "warp"), np.transpose(values), strict=False))
    ratings = make_ratings(
        lambda rater, source, driving, method, criterion: answers[method][rater],
        raters=len(values), methods=tuple(answers), types=("side",),
    )  # fmt: skip
    row = stats.agreement(ratings).table.iloc[0]
    found = row[[name for name in row.index if name.startswith("icc")]].astype(float)
    assert found.isna().any() and not np.isinf(found).any()
    assert row["words"] == "clips hardly differ: not every intraclass correlation is defined"


def test_the_interval_of_the_mean_of_raters_holds_its_value_or_is_left_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.integers(1, 4, rng.integers(2, 7, 2)).astype(float)
        value, low, high = stats.intraclass_correlation(values, average=True)
        assert not low > value + 1e-9 and not value > high + 1e-9
