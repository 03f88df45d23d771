"""What enters statistics, and what is refused."""

import pandas as pd
import pytest
from rating_tables import make_pairs, make_ratings

from studykit.errors import StudyError
from studykit.stats.table import rated
from studykit.study.wording import MEAN, OVERALL


def test_only_the_role_rating_enters():
    ratings = make_ratings(raters=2)
    others = [ratings.head(8).assign(role=role) for role in ("training", "repeat", "gold")]
    expected, found = rated(ratings), rated(pd.concat([ratings, *others]))
    pd.testing.assert_frame_equal(found, expected)


def test_pairs_do_not_enter_scores():
    both = pd.concat([make_ratings(raters=2), make_pairs({("warp", "copy"): 4})])
    assert len(rated(both)) == len(rated(make_ratings(raters=2)))


def test_simulated_and_human_ratings_are_not_mixed():
    human = make_ratings(raters=2)
    with pytest.raises(StudyError, match="mix simulated and human"):
        rated(pd.concat([human, human.assign(simulated=True)]))


def test_even_a_training_row_of_the_other_kind_is_refused():
    human = make_ratings(raters=2)
    other = human.head(1).assign(simulated=True, role="training")
    with pytest.raises(StudyError, match="mix simulated and human"):
        rated(pd.concat([human, other]))


def test_two_tasks_are_not_averaged():
    acr = make_ratings(raters=2)
    with pytest.raises(StudyError, match="the tasks acr and dcr"):
        rated(pd.concat([acr, acr.assign(task="dcr")]))


def test_a_missing_column_is_named():
    with pytest.raises(StudyError, match=r"column\(s\) driving_type: export it again"):
        rated(make_ratings(raters=1).drop(columns="driving_type"))


def test_a_value_outside_the_scale_is_named_with_rater_and_clip():
    ratings = make_ratings(raters=2)
    ratings.loc[3, "value"] = 7
    with pytest.raises(StudyError, match=r"outside 1..5, such as 7 by rater r000 for frontal0"):
        rated(ratings, scale=5)


def test_the_mean_over_criteria_is_that_of_whole_answers_alone():
    ratings = make_ratings(raters=2)
    lacking = ratings.drop(index=0)  # one criterion of one answer
    means = rated(lacking)[lambda rows: rows["criterion"] == MEAN]
    assert len(means) == 2 * 27 - 1
    one = means.iloc[0]
    same = (ratings["rater"] == one["rater"]) & (ratings["cell"] == one["cell"])
    assert one["value"] == ratings[same]["value"].mean()


def test_an_overall_that_raters_were_asked_for_stands_for_itself():
    ratings = make_ratings(lambda *a: 5 if a[-1] == OVERALL else 1, raters=1,
                           criteria=("jitter", OVERALL))  # fmt: skip
    rows = rated(ratings)
    assert set(rows[rows["criterion"] == OVERALL]["value"]) == {5}
    assert len(rows) == len(ratings)


def test_one_criterion_has_no_mean():
    assert set(rated(make_ratings(raters=1, criteria=("jitter",)))["criterion"]) == {"jitter"}


def test_a_clip_that_was_rated_twice_counts_with_the_mean():
    once = make_ratings(lambda *_: 2, raters=1)
    twice = rated(pd.concat([once, once.assign(value=4)]))
    assert len(twice) == len(rated(once)) and set(twice["value"]) == {3}


def test_a_row_of_millions_takes_few_bytes_whatever_the_names():
    few = make_ratings(raters=2, per_type=4)
    many = pd.concat([few.assign(rater=few["rater"] + str(number)) for number in range(20)])
    assert rated(many).memory_usage(index=False).sum() <= 32 * len(rated(many))
