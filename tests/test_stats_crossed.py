"""Contrasts for raters and stimuli like these: against lme4, in their refusals, without effects."""

import numpy as np
import pandas as pd
import pytest
from rating_tables import DATA, known, read_ratings

from studykit.stats.comparison import holm
from studykit.stats.crossed import Answers, Contrast, answers_of, contrasts

BY_R = known("crossed")  # by data/R/crossed.R


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    table = pd.read_csv(DATA / "crossed.csv").assign(criterion="jitter")
    return table.assign(cell=table["source"] + "__" + table["driving"] + "__" + table["method"])


def _contrasts(rows: pd.DataFrame) -> dict[tuple[str, ...], Contrast]:
    ((_, answers),) = answers_of(rows, ["jitter"])
    return {its.factors: its for its in contrasts(answers)}


def test_the_methods_difference_and_its_error_are_those_of_lme4(rows):
    found, of_r = _contrasts(rows)["method",], BY_R["method"]["kenward_roger"]
    assert found.estimate[0] == pytest.approx(of_r["estimate"])
    assert np.sqrt(found.variance[0]) == pytest.approx(of_r["error"], rel=1e-6)
    assert found.df[0] == pytest.approx(of_r["df"], rel=0.01)
    assert found.p[0] == pytest.approx(of_r["p"], rel=0.01)


@pytest.mark.parametrize("factor", ["source_type", "driving_type"])
def test_a_types_difference_is_that_of_kenward_and_roger(rows, factor):
    found, of_r = _contrasts(rows)[factor,], BY_R[factor]["kenward_roger"]
    # R's sum coding estimates half the difference.
    assert found.estimate[0] == pytest.approx(2 * of_r["estimate"])
    assert np.sqrt(found.variance[0]) == pytest.approx(2 * of_r["error"], rel=1e-6)
    assert (found.df[0], found.p[0]) == (pytest.approx(2), pytest.approx(of_r["p"], rel=1e-6))


@pytest.mark.parametrize("factor", ["source_type", "driving_type"])
def test_an_interaction_of_methods_with_types_is_that_of_kenward_and_roger(rows, factor):
    found, of_r = _contrasts(rows)["method", factor], BY_R[f"method_{factor}"]["kenward_roger"]
    assert found.estimate[0] == pytest.approx(2 * of_r["estimate"])
    assert np.sqrt(found.variance[0]) == pytest.approx(2 * of_r["error"], rel=1e-6)
    assert found.df[0] == pytest.approx(of_r["df"], rel=1e-6)
    assert found.p[0] == pytest.approx(of_r["p"], rel=1e-6)


def test_the_interaction_of_types_is_that_of_kenward_and_roger(rows):
    """R's model has no likings of raters here, of which the products find a trace."""
    found = _contrasts(rows)["source_type", "driving_type"]
    of_r = BY_R["source_type_driving_type"]["kenward_roger"]
    assert found.estimate[0] == pytest.approx(4 * of_r["estimate"])
    assert 1 < np.sqrt(found.variance[0]) / (4 * of_r["error"]) < 1.001
    assert found.df[0] == pytest.approx(of_r["df"], rel=0.01)
    assert found.p[0] == pytest.approx(of_r["p"], rel=0.001)


@pytest.mark.parametrize("some", [False, True])
def test_scores_without_raters_levels_are_those_of_lme4(some):
    """A level of each rater at random, with the variance of an answer."""
    ratings, expected = read_ratings(), known("correlation")["scores"]["some" if some else "whole"]
    ratings = ratings[ratings["some"] == 1] if some else ratings
    ((_, answers),) = answers_of(ratings, ["naturalness", "jitter"])
    by_r = [expected[cell] for cell in answers.names["cell"]]
    np.testing.assert_allclose(answers.scores, by_r, atol=1e-7)


def test_a_raters_level_moves_no_contrast(rows):
    shifted = rows.assign(value=rows["value"] + rows["rater"].str[1:].astype(int))
    for factors, found in _contrasts(rows).items():
        other = _contrasts(shifted)[factors]
        assert other.estimate == pytest.approx(found.estimate)
        assert other.variance == pytest.approx(found.variance)


def test_raters_who_saw_other_clips_are_put_on_one_level(rows):
    """Rater r0, who is three steps milder, saw the one method only: it does not gain by that."""
    values = rows["value"] + 3 * (rows["rater"] == "r0")
    some = rows.assign(value=values)[(rows["rater"] != "r0") | (rows["method"] == "p")]
    whole = _contrasts(rows)["method",].estimate
    assert _contrasts(some)["method",].estimate == pytest.approx(whole, abs=0.35)


def _study(rng: np.random.Generator, sd: float, *, per_type: int = 2, raters: int = 15) -> Answers:
    """A study without effects: sources, drivings, clips and raters' likings differ."""
    n = 3 * per_type
    source, driving, method = (part.ravel() for part in np.indices((n, n, 3)))
    by_clip = [rng.normal(0, sd, n)[source], rng.normal(0, sd, n)[driving],
               rng.normal(0, sd / 2, (n, 3))[source, method],
               rng.normal(0, sd / 2, (n, 3))[driving, method],
               rng.normal(0, sd, len(source))]  # fmt: skip
    rater, clip = (part.ravel() for part in np.indices((raters, len(source))))
    # Of each pair of types a rater sees one source and one driving, by all methods.
    pick = rng.integers(per_type, size=(raters, 3, 3, 2))
    types = source // per_type, driving // per_type
    seen = pick[rater, types[0][clip], types[1][clip]]
    shown = (seen[:, 0] == source[clip] % per_type) & (seen[:, 1] == driving[clip] % per_type)
    rater, clip = rater[shown], clip[shown]
    liking = rng.normal(0, 0.3, (raters, 3))[rater, method[clip]]
    values = sum(by_clip)[clip] + rng.normal(0, 0.4, raters)[rater] + liking
    values += rng.normal(0, 0.7, len(clip))
    kept, clip = np.unique(clip, return_inverse=True)
    columns = (part[kept] for part in (source, driving, method, *types))
    names = {name: ["a", "b", "c"] for name in ("method", "source_type", "driving_type")}
    return Answers(np.clip(np.rint(3 + values), 1, 5)[:, None], rater, clip, *columns, names)


@pytest.mark.parametrize("sd", [0.0, 0.35])
def test_studies_without_effects_seldom_claim_one(sd):
    alarms, studies = {}, 60
    for seed in range(studies):
        p = {}
        for found in contrasts(_study(np.random.default_rng(seed), sd)):
            p.setdefault(found.factors, []).append(found.p[0])
        for factors, values in p.items():
            alarms[factors] = alarms.get(factors, 0) + bool((holm(values) < 0.05).any())
    assert len(alarms) == 6
    # Of 60 with 5 % each, 8 or more come in 1 of 130.
    assert max(alarms.values()) <= 7


def test_a_variance_that_comes_out_at_zero_makes_no_test_sharper():
    """Sources that happen to be alike are no evidence that all sources are."""
    for seed in range(20):
        found = next(its for its in contrasts(_study(np.random.default_rng(seed), 0.0))
                     if its.factors == ("source_type",))  # fmt: skip
        assert found.df[0] <= 3 + 14


@pytest.mark.parametrize(
    ("change", "factors", "reason"),
    [
        (lambda t: t[t["source"] != "a0"], ("source_type",),
         "a claim about source types needs two sources in each, and a has fewer"),
        (lambda t: t[t["driving"].isin(["x0", "y2"])], ("driving_type",),
         "a claim about driving types needs two drivings in each, and x and y have fewer"),
        (lambda t: t[t["rater"] == "r0"], ("method",), "one rater"),
        (lambda t: t[t["source"] == "a0"], ("method",), "one source: nothing shows how others"),
        (lambda t: t[(t["method"] == "p") == (t["source_type"] == "a")], ("method",),
         "no source and driving was rated with all that is compared"),
    ],
)  # fmt: skip
def test_what_can_not_be_tested_has_a_reason_and_no_number(rows, change, factors, reason):
    found = _contrasts(change(rows).reset_index(drop=True))[factors]
    assert found.reason.startswith(reason)
    assert np.isnan([*found.estimate, *found.variance, *found.df]).all()


def test_cells_that_failed_leave_the_others_their_claims(rows):
    some = rows[rows["cell"] != "a0__x0__p"].reset_index(drop=True)
    for factors, found in _contrasts(some).items():
        assert not found.reason, factors
        # One pair of four in its condition is missing.
        assert found.estimate == pytest.approx(_contrasts(rows)[factors].estimate, abs=1.0)


def test_methods_are_compared_where_types_have_one_input_each():
    """How sources differ is then seen over the types: careful, and said of methods alone."""
    one = _study(np.random.default_rng(0), 0.2, per_type=1)
    found = {its.factors: its for its in contrasts(one)}
    assert not found["method",].reason and found["method",].df[0] >= 2
    assert found["source_type",].reason and found["method", "driving_type"].reason
